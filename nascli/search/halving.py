"""Successive halving: short trainings for all, longer ones for the best.

A child is trained for the epochs of the first rung. If it is among the best of those that were trained there before it,
it is trained for those of the next, and so on up to the full training; if not, its accuracy on that rung is its reward.
This is the stopping rule of asynchronous successive halving: there is no bracket to fill, so it goes with any strategy,
batch and number of workers.

Every training starts anew and has its own cosine to zero. With f the fraction that is promoted, that costs at most
f / (1 - f) more than continuing from the rung below, if each rung has 1 / f times the epochs of the one below it. For
that nothing has to be kept between two rungs, and the accuracies that are compared are those of finished trainings.

References:
    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA), section 3.

Deviation:
    A child that was stopped is never taken up again when later ones turn out worse.
"""

import bisect
import math
from collections.abc import Iterator, Sequence

from nascli.search.trial import Trial


class Halving:
    """Decides which trials are promoted to the next rung.

    Invariants, on each rung: every trial below `_passed` is decided; `_decided` holds those at or above it that are;
    `_accuracies` are the sorted accuracies of all decided trials that were trained there, so that a trial is compared
    with those decided before it and with no other. In order, nothing is ever decided above `_passed`.

    Args:
        rungs: Epochs of the rungs below the full training, rising; without any, every child is trained in full at once.
        promote_fraction: Share f of the children of a rung that pass: of n the best ceil(f n); of equals the earlier.
        in_order: Decide in the order of the trials, each against those before it, so that the order of their results
            makes no difference. Otherwise each is decided at once, against those that are there.
    """

    def __init__(self, rungs: Sequence[int], promote_fraction: float, *, in_order: bool) -> None:
        self._rungs, self._promote_fraction, self._in_order = tuple(rungs), promote_fraction, in_order
        self._passed = [0] * len(self._rungs)
        self._decided: list[set[int]] = [set() for _ in self._rungs]
        self._accuracies: list[list[float]] = [[] for _ in self._rungs]

    def epochs(self, trial: Trial) -> int | None:
        """Epochs of the trial's next training; None is the full training."""
        done = len(trial.rungs)
        return self._rungs[done] if done < len(self._rungs) else None

    def decide(self, trials: Sequence[Trial]) -> list[tuple[int, bool]]:
        """The trials that can be decided now and were not before: their ids, and whether they pass."""
        return [decision for rung in range(len(self._rungs)) for decision in self._decide_rung(rung, trials)]

    def _decide_rung(self, rung: int, trials: Sequence[Trial]) -> Iterator[tuple[int, bool]]:
        for trial in trials[self._passed[rung] :]:
            # a duplicate, or a trial that ended below this rung, has nothing to decide here and lets the next one pass
            settled = trial.finished or trial.duplicate_of is not None or len(trial.rungs) > rung
            if not settled and self._in_order:
                return
            if settled and trial.id not in self._decided[rung]:
                yield from self._decide(rung, trial)
            if settled and trial.id == self._passed[rung]:
                self._passed[rung] += 1
                self._decided[rung].discard(trial.id)

    def _decide(self, rung: int, trial: Trial) -> Iterator[tuple[int, bool]]:
        self._decided[rung].add(trial.id)
        if trial.duplicate_of is not None or len(trial.rungs) <= rung:
            return
        passed = add_to_rung(self._accuracies[rung], trial.rungs[rung].score.reward, self._promote_fraction)
        if not trial.finished and len(trial.rungs) == rung + 1:  # otherwise a resumed search decided it before
            yield trial.id, passed


def add_to_rung(accuracies: list[float], accuracy: float, promote_fraction: float) -> bool:
    """Add an accuracy to the sorted ones of its rung; whether it is among the best share, of equals the earlier."""
    better = len(accuracies) - bisect.bisect_left(accuracies, accuracy)  # equal ones came before
    bisect.insort(accuracies, accuracy)
    return better < math.ceil(promote_fraction * len(accuracies))
