"""The protocol of executors, which run evaluations, and the one that needs no other process.

They know genotypes and seeds, no strategy and no journal.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from nascli.device_errors import is_device_lost, is_out_of_memory
from nascli.errors import DeviceMemoryError, DivergedError, NascliError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.models.latency import LatencyRejectedError
from nascli.search.evaluators.evaluator import Evaluator, start_from
from nascli.search.trial import Failure, FailureKind, Score

_LONGEST_ERROR = 300


@dataclass(frozen=True)
class Job:
    """One evaluation to run.

    Args:
        trial: The trial it is for.
        genotype: What to score.
        seed: Everything random in it follows from this.
        epochs: If not the recipe's.
        parent: The canonical hash of the network whose weights are inherited, if any.
    """

    trial: int
    genotype: Genotype
    seed: int
    epochs: int | None = None
    parent: str | None = None


@dataclass(frozen=True)
class JobOutcome:
    """A job and its result."""

    job: Job
    result: Score | Failure


class Executor(Protocol):
    """Runs jobs, several at a time; a context manager that leaves nothing running behind."""

    @property
    def free(self) -> int:
        """Jobs that may be submitted now."""
        ...

    @property
    def busy(self) -> int:
        """Jobs submitted and not collected."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; only while `free` is positive."""
        ...

    def collect(self, timeout: float) -> list[JobOutcome]:
        """The outcomes so far; waits for the first at most `timeout` seconds, so the list may be empty."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class InProcessExecutor:
    """Runs one job at a time in this process, when it is collected."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._jobs: deque[Job] = deque()

    @property
    def free(self) -> int:
        """One, or none while a job waits to be collected."""
        return 1 - len(self._jobs)

    @property
    def busy(self) -> int:
        """Jobs submitted and not collected."""
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Keep the job until it is collected."""
        self._jobs.append(job)

    def collect(self, timeout: float) -> list[JobOutcome]:
        """Run the job; the timeout is ignored."""
        return [evaluate_job(self._evaluator, self._jobs.popleft())] if self._jobs else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._jobs.clear()


def evaluate_job(evaluator: Evaluator, job: Job) -> JobOutcome:
    """Run a job here; an evaluation that raises is an outcome, too.

    One of the kind `WORKER_LOST` says that this process has lost its GPU: only another process can run further jobs.
    """
    try:
        if job.parent is not None:
            evaluator = start_from(evaluator, job.parent)
        return JobOutcome(job, evaluator.evaluate(job.genotype, job.seed, job.epochs))
    except Exception as error:
        text = str(error) if isinstance(error, NascliError) else f"{type(error).__name__}: {error}"
        latency = error.latency if isinstance(error, LatencyRejectedError) else None
        return JobOutcome(job, Failure(_kind(error), " ".join(text.split())[:_LONGEST_ERROR], latency))


def find_loss(result: Score | Failure) -> str | None:
    """The error by which a worker lost its GPU, so that it must be replaced; None where it goes on."""
    if isinstance(result, Failure) and result.kind is FailureKind.WORKER_LOST:
        return result.error
    return None


def lost_worker(times: int, cause: str) -> Failure:
    """The failure of a job whose worker was lost so often, for the last time from this cause."""
    often = "once" if times == 1 else f"{times} times"
    return Failure(FailureKind.WORKER_LOST, f"its worker process was lost {often} ({cause})")


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, RejectedError):
        return FailureKind.REJECTED
    if isinstance(error, DivergedError):
        return FailureKind.DIVERGED
    if isinstance(error, DeviceMemoryError) or is_out_of_memory(error):
        return FailureKind.OUT_OF_MEMORY
    if is_device_lost(error):
        return FailureKind.WORKER_LOST
    return FailureKind.CRASHED


@contextmanager
def set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, for processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
