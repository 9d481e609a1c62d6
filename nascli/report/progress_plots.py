"""Plots of a search over its trials: the best so far against random search, every reward, the strategy's curves."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nascli.report import figures
from nascli.report.baseline import HIGH, LOW, BestOfN, random_curve
from nascli.report.figures import RenderedFigure
from nascli.report.search_data import SearchData, best_so_far, reward_of, trial_seconds
from nascli.search.trial import Trial, TrialState

_MAX_POINTS = 600  # of a line; a page is a few hundred pixels wide
_CURVES = {
    "entropy": "entropy, nats per genotype",
    "kl": "KL divergence per update, nats",
    "clip_fraction": "share of clipped ratios",
    "baseline": "baseline (moving average of rewards)",
}
Floats = NDArray[np.float64]

_COUNTERS = frozenset({"trials", "updates"})


class _Axis(NamedTuple):
    """The x axis of a figure of progress: the budget spent after each finished trial (N,), and per random trial."""

    label: str
    spent: Floats
    per_random_trial: float


def plot_progress(data: SearchData, baseline: SearchData | None) -> list[RenderedFigure]:
    """The best so far, by trials and by the seconds spent on children."""
    if not data.complete:
        return []
    random = random_curve(baseline) if baseline else None
    caption = "Highest reward so far. Duplicates, rejected and failed trials count as spent."
    if random is not None:
        caption += (
            f" Dashed and band: the best of n trials of a random search, over all orderings of its {random.trials} "
            f"finished trials, each equally likely: the mean, and the middle {HIGH - LOW:.0%} of the orderings. Where "
            "n nears that number few orderings differ, and the band closes without anything being more certain."
        )
    trials = _Axis("trials", np.arange(1, len(data.finished) + 1, dtype=np.float64), 1.0)
    drawn = [_plot_best_so_far(data, random, trials, "best-so-far", "Best so far by trials", caption)]
    seconds = np.cumsum([trial_seconds(trial) for trial in data.finished])
    if seconds[-1] > 0 and (random is None or random.seconds > 0):
        unit, name = _time_unit(float(seconds[-1]))
        time = _Axis(f"{name} spent on children", seconds / unit, random.seconds / unit if random else 1.0)
        caption = (
            "The same against the summed time of all evaluations, whichever worker they ran on. The time of failed "
            "children is not known and not counted"
        ) + ("; a random trial counts as the mean time of its search's trials." if random else ".")
        title = "Best so far by time spent on children"
        drawn.append(_plot_best_so_far(data, random, time, "best-so-far-seconds", title, caption))
    return drawn


def plot_rewards(data: SearchData) -> RenderedFigure | None:
    """Every trial's reward in order, with the running mean."""
    if not data.finished:
        return None
    figure, axes = figures.new_axes("trial", data.reward_label, width=10.5, height=4.2)
    dense = len(data.finished) > figures.DENSE
    looks: tuple[tuple[str, bool, dict[str, Any]], ...] = (
        ("evaluated", False, {"color": figures.BLUE, "linewidths": 0}),
        ("duplicate", True, {"facecolors": "none", "edgecolors": figures.SKY, "linewidths": 0.9}),
    )
    for label, duplicate, look in looks:
        points = [
            (trial.id, reward_of(trial)) for trial in data.complete if (trial.duplicate_of is not None) == duplicate
        ]
        if points:
            ids, rewards = zip(*points, strict=True)
            axes.scatter(ids, rewards, s=6 if dense else 18, rasterized=dense, label=label, **look)
    _mark_without_result(data, axes, dense=dense)
    window = max(5, len(data.complete) // 20)
    if len(data.complete) > window:
        x, y = _thin(*_running_mean(data.complete, window))
        axes.plot(x, y, color=figures.ORANGE, label=f"mean of {window}")
    if data.in_percent:
        figures.use_percent_ticks(axes)
    figures.use_integer_ticks(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=5, handletextpad=0.3, columnspacing=1.2)
    return figures.render(
        figure,
        "rewards",
        "Every trial",
        "The reward of each trial in the order of proposal, duplicates hollow. Failed and rejected trials have none: "
        "their marks are at the lower edge.",
        f"Scatter of the rewards of {len(data.complete)} complete trials by trial number, with their running mean.",
    )


def plot_learning(data: SearchData) -> RenderedFigure | None:
    """The strategy's diagnostics after each update; None where it has none."""
    names = [name for name in dict.fromkeys(key for update in data.updates for key in update) if name not in _COUNTERS]
    names = [*(name for name in _CURVES if name in names), *(name for name in names if name not in _CURVES)]
    if not names:
        return None
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(10.5, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        points = [(update["trials"], update[name]) for update in data.updates if "trials" in update and name in update]
        x, y = _thin(*np.asarray(points, dtype=np.float64).reshape(-1, 2).T)
        axes.plot(x, y, color=figures.BLUE, marker="." if len(x) < 30 else "")
        axes.set_title(_CURVES.get(name, name.replace("_", " ")), loc="left", fontsize=10, parse_math=False)
        axes.set_xlabel("trials told")
        figures.use_integer_ticks(axes)
        if name == "entropy":
            axes.axhline(data.uniform_entropy, color=figures.GREY, linestyle="--", linewidth=1.2)
            axes.set_ylim(bottom=0)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figures.render(
        figure,
        "learning",
        f"Learning curves of {data.recipe.search.strategy}",
        "After each update of the strategy."
        + (" Dashed: the entropy of uniform proposals, where learning starts." if "entropy" in names else ""),
        f"{len(names)} curves over the trials told: {', '.join(names)}.",
    )


def _plot_best_so_far(
    data: SearchData, random: BestOfN | None, x_axis: _Axis, name: str, title: str, caption: str
) -> RenderedFigure:
    figure, axes = figures.new_axes(x_axis.label, f"best {data.reward_name} so far")
    best = best_so_far([trial.score.reward if trial.score else None for trial in data.finished])
    steps = [0, *(k for k in range(1, len(best)) if best[k] != best[k - 1]), len(best) - 1]
    if random is not None:
        x = random.budgets * x_axis.per_random_trial
        axes.fill_between(x, random.low, random.high, color=figures.ORANGE, alpha=0.22, linewidth=0)
        axes.plot(x, random.mean, color=figures.VERMILLION, linestyle="--", label="random search, expected")
    strategy = data.recipe.search.strategy
    axes.plot(
        x_axis.spent[steps],
        [best[k] for k in steps],
        drawstyle="steps-post",
        color=figures.BLUE,
        label=strategy if strategy != "random" else "this random search",
    )
    if data.in_percent:
        figures.use_percent_ticks(axes)
    axes.legend(loc="lower right")
    alt = f"Step curve of the best {data.reward_name} so far, ending at {data.format_reward(best[-1])}"
    if random is not None:
        trials = min(len(best), random.trials)
        low, mean, high = random.at(trials)
        alt += (
            f"; random search is expected to reach {data.format_reward(mean)} ({data.format_reward(low)} to "
            f"{data.format_reward(high)}) with {trials} trials"
        )
    return figures.render(figure, name, title, caption, alt + ".")


def _mark_without_result(data: SearchData, axes: Axes, *, dense: bool) -> None:
    """Draw crosses and bars at the lower edge, under all rewards."""
    marks = ((TrialState.FAILED, "x", figures.VERMILLION, 0.02), (TrialState.REJECTED, "|", figures.PURPLE, 0.06))
    axes.margins(y=0.09)
    for state, marker, color, height in marks:
        ids = [trial.id for trial in data.finished if trial.state is state]
        if ids:
            axes.scatter(
                ids,
                [height] * len(ids),
                transform=axes.get_xaxis_transform(),
                s=22,
                marker=marker,
                color=color,
                linewidths=1.3,
                rasterized=dense,
                label=str(state),
            )


def _running_mean(trials: Sequence[Trial], window: int) -> tuple[Floats, Floats]:
    """The mean of each `window` trials in a row, at the last of them."""
    sums = np.cumsum([0.0, *(reward_of(trial) for trial in trials)])
    means = (sums[window:] - sums[:-window]) / window
    return np.array([trial.id for trial in trials[window - 1 :]], dtype=np.float64), means


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most `_MAX_POINTS` of the points, evenly, the last one kept."""
    if len(x) <= _MAX_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).round().astype(np.int64))
    return x[kept], y[kept]


def _time_unit(seconds: float) -> tuple[float, str]:
    return (3600.0, "hours") if seconds >= 7200 else (60.0, "minutes") if seconds >= 120 else (1.0, "seconds")
