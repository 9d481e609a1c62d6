"""Plots of accuracy against cost: the front of the search beside random search at equal cost, and its hypervolume."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from nascli.report import figures
from nascli.report.baseline import HIGH, LOW
from nascli.report.equal_cost import Band, best_at_cost, hypervolume_band
from nascli.report.figures import RenderedFigure
from nascli.report.search_data import SearchData
from nascli.search.front import Member, Point, cost_quantity, front_of, hypervolume, points_of, trace_hypervolume
from nascli.units import COUNTS, UNITS, format_quantity

_NAMES = {"latency": "Latency", "mult_adds": "Mult-adds", "params": "Params"}
_WIDE = 4.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""

_LABEL_WIDTH, _LABEL_HEIGHT = 0.06, 0.06  # of the axes


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
        worst, best = Point(min(accuracies), max(costs)), Point(max(accuracies), min(costs))
        return (worst, best) if worst.accuracy < best.accuracy and worst.cost > best.cost else None

    def format_cost(self, cost: float) -> str:
        """A cost for readers."""
        return format_quantity(cost, UNITS.get(self.quantity, COUNTS))


def select_main(data: SearchData, random: SearchData | None) -> FrontData:
    """Accuracy against the cost that the recipe names."""
    return FrontData(data, None if random is None or random.path == data.path else random, cost_quantity(data.recipe))


def plot_fronts(main: FrontData) -> list[RenderedFigure]:
    """Accuracy against the cost that the recipe names, with random search at equal cost; then against the others."""
    timed = any(trial.latency for trial in main.data.scored)
    others = [each for each in _NAMES if each != main.quantity and (timed or each != "latency")]
    fronts = [main, *(FrontData(main.data, main.random, quantity) for quantity in others)]
    return [_plot_front(each, wide=each is main) for each in fronts if each.front]


def plot_hypervolume(main: FrontData) -> RenderedFigure | None:
    """The hypervolume after each trial, beside that of random search; None where all points lie on a line."""
    if main.corners is None:
        return None
    worst, largest, band = main.corners[0], main.largest, main.random_band
    figure, axes = figures.new_axes("trials", "hypervolume, of 1 (higher is better)", width=10.5, height=3.7)
    if band is not None:
        low, high = band.low / largest, band.high / largest
        axes.fill_between(band.x, low, high, color=figures.ORANGE, alpha=0.22, linewidth=0)
        axes.plot(band.x, band.mean / largest, color=figures.VERMILLION, linestyle="--", label="random search, mean")
    trace = [volume / largest for volume in trace_hypervolume(main.points, worst)]
    name = main.data.recipe.search.strategy if main.random else "this search"
    axes.step(range(1, len(trace) + 1), trace, where="post", color=figures.BLUE, label=name)
    figures.use_integer_ticks(axes)
    axes.legend(loc="lower right")
    caption = (
        f"The area between the front so far and the worst point{' of both searches' if band else ''}, "
        f"{main.data.format_accuracy(worst.accuracy)} at {main.format_cost(worst.cost)}, as a share of the rectangle "
        "from there to the best accuracy at the least cost. It grows with every network that nothing before it beats."
    )
    alt = f"Curve of the hypervolume over {len(trace)} trials, ending at {trace[-1]:.3f} of 1"
    if band is not None:
        caption += f" Band: the middle {HIGH - LOW:.0%} of {band.orderings} orderings of the random trials."
        _, mean, _ = band.at(len(trace)) or (0.0, 0.0, 0.0)
        alt += f"; random search has {mean / largest:.3f} after as many trials"
    return figures.render(figure, "hypervolume", "Hypervolume over trials", caption, f"{alt}.")


def _plot_front(front: FrontData, *, wide: bool) -> RenderedFigure:
    data, name = front.data, front.quantity.replace("_", "-")
    width, height = (10.5, 5.2) if wide else (6.6, 3.7)
    y_label = f"{data.accuracy_name} (higher is better)"
    figure, axes = figures.new_axes(_cost_label(front), y_label, width=width, height=height)
    _scatter_all(axes, front)
    if front.expected is not None:
        _draw_expected(axes, front.expected)
    _draw_members(axes, front)
    _scale_costs(axes, front)
    if data.is_accuracy:
        figures.use_percent_ticks(axes)
    named = _write_trial_numbers(axes, front.front)
    if wide:
        axes.legend(loc="lower right")
    title = f"{_NAMES[front.quantity]} and {'accuracy' if data.is_accuracy else 'reward'}"
    return figures.render(figure, name, title, " ".join(_caption(front, named)), _describe(front, named))


def _scatter_all(axes: Axes, front: FrontData) -> None:
    dense = len(front.points) + len(front.random_points) > figures.DENSE
    size = 5 if dense else 16
    looks: tuple[tuple[Sequence[Point | None], dict[str, Any], str], ...] = (
        (front.random_points, {"facecolors": "none", "edgecolors": figures.GREY, "linewidths": 0.6}, "random networks"),
        (front.points, {"color": figures.SKY, "linewidths": 0}, "networks of this search"),
    )
    for points, look, label in looks:
        known = [point for point in points if point is not None]
        if known:
            accuracies, costs = zip(*known, strict=True)
            axes.scatter(costs, accuracies, s=size, rasterized=dense, label=label, **look)


def _draw_expected(axes: Axes, expected: Band) -> None:
    axes.fill_between(
        expected.x, expected.low, expected.high, step="post", color=figures.ORANGE, alpha=0.22, linewidth=0
    )
    label = f"best of {expected.trials} random networks at or under the cost"
    axes.step(expected.x, expected.mean, where="post", color=figures.VERMILLION, linestyle="--", label=label)


def _draw_members(axes: Axes, front: FrontData) -> None:
    """Draw the front as steps to the dearest network of all, and the quartiles of latencies as bars."""
    x, y = [member.cost for member in front.front], [member.accuracy for member in front.front]
    end = max([x[-1], *(point.cost for point in front.points if point is not None)])
    axes.step([*x, end], [*y, y[-1]], where="post", color=figures.BLUE, zorder=3)
    axes.scatter(x, y, s=30, color=figures.BLUE, zorder=4, label="front of this search")
    for member in front.front:
        latency = member.trial.latency
        if front.quantity == "latency" and latency is not None:
            axes.hlines(member.accuracy, latency.seconds, latency.upper, color=figures.BLUE, linewidth=4, alpha=0.25)


def _scale_costs(axes: Axes, front: FrontData) -> None:
    """Set the scale of the costs: logarithmic where they differ much, with ticks at 1, 2 and 5."""
    costs = [point.cost for point in [*front.points, *front.random_points] if point is not None]
    if min(costs) > 0 and max(costs) > _WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    unit, separator = ("s", " ") if front.quantity == "latency" else ("", "")
    axes.xaxis.set_major_formatter(EngFormatter(unit=unit, sep=separator))
    axes.margins(x=0.04, y=0.08)


def _cost_label(front: FrontData) -> str:
    data = front.data
    side = data.recipe.network.image_size
    image = f"one image{f', {side}×{side}' if side else ''}"
    if front.quantity == "params":
        return "trainable params of the child (fewer is better)"
    if front.quantity == "mult_adds":
        return f"mult-adds of {image} (fewer is better)"
    return f"latency of {image} (lower is better)"


def _caption(front: FrontData, named: Sequence[Member]) -> Iterator[str]:
    again = all(member.trial.reranks for member in front.front)
    rest = "" if len(named) == len(front.front) else ", where there is room"
    yield (
        f"Blue line: the {len(front.front)} networks that no other beats in both, with the number of the trial{rest}."
        + (" Their accuracies are those of the trainings after the search." if again else "")
    )
    if front.expected is not None:
        yield (
            f"Dashed and band: the best of {front.expected.trials} random networks at or under each cost, over all "
            f"orderings of the random search: the mean, and the middle {HIGH - LOW:.0%} of the orderings. Where the "
            "line lies above the band the search is better than luck at that cost."
        )
    if front.quantity == "latency":
        yield "Pale bars reach from the latency, the lower quartile of the timed passes, to the upper quartile."
    if any(trial.stopped for trial in front.data.scored):
        yield "Networks that successive halving stopped are not shown."


def _describe(front: FrontData, named: Sequence[Member]) -> str:
    members = ", ".join(
        f"trial {member.trial.id} ({front.data.format_accuracy(member.accuracy)} at {front.format_cost(member.cost)})"
        for member in named
    )
    known = sum(point is not None for point in front.points)
    return (
        f"Scatter of accuracy against {front.quantity.replace('_', '-')} of {known} networks; on the front: {members}."
    )


def _write_trial_numbers(axes: Axes, front: Sequence[Member]) -> list[Member]:
    """Write trial numbers beside the points of the front, best first, as long as none covers another."""
    taken: list[tuple[float, float]] = []
    named = []
    for member in reversed(front):
        point = (member.cost, member.accuracy)
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(point))
        if all(abs(x - other) > _LABEL_WIDTH or abs(y - above) > _LABEL_HEIGHT for other, above in taken):
            taken.append((x, y))
            named.append(member)
            text = str(member.trial.id)
            axes.annotate(
                text,
                point,
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
                zorder=5,
                bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.8, "linewidth": 0},
            )
    return named[::-1]
