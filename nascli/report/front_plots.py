"""Plots of accuracy against cost: the front of the search beside random search at equal cost, and its hypervolume."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from nascli.report import figures
from nascli.report.baseline import HIGH, LOW
from nascli.report.equal_cost import Band
from nascli.report.figures import RenderedFigure
from nascli.report.front_data import FrontData
from nascli.search.front import Member, Point, point_of, trace_hypervolume
from nascli.search.objective import Objective

_NAMES = {"latency": "Latency", "mult_adds": "Mult-adds", "params": "Params"}
_WIDE = 4.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""

_CURVES = 6  # of equal reward, about
_RING: dict[str, Any] = {"s": 110, "facecolors": "none", "edgecolors": figures.GREEN, "linewidths": 2, "zorder": 5}
_FAINT: dict[str, Any] = {"color": figures.GREY, "fontsize": 7.5, "annotation_clip": False}
_LABEL_WIDTH, _LABEL_HEIGHT = 0.06, 0.06  # of the axes


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
    if front.objective is not None:
        label = f"target {front.format_cost(front.objective.target)}"
        axes.axvline(front.objective.target, color=figures.BLACK, linestyle=":", linewidth=1.4, label=label)
    _scale_costs(axes, front)
    if front.objective is not None:
        _draw_rewards(axes, front, front.objective)
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


def _draw_rewards(axes: Axes, front: FrontData, objective: Objective) -> None:
    """Draw curves of equal reward through the window as it is, and the network recommended."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.autoscale(enable=False)  # not before the limits were asked for, which are computed only then
    costs = np.geomspace(left, right, 300) if axes.get_xscale() == "log" else np.linspace(max(left, 0), right, 301)[1:]
    unit = np.array([objective.reward(1.0, cost) for cost in costs])
    for reward in MaxNLocator(_CURVES).tick_values(bottom * unit.min(), top * unit.max()):
        axes.plot(costs, reward / unit, color=figures.GREY, linewidth=0.7, alpha=0.6, zorder=0.5)
        inside = np.flatnonzero((bottom < reward / unit) & (reward / unit < top))
        if len(inside):
            end = int(inside[-1])
            _write_reward(axes, reward, (costs[end], reward / unit[end]), at_top=end < len(costs) - 1)
    for best in front.data.recommendation.trials[:1]:
        if point := point_of(best, front.quantity):
            axes.plot(costs, objective.reward(*point) / unit, color=figures.GREEN, linewidth=1.0, zorder=0.6)
            axes.scatter(point.cost, point.accuracy, label="recommended", **_RING)


def _write_reward(axes: Axes, reward: float, end: tuple[float, float], *, at_top: bool) -> None:
    """Write the reward of a curve where it leaves the window."""
    place = (end[0], axes.get_ylim()[1]) if at_top else end
    look: dict[str, Any] = {"xytext": (0, 2), "ha": "center"} if at_top else {"xytext": (3, 0), "va": "center"}
    axes.annotate(f"{reward:.3g}", place, textcoords="offset points", **_FAINT, **look)


def _scale_costs(axes: Axes, front: FrontData) -> None:
    """Set the scale of the costs: logarithmic where they differ much, with ticks at 1, 2 and 5."""
    costs = [point.cost for point in [*front.points, *front.random_points] if point is not None]
    costs += [front.objective.target] if front.objective else []
    if min(costs) > 0 and max(costs) > _WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    unit, separator = ("s", " ") if front.quantity == "latency" else ("", "")
    axes.xaxis.set_major_formatter(EngFormatter(unit=unit, sep=separator))
    axes.margins(x=0.04, y=0.08)


def _cost_label(front: FrontData) -> str:
    deployed, child = front.data.recipe.objective.network, front.data.recipe.network
    side = (deployed or child).image_size
    image = f"one image{f', {side}×{side}' if side else ''}"
    if front.quantity == "params":
        return f"trainable params of the {'network deployed' if deployed else 'child'} (fewer is better)"
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
    if front.objective is not None:
        yield (
            f"Gray curves join accuracies and costs of equal reward, accuracy × {front.objective}; the green one leads "
            "through the network with the highest."
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
    text = (
        f"Scatter of accuracy against {front.quantity.replace('_', '-')} of {known} networks; on the front: {members}"
    )
    target = f"; the target is {front.format_cost(front.objective.target)}" if front.objective else ""
    return f"{text}{target}."


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
