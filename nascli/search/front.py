"""The front of a search: the networks that no other beats in accuracy and cost, and the area that they dominate.

One network dominates another if it is at least as accurate at no more cost, and better in one of the two. The cost is
that of the recipe's `cost_quantity`: params, mult-adds, or a latency in seconds.
"""

import bisect
import math
import re
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from nascli.config import SearchRecipe
from nascli.search.trial import Score, Trial


class Point(NamedTuple):
    """A network as the front sees it: its accuracy (where nothing was trained, its reward) and its cost."""

    accuracy: float
    cost: float


class Member(NamedTuple):
    """A trial on the front; the accuracy is that of its trainings after the search where the front is made of those."""

    trial: Trial
    accuracy: float
    cost: float


def cost_quantity(recipe: SearchRecipe) -> str:
    """The cost that stands against the accuracy: the objective's, else latency if anything names it, mult-adds."""
    if recipe.objective.quantity is not None:
        return recipe.objective.quantity
    if recipe.table.latency:
        return "latency"
    named = [re.split("[<>=]", text)[0].strip() for text in recipe.search.constraints]
    return "latency" if "latency" in named else "mult_adds"


def find_front(points: Sequence[Point]) -> list[int]:
    """The places of the points that no other dominates, cheapest first; of equal points all, in their order."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda each: (points[each].cost, -points[each].accuracy, each)):
        last = points[front[-1]] if front else None
        if last is None or points[place].accuracy > last.accuracy or points[place] == last:
            front.append(place)
    return front


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area between the front of the points and a reference point, as a sum of rectangles.

    With the front c_1 < ... < c_k in cost, and c_{k+1} and a_0 those of the reference,

        sum over i of (a_i - a_0) (c_{i+1} - c_i)

    Points that are no better than the reference in both count nothing.

    Args:
        reference: The lowest accuracy and the highest cost that count.

    References:
        Zitzler and Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms".
    """
    inside = [each for each in points if each.accuracy > reference.accuracy and each.cost < reference.cost]
    front = [inside[place] for place in find_front(inside)]
    ends = [*(each.cost for each in front), reference.cost][1:]
    return math.fsum((p.accuracy - reference.accuracy) * (end - p.cost) for p, end in zip(front, ends, strict=True))


def trace_hypervolume(points: Sequence[Point | None], reference: Point) -> list[float]:
    """The hypervolume after each of the points, in their order; None is a trial without a result."""
    front: list[Point] = []  # cheapest first
    volumes = []
    volume = 0.0
    for point in points:
        if point is not None and not _is_covered(point, front):
            together = [*front, point]
            front = [together[place] for place in find_front(together)]
            volume = hypervolume(front, reference)
        volumes.append(volume)
    return volumes


def point_of(trial: Trial, quantity: str) -> Point | None:
    """Accuracy and cost of a trial with a score; None for any other, and where its latency was not measured.

    A trial that was stopped on a rung has the accuracy that it had there.
    """
    cost = None if trial.score is None else cost_of(trial.score, quantity)
    if trial.score is None or cost is None:
        return None
    return Point(trial.score.reward if trial.score.accuracy is None else trial.score.accuracy, cost)


def cost_of(score: Score, quantity: str) -> float | None:
    """The cost of a child: `params`, `mult_adds`, or `latency` in seconds, None where it was not measured."""
    if quantity == "latency":
        return score.latency.seconds if score.latency else None
    return float(getattr(score, quantity))


def points_of(trials: Sequence[Trial], quantity: str) -> list[Point | None]:
    """The point of each trial; None where it does not count for the front.

    Those are duplicates, failed ones, and those stopped on a rung, whose accuracy is that of a shorter training.
    """
    return [point_of(trial, quantity) if trial.scored and not trial.stopped else None for trial in trials]


def front_of(trials: Sequence[Trial], quantity: str) -> list[Member]:
    """The trials of a search that no other one dominates, cheapest first; of equals the earlier one.

    Where the whole front was trained again after the search, the front is that of the trials that were, by their mean
    accuracy there: the accuracies by which networks were chosen flatter them, and are not held against fresh ones.
    """
    counted = [(trial, point) for trial, point in zip(trials, points_of(trials, quantity), strict=True) if point]
    front = _select(counted)
    if not all(member.trial.reranks for member in front):
        return front
    return _select([(trial, Point(_mean_rerank(trial), point.cost)) for trial, point in counted if trial.reranks])


def describe_member(member: Member) -> dict[str, object]:
    """A network on the front, as results have it."""
    trial = member.trial
    return {"trial": trial.id, "accuracy": member.accuracy, "cost": member.cost, "hash": trial.hash}


def worst_of(points: Sequence[Point]) -> Point:
    """The lowest accuracy and the highest cost: the reference point of searches that have these points together."""
    return Point(min(each.accuracy for each in points), max(each.cost for each in points))


def _select(found: Sequence[tuple[Trial, Point]]) -> list[Member]:
    """Those on the front, each point once: the earlier trial's."""
    places = find_front([point for _, point in found])
    first = {found[place][1]: place for place in reversed(places)}
    return [Member(found[place][0], *found[place][1]) for place in places if first[found[place][1]] == place]


def _mean_rerank(trial: Trial) -> float:
    return statistics.fmean(rerank.accuracy for rerank in trial.reranks)


def _is_covered(point: Point, front: Sequence[Point]) -> bool:
    """Whether a point of a front, cheapest first, is equal to a point or dominates it."""
    cheaper = bisect.bisect_right(front, point.cost, key=lambda each: each.cost)
    return cheaper > 0 and front[cheaper - 1].accuracy >= point.accuracy
