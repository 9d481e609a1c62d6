"""Jobs for executors, evaluators that tell on their process, and waiting for processes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nascli.genotype.genotype import Genotype
from nascli.search.executors.executor import Executor, Job, JobOutcome
from nascli.search.trial import Score
from tests.fakes import TINY

ROOT = Path(__file__).parents[2]


def job(number: int, epochs: int | None = None) -> Job:
    genotype = TINY.decode(tuple(number % size for size in TINY.decision_sizes))
    return Job(number, genotype, seed=1000 + number, epochs=epochs)


def drain(executor: Executor, jobs: list[Job]) -> list[JobOutcome]:
    """Run all jobs; outcomes by trial."""
    waiting, outcomes = list(jobs), []
    deadline = time.monotonic() + 300
    while waiting or executor.busy:
        assert time.monotonic() < deadline, "jobs were lost"
        while waiting and executor.free:
            executor.submit(waiting.pop(0))
        outcomes += executor.collect(0.5)
    return sorted(outcomes, key=lambda outcome: (outcome.job.trial, outcome.job.epochs or 0))


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@dataclass(frozen=True)
class EpochsEvaluator:
    """Says how many epochs it was asked for."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        return Score(reward=-1 if epochs is None else epochs, accuracy=None, params=0, mult_adds=0, seconds=0.0)


@dataclass(frozen=True)
class RaisingEvaluator:
    """Raises the error of the seed 1000, 1001, ..."""

    errors: tuple[Exception, ...]

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        raise self.errors[seed - 1000]


def scores(outcomes: list[JobOutcome]) -> list[Score]:
    """The results, which must all be scores."""
    found = [outcome.result for outcome in outcomes if isinstance(outcome.result, Score)]
    assert len(found) == len(outcomes)
    return found
