"""Random search at equal cost: the best that as many random trials find at or under each cost, and their hypervolume.

A cheap network is to be compared with cheap random networks, not with the best random one. As for `baseline`, all
orderings of the trials of a random search are equally likely, so the best of n trials at or under a cost is known in
closed form: trials that cost more count as trials without a result. The hypervolume of n trials is not, so that some
orderings are drawn.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascli.report.baseline import HIGH, LOW, best_of_orderings, log_factorials
from nascli.search.front import Point, trace_hypervolume

Floats = NDArray[np.float64]

_MAX_COSTS = 200  # at which the curve is computed
_ORDERINGS = 100
_MAX_STEPS = 200_000  # trials of all orderings that are drawn


@dataclass(frozen=True)
class Band:
    """A figure of random search over orderings of its trials: the mean, and its quantiles `LOW` and `HIGH`.

    Args:
        x: The costs, or numbers of trials, rising. (M,)
        low, mean, high: The figure at each. (M,)
        trials: n, the trials of an ordering that count.
        orderings: How many were drawn; 0 where all are accounted for.
    """

    x: Floats
    low: Floats
    mean: Floats
    high: Floats
    trials: int
    orderings: int = 0

    def at(self, x: float) -> tuple[float, float, float] | None:
        """Low, mean and high at the last place that is not above x; None before the first."""
        place = int(np.searchsorted(self.x, x, side="right")) - 1
        return None if place < 0 else (float(self.low[place]), float(self.mean[place]), float(self.high[place]))


def best_at_cost(points: Sequence[Point | None], trials: int) -> Band | None:
    """The accuracy of the best of so many random trials at or under each cost, from all points of a random search.

    It begins at the first cost for which nine in ten orderings have a network; None where there is no such cost.

    Args:
        points: Those of its finished trials; None is a trial that does not count.
        trials: n; at most as many as there are points.
    """
    known = sorted((point for point in points if point is not None), key=lambda point: point.cost)
    costs = np.unique([point.cost for point in known])
    costs = costs[np.unique(np.linspace(0, len(costs) - 1, _MAX_COSTS).round().astype(np.int64))] if known else costs
    factorials = log_factorials(len(points))
    found = []
    for cost in costs:
        inside = np.sort([point.accuracy for point in known if point.cost <= cost])
        outside = len(points) - len(inside)
        chance_of_none = 0.0
        if outside >= trials:  # C(outside, n) / C(N, n)
            lost = factorials[outside] - factorials[outside - trials]
            chance_of_none = float(np.exp(lost - factorials[-1] + factorials[len(points) - trials]))
        if chance_of_none <= LOW:
            found.append((cost, *best_of_orderings(inside, trials, factorials)))
    if not found:
        return None
    x, low, mean, high = np.transpose(found)
    return Band(x, low, mean, high, trials)


def hypervolume_band(points: Sequence[Point | None], reference: Point) -> Band:
    """The hypervolume after each number of random trials, over orderings that are drawn, the same each time."""
    orderings = max(1, min(_ORDERINGS, _MAX_STEPS // len(points)))
    draw = random.Random(0)
    traces = np.array([trace_hypervolume(draw.sample(points, len(points)), reference) for _ in range(orderings)])
    low, high = np.quantile(traces, [LOW, HIGH], axis=0)
    return Band(np.arange(1.0, len(points) + 1), low, traces.mean(axis=0), high, len(points), orderings)
