"""The budget of failures: a search ends where failures come from its set-up, not from single cells."""

from collections import Counter, deque

from nascli.errors import NascliError
from nascli.search.trial import Failure, FailureKind, Score

_WINDOW = 50
_TOLERATED = 10
"""More failures than these among the last `_WINDOW` evaluations are a fault of the set-up, not of the cells: 20 %."""

_REMEDIES = {
    FailureKind.DIVERGED: "A smaller train.lr, or a warm-up, usually mends this",
    FailureKind.OUT_OF_MEMORY: "Use a smaller train.batch_size or network.filters, or fewer workers",
    FailureKind.CRASHED: "Try one cell alone with nascli train --cell to see the whole error",
    FailureKind.WORKER_LOST: "The machine may be short of memory, or the error named is a GPU's: use fewer workers",
}


class FailureBudget:
    """Counts the failures among the last evaluations of this session; a rejected genotype is not a failure."""

    def __init__(self) -> None:
        self._latest: deque[Failure | None] = deque(maxlen=_WINDOW)

    def count(self, result: Score | Failure) -> None:
        """Add the result of an evaluation.

        Raises:
            NascliError: Too many of the last evaluations failed; the hint says what usually helps.
        """
        failure = result if isinstance(result, Failure) else None
        if failure is not None and failure.kind is FailureKind.REJECTED:
            return
        self._latest.append(failure)
        failures = [each for each in self._latest if each is not None]
        if len(failures) <= _TOLERATED:
            return
        ((often, times),) = Counter(each.kind for each in failures).most_common(1)
        last = next(each.error for each in reversed(failures) if each.kind is often)
        raise NascliError(
            f"{len(failures)} of the last {len(self._latest)} evaluations failed, {times} of them {often}; the last "
            f"of these: {last}",
            f"{_REMEDIES[often]}; finished trials are safe, and --resume continues",
        )
