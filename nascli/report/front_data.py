"""A search and its random baseline as accuracies and costs: what their figures and texts are made from."""

from dataclasses import dataclass
from functools import cached_property

from nascli.report.equal_cost import Band, best_at_cost, hypervolume_band
from nascli.report.search_data import SearchData
from nascli.search.front import (
    Member,
    Point,
    cost_quantity,
    front_of,
    hypervolume,
    points_of,
    trace_hypervolume,
    worst_of,
)
from nascli.search.objective import Objective, find_objective
from nascli.units import COUNTS, UNITS, format_quantity


@dataclass(frozen=True)
class FrontData:
    """A search and its baseline, as accuracies and costs of one quantity.

    Args:
        random: The random search it is compared with; None where there is none, or it is the search itself.
    """

    data: SearchData
    random: SearchData | None
    quantity: str

    @cached_property
    def front(self) -> list[Member]:
        """The networks that no other beats, cheapest first."""
        return front_of(self.data.trials, self.quantity)

    @cached_property
    def objective(self) -> Objective | None:
        """The reward for accuracy and this cost; None where the recipe has none, or one of another cost."""
        found = find_objective(self.data.recipe)
        return found if found is not None and found.quantity == self.quantity else None

    @cached_property
    def points(self) -> list[Point | None]:
        """Those of the finished trials, in their order; None is a trial that does not count."""
        return points_of(self.data.finished, self.quantity)

    @cached_property
    def random_points(self) -> list[Point | None]:
        """The same of the random search."""
        return points_of(self.random.finished, self.quantity) if self.random else []

    @cached_property
    def expected(self) -> Band | None:
        """The best of as many random trials at or under each cost."""
        trials = min(len(self.points), len(self.random_points))
        return best_at_cost(self.random_points, trials) if trials else None

    @property
    def hypervolume(self) -> dict[str, object] | None:
        """That of the search and of as many random trials (mean of orderings), of 1, and their reference point."""
        if self.corners is None:
            return None
        worst, largest = self.corners[0], self.largest
        search = trace_hypervolume(self.points, worst)[-1] / largest
        expected = None
        if band := self.random_band:
            found = band.at(len(self.points))
            expected = None if found is None else found[1] / largest
        return {"search": search, "random": expected, "reference": worst._asdict()}

    @cached_property
    def random_band(self) -> Band | None:
        """The hypervolume over trials of the random search."""
        return hypervolume_band(self.random_points, self.corners[0]) if self.random and self.corners else None

    @property
    def largest(self) -> float:
        """The area of the rectangle between the corners."""
        return hypervolume(self.corners[1:], self.corners[0]) if self.corners else 0.0

    @property
    def corners(self) -> tuple[Point, Point] | None:
        """Worst and best accuracy and cost of all points of both; None where no rectangle lies between them."""
        known = [point for point in [*self.points, *self.random_points] if point is not None]
        if not known:
            return None
        accuracies, costs = zip(*known, strict=True)
        worst, best = worst_of(known), Point(max(accuracies), min(costs))
        return (worst, best) if worst.accuracy < best.accuracy and worst.cost > best.cost else None

    def format_cost(self, cost: float) -> str:
        """A cost for readers."""
        return format_quantity(cost, UNITS.get(self.quantity, COUNTS))


def select_main(data: SearchData, random: SearchData | None) -> FrontData:
    """Accuracy against the cost that the recipe names."""
    return FrontData(data, None if random is None or random.path == data.path else random, cost_quantity(data.recipe))


def compare_at_target(main: FrontData) -> str:
    """The best network at or under the target beside random ones there, in a sentence; empty without the two."""
    if main.objective is None or main.random is None:
        return ""
    target, name = main.objective.target, main.data.recipe.search.strategy
    inside = [member for member in main.front if member.cost <= target]
    band = main.expected and main.expected.at(target)
    found = f"{main.data.format_accuracy(inside[-1].accuracy)} (trial {inside[-1].trial.id})" if inside else "nothing"
    text = f"At or under the target of {main.format_cost(target)}: {name} {found}, "
    if not band:
        return f"{text}and too few random networks to compare with."
    low, mean, high = map(main.data.format_accuracy, band)
    accuracy = inside[-1].accuracy if inside else 0.0
    place = "above" if accuracy > band[2] else "below" if accuracy < band[0] else "inside"
    trials = main.expected.trials if main.expected else 0
    return (
        f"{text}the best of {trials} random networks {mean} on average ({low} to {high}), so the search lies {place} "
        "the band."
    )
