"""A trial: one proposed genotype, its state and its result.

    running --complete(score)----> complete
            --fail(crashed, ...)-> failed
            --fail(rejected, ..)-> rejected

With rungs, a running trial advances: it has the accuracy of each rung that it was trained on. A complete one may be
trained again to be ranked. Nothing else of a finished trial ever changes. A duplicate of an earlier trial, by canonical
hash, is not evaluated: it waits for that one and takes its result.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from nascli.genotype.genotype import Genotype
from nascli.models.latency import Latency


class TrialState(StrEnum):
    """The state of a trial."""

    RUNNING = "running"  # in training, waiting for a worker, or for the trial that it duplicates
    COMPLETE = "complete"  # it has a score
    FAILED = "failed"  # its child network diverged or crashed, or its worker was lost again and again
    REJECTED = "rejected"  # it violates a constraint of the search and was not trained


class FailureKind(StrEnum):
    """Why an evaluation gave no score."""

    DIVERGED = "diverged"  # the loss became infinite or not a number
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # anything else went wrong inside the evaluation
    WORKER_LOST = "worker_lost"  # the worker process ended, each time it was tried
    REJECTED = "rejected"  # the genotype violates a constraint: no failure, but no score either


@dataclass(frozen=True)
class Failure:
    """The end of an evaluation without a score: its kind, and an error for the user in one line.

    `latency` is the one that violates a constraint.
    """

    kind: FailureKind
    error: str
    latency: Latency | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of evaluating one genotype.

    Args:
        reward: Maximized by the strategy; finite. Under an objective the accuracy, weighed by a cost.
        accuracy: Proxy accuracy on the held-out images, in [0, 1]; None for a score without training.
        params: Trainable parameters of the child network, without an auxiliary head; those of the network that will be
            deployed where an objective names one, and its mult-adds and latency, too.
        mult_adds: Multiply-accumulates per image.
        seconds: Duration of the evaluation.
        accuracies: One per training, where there were several; `accuracy` is their mean.
        latency: Where a constraint or the objective names it.

    Raises:
        ValueError: A number is not finite.
    """

    reward: float
    accuracy: float | None
    params: int
    mult_adds: int
    seconds: float
    accuracies: tuple[float, ...] = ()
    latency: Latency | None = None

    @classmethod
    def of(cls, accuracy: float | None, params: int, mult_adds: int, started: float, reward: float = 0.0) -> Self:
        """The score of an evaluation that began at `started` (monotonic time); an accuracy is the reward."""
        reward = reward if accuracy is None else accuracy
        seconds = round(time.monotonic() - started, 3)
        return cls(reward=reward, accuracy=accuracy, params=params, mult_adds=mult_adds, seconds=seconds)

    def __post_init__(self) -> None:
        numbers = [(name, value) for name, value in vars(self).items() if isinstance(value, int | float)]
        for name, value in [*numbers, *(("accuracies", each) for each in self.accuracies)]:
            if not math.isfinite(value):
                raise ValueError(f"the evaluator's {name} is {value}")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A short training on the way to the full one."""

    epochs: int
    score: Score


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """A training after the search, to choose among the best: seed number `index`; accuracy 0 if it diverged."""

    index: int
    epochs: int
    accuracy: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One proposed genotype with its state and result.

    Args:
        id: 0 for the first proposal, and so on without gaps.
        tokens: The decision sequence, which decodes to the genotype.
        hash: The canonical hash of the genotype.
        seed: The seed of everything random in its evaluation.
        duplicate_of: The first trial with the same canonical hash; None for a trial that is evaluated itself.
        diagnostics: Those of a strategy that can skip this proposal when the search is resumed.
        reward: Told to the strategy: the score's, or the failure reward; None while the trial runs.
        rungs: Its short trainings, before the full one.
        stopped: Whether the last of those gave its score, because it was not promoted.
        reranks: Its trainings after the search.
    """

    id: int
    tokens: tuple[int, ...]
    genotype: Genotype
    hash: str
    seed: int
    duplicate_of: int | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = TrialState.RUNNING
    score: Score | None = None
    failure: Failure | None = None
    reward: float | None = None
    rungs: tuple[Rung, ...] = ()
    stopped: bool = False
    reranks: tuple[Rerank, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it has its result."""
        return self.state is not TrialState.RUNNING

    @property
    def scored(self) -> bool:
        """Whether it was evaluated to its end, itself."""
        return self.state is TrialState.COMPLETE and self.duplicate_of is None

    @property
    def latency(self) -> Latency | None:
        """The latency of its child, where a constraint names it and it was measured."""
        outcome = self.score or self.failure
        return outcome.latency if outcome else None

    @property
    def sort_key(self) -> tuple[bool, float, int]:
        """Sorts scored trials, the best first: stopped ones behind all others, then by reward, then the earlier one."""
        return self.stopped, -(self.reward or 0.0), self.id

    def complete(self, score: Score, *, stopped: bool = False) -> "Trial":
        """This trial with its score; ValueError if it is finished already."""
        self._check_running()
        return replace(self, state=TrialState.COMPLETE, score=score, reward=score.reward, stopped=stopped)

    def fail(self, failure: Failure, reward: float) -> "Trial":
        """This trial with its failure and the reward for it; ValueError if it is finished already."""
        self._check_running()
        state = TrialState.REJECTED if failure.kind is FailureKind.REJECTED else TrialState.FAILED
        return replace(self, state=state, failure=failure, reward=reward)

    def advance(self, rung: Rung) -> "Trial":
        """This trial after one more rung; ValueError if it is finished, or the rung is not above its last."""
        self._check_running()
        if self.rungs and rung.epochs <= self.rungs[-1].epochs:
            raise ValueError(f"trial {self.id} was on the rung of {self.rungs[-1].epochs} epochs already")
        return replace(self, rungs=(*self.rungs, rung))

    def add_rerank(self, rerank: Rerank) -> "Trial":
        """This trial with one more training after the search; ValueError if it has no score, or that one already."""
        if not self.scored:
            raise ValueError(f"trial {self.id} is {self.state} and cannot be ranked again")
        if rerank.index != len(self.reranks):
            raise ValueError(f"trial {self.id}: training {rerank.index} to rank it where {len(self.reranks)} is due")
        return replace(self, reranks=(*self.reranks, rerank))

    def _check_running(self) -> None:
        if self.finished:
            raise ValueError(f"trial {self.id} is {self.state} already")
