"""What the search chose: each op's and each input's share of the choices as the trials went by."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nascli.genotype.cells.genotype import require_cells
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.cells.space import CellSpace
from nascli.genotype.drawing.palette import OP_STYLES, state_name
from nascli.report import figures
from nascli.report.figures import Picture
from nascli.report.search_data import SearchData
from nascli.search.trial import Trial

_WINDOWS = 10
_LIGHT_ABOVE = 0.62  # of the colour scale, where words on it turn from white to black

Shares = NDArray[np.float64]
Choice = TypeVar("Choice", str, int)


def choice_pictures(data: SearchData) -> list[Picture]:
    """Heat maps of ops and inputs, for the normal and the reduction cell; one each where one cell serves as both."""
    if not data.trials:
        return []
    pictures = []
    roles: Sequence[Literal["normal", "reduction"]] = ("normal", "reduction")
    for role in roles if _space(data).cells == "two" else roles[:1]:
        cell = f"{role} cell" if _space(data).cells == "two" else "cell"
        pictures.append(_ops_picture(data, role, cell))
        pictures.append(_inputs_picture(data, role, cell))
    return pictures


def choice_shares(
    trials: Sequence[Trial],
    choices: Sequence[Choice],
    read: Callable[[Trial], Iterable[Choice]],
) -> tuple[Shares, list[str]]:
    """How often each choice was made in each of about ten windows of trials.

    Args:
        trials: In order.
        choices: All there are.
        read: A trial's choices.

    Returns:
        Shares, a row for each choice, a column for each window; the numbers of the windows' trials in words.
    """
    windows = np.array_split(np.arange(len(trials)), min(_WINDOWS, len(trials)))
    shares = np.zeros((len(choices), len(windows)))
    names = []
    for column, window in enumerate(windows):
        counts = Counter(choice for place in window for choice in read(trials[place]))
        shares[:, column] = [counts[choice] / max(counts.total(), 1) for choice in choices]
        first, last = trials[window[0]].id, trials[window[-1]].id
        names.append(f"{first}–{last}" if last > first else f"{first}")
    return shares, names


def uniform_inputs(space: CellSpace) -> list[float]:
    """The share of each state among the inputs of cells drawn uniformly: block k chooses among k + 2 states."""
    return [
        sum(1 / (k + 2) for k in range(space.blocks) if state < k + 2) / space.blocks
        for state in range(space.blocks + 1)
    ]


def _ops_picture(data: SearchData, role: Literal["normal", "reduction"], cell: str) -> Picture:
    ops = _space(data).ops
    shares, names = choice_shares(
        data.trials, ops, lambda trial: (op for block in _cell(trial, role).blocks for op in block.ops)
    )
    labels = [OP_STYLES[op].label for op in ops]
    return _heat_map(f"ops-{role}", f"Ops of the {cell}", labels, [1 / len(ops)] * len(ops), shares, names)


def _inputs_picture(data: SearchData, role: Literal["normal", "reduction"], cell: str) -> Picture:
    states = range(_space(data).blocks + 1)
    shares, names = choice_shares(
        data.trials,
        list(states),
        lambda trial: (state for block in _cell(trial, role).blocks for state in block.inputs),
    )
    labels = [state_name(state) for state in states]
    return _heat_map(f"inputs-{role}", f"Inputs of the {cell}", labels, uniform_inputs(_space(data)), shares, names)


def _space(data: SearchData) -> CellSpace:
    assert isinstance(data.space, CellSpace)
    return data.space


def _cell(trial: Trial, role: Literal["normal", "reduction"]) -> CellSpec:
    return (
        require_cells(trial.genotype, "the report").normal
        if role == "normal"
        else require_cells(trial.genotype, "the report").reduction
    )


def _heat_map(
    name: str, title: str, labels: Sequence[str], uniform: Sequence[float], shares: Shares, windows: Sequence[str]
) -> Picture:
    """Rows of choices, columns of windows, and a first column with what uniform choice would give."""
    figure = Figure(figsize=(7.2, 1.25 + 0.27 * len(labels)), layout="constrained")
    axes = figure.subplots()
    table = np.column_stack([np.asarray(uniform), shares])
    axes.pcolormesh(
        table, cmap="cividis_r", vmin=0, vmax=max(float(table.max()), 1e-9), edgecolors="white", linewidth=1
    )
    axes.invert_yaxis()
    axes.axvline(1, color="white", linewidth=6)
    _write_shares(axes, table)
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels)
    axes.set_xticks(np.arange(len(windows) + 1) + 0.5, ["uniform", *windows], rotation=35, ha="right", fontsize=8)
    axes.set_xlabel("trials")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    order = np.argsort(-shares[:, -1])[:3]
    said = ", ".join(f"{labels[k]} {shares[k, -1]:.0%}" for k in order)
    return figures.finish(
        figure,
        name,
        title,
        f"Share in percent of all choices that trials made, dead blocks included. At the end most often: {said}.",
        f"Heat map of {len(labels)} choices over {len(windows)} windows of trials. At the end most often: {said}.",
    )


def _write_shares(axes: Axes, table: Shares) -> None:
    for row, column in np.ndindex(*table.shape):
        value = table[row, column]
        dark = value > _LIGHT_ABOVE * table.max()
        axes.text(
            column + 0.5,
            row + 0.52,
            f"{100 * value:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "#111111",
            in_layout=False,
        )
