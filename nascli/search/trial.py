"""A trial: one proposed genotype, how far it is, and what came of it.

    running --completed(score)--> complete
            --failed(error)-----> failed

A finished trial never changes. A trial that repeats an earlier one by canonical hash is not trained: it waits for
that one and takes its result.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from nascli.genotype.schema import Genotype


class TrialState(StrEnum):
    """How far a trial is."""

    RUNNING = "running"
    """Proposed and in the journal: trained now, waiting for a worker, or for the trial it repeats."""
    COMPLETE = "complete"
    """It has a score."""
    FAILED = "failed"
    """It has an error: its child network diverged or crashed, or its worker was lost again and again."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What an evaluator says of one genotype.

    Args:
        reward: What the strategy maximises; finite.
        accuracy: Proxy accuracy on the held-out images, in [0, 1].
        params: Trainable parameters of the child network, without an auxiliary head.
        mult_adds: Multiply-accumulates of one image.
        seconds: What the evaluation took.

    Raises:
        ValueError: A number is not finite.
    """

    reward: float
    accuracy: float
    params: int
    mult_adds: int
    seconds: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"the evaluator's {name} is {value}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One proposed genotype with its state and result.

    Args:
        id: 0 for the first proposal, and so on without gaps.
        tokens: The decision sequence.
        genotype: What the tokens stand for.
        hash: The canonical hash of the genotype.
        seed: The seed of everything random in its evaluation.
        repeat_of: The earlier trial with the same canonical hash; None for a trial that is evaluated itself.
        score: The result of a complete trial.
        error: Why a failed trial failed, one line.
        reward: What the strategy is told: the score's, or the failure reward; None while the trial runs.
    """

    id: int
    tokens: tuple[int, ...]
    genotype: Genotype
    hash: str
    seed: int
    repeat_of: int | None = None
    state: TrialState = TrialState.RUNNING
    score: Score | None = None
    error: str | None = None
    reward: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it will change no more."""
        return self.state is not TrialState.RUNNING

    def completed(self, score: Score) -> "Trial":
        """This trial with its score; ValueError if it is finished already."""
        self._must_run()
        return replace(self, state=TrialState.COMPLETE, score=score, reward=score.reward)

    def failed(self, error: str, reward: float) -> "Trial":
        """This trial with its error and the reward for failures; ValueError if it is finished already."""
        self._must_run()
        return replace(self, state=TrialState.FAILED, error=error, reward=reward)

    def _must_run(self) -> None:
        if self.finished:
            raise ValueError(f"trial {self.id} is {self.state} already")
