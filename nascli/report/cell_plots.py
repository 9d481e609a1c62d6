"""Plots of the cells that a search tried: their choices over time, their time, and drawings of the best."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nascli.genotype.drawing import genotype_png, genotype_svg
from nascli.genotype.space import ChoiceGroup
from nascli.report import figures
from nascli.report.figures import RenderedFigure, inline_svg
from nascli.report.search_data import SearchData, select_best
from nascli.search.trial import Trial
from nascli.units import UNITS, format_quantity

Shares = NDArray[np.float64]

_WINDOWS = 10
_LIGHT_ABOVE = 0.62  # of the color scale, where words on it turn from white to black


def plot_choices(data: SearchData) -> list[RenderedFigure]:
    """Heat maps of each kind of choice, as the genotype family groups them."""
    if not data.trials:
        return []
    return [_plot_heat_map(group, *choice_shares(data.trials, group)) for group in data.space.choice_groups()]


def choice_shares(trials: Sequence[Trial], group: ChoiceGroup) -> tuple[Shares, list[str]]:
    """The share of each choice in each of about ten windows of trials.

    Returns:
        Shares (choices, windows), and the first and last trial of each window as text.
    """
    windows = np.array_split(np.arange(len(trials)), min(_WINDOWS, len(trials)))
    shares = np.zeros((len(group.labels), len(windows)))
    names = []
    for column, window in enumerate(windows):
        counts = Counter(choice for place in window for choice in group.read(trials[place].genotype))
        shares[:, column] = [counts[choice] / max(counts.total(), 1) for choice in range(len(group.labels))]
        first, last = trials[window[0]].id, trials[window[-1]].id
        names.append(f"{first}–{last}" if last > first else f"{first}")
    return shares, names


def plot_seconds(data: SearchData) -> RenderedFigure | None:
    """A histogram of the time per evaluation; None where no time is known."""
    seconds = [trial.score.seconds for trial in data.scored if trial.score is not None]
    if not seconds or max(seconds) <= 0:
        return None
    figure, axes = figures.new_axes("seconds per evaluation", "children")
    axes.hist(seconds, bins=min(30, max(5, len(seconds) // 3)), color=figures.SKY, edgecolor="white")
    middle = sorted(seconds)[len(seconds) // 2]
    axes.axvline(middle, color=figures.VERMILLION, linestyle="--", label=f"median {middle:.3g} s")
    axes.legend()
    return figures.render(
        figure,
        "seconds",
        "Time per child",
        f"From {min(seconds):.3g} to {max(seconds):.3g} seconds, {sum(seconds):,.0f} in all.",
        f"Histogram of the seconds of {len(seconds)} evaluations, median {middle:.3g}.",
    )


def draw_best_cells(data: SearchData) -> list[RenderedFigure]:
    """The cells of each of the best trials."""
    return [_draw_cells(data, place, trial) for place, trial in enumerate(select_best(data), start=1)]


def _draw_cells(data: SearchData, place: int, trial: Trial) -> RenderedFigure:
    score = trial.score
    assert score is not None
    reward = data.format_reward(score.reward)
    facts = f"{data.reward_name} {reward}, {score.params:,} params, {score.mult_adds:,} mult-adds as a child"
    if latency := score.latency:
        facts += f", {format_quantity(latency.seconds, UNITS['latency'])} for {latency.conditions}"
    name = f"cell-{place:02d}"
    alt = f"The cells of trial {trial.id}: {facts}."
    return RenderedFigure(
        name=name,
        title=f"{place}. Trial {trial.id}: {reward}",
        caption=f"{facts[:1].upper()}{facts[1:]}. Canonical hash {trial.hash}.",
        alt=alt,
        svg=inline_svg(genotype_svg(trial.genotype), name, alt),
        png=genotype_png(trial.genotype, scale=1.0),
    )


def _plot_heat_map(group: ChoiceGroup, shares: Shares, windows: Sequence[str]) -> RenderedFigure:
    """Rows of choices, columns of windows, and a first column with the shares of uniform choice."""
    labels = group.labels
    figure = Figure(figsize=(7.2, 1.25 + 0.27 * len(labels)), layout="constrained")
    axes = figure.subplots()
    table = np.column_stack([np.asarray(group.uniform), shares])
    axes.pcolormesh(
        table, cmap="cividis_r", vmin=0, vmax=max(float(table.max()), 1e-9), edgecolors="white", linewidth=1
    )
    axes.invert_yaxis()
    axes.axvline(1, color="white", linewidth=6)
    for row, column in np.ndindex(*table.shape):
        value = table[row, column]
        dark, place = value > _LIGHT_ABOVE * table.max(), (column + 0.5, row + 0.52)
        figures.write_number(axes, place, f"{100 * value:.0f}", dark=dark, fontsize=8, va="center")
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels)
    axes.set_xticks(np.arange(len(windows) + 1) + 0.5, ["uniform", *windows], rotation=35, ha="right", fontsize=8)
    axes.set_xlabel("trials")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    order = np.argsort(-shares[:, -1])[:3]
    most = ", ".join(f"{labels[k]} {shares[k, -1]:.0%}" for k in order)
    return figures.render(
        figure,
        group.name,
        group.title,
        f"Share in percent of all choices that trials made, idle ones included. At the end most often: {most}.",
        f"Heat map of {len(labels)} choices over {len(windows)} windows of trials. At the end most often: {most}.",
    )
