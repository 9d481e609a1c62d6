"""Learning curves of trainings: loss, accuracy and learning rate by epoch, of one run or of several side by side.

Runs that differ in their seed alone are one line, their mean, with a band.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t

from nascli.engine.trackers import flatten
from nascli.errors import InputError
from nascli.records import read_lines
from nascli.report import figures
from nascli.report.figures import RenderedFigure
from nascli.runs.find import read_run
from nascli.runs.record import START_WEIGHTS
from nascli.text import printable

Floats = NDArray[np.float64]

SURE = 0.95
"""The part of intervals over seeds that hold the mean of all seeds, were the values normal."""

_PANELS: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "train": (("loss", "loss", "train_loss"), ("top-1", "top1", "train_top1"), ("learning rate", "lr", None)),
    "detect": (("train loss", "train_loss", None), ("AP", "ap", None), ("learning rate", "lr", None)),
}
"""By command, for each panel: its label, the key of its line, and the key of training that is dotted."""

_SCORES = {"train": ("top1", "top-1"), "detect": ("ap", "AP")}
_COLORS = (figures.BLUE, figures.VERMILLION, figures.GREEN, figures.ORANGE, figures.PURPLE, figures.SKY, figures.BLACK)
_STYLES = ("-", "--", "-.", (0, (1, 1)))


@dataclass(frozen=True)
class TrainedRun:
    """A run with its epochs.

    Args:
        settings: Its recipe without the seed, its network and what it began with: runs that are equal in it are one
            line.
    """

    path: Path
    command: str
    seed: int
    settings: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    def values(self, key: str, epochs: int) -> Floats:
        """The values of a key in the first epochs; NaN where they are not known."""
        found = [each.get(key) for each in self.epochs[:epochs]]
        numbers = [float(value) if isinstance(value, int | float) else math.nan for value in found]
        return np.array(numbers + [math.nan] * (epochs - len(numbers)))


@dataclass(frozen=True)
class Line:
    """Runs that differ in their seed alone.

    Args:
        name: What tells it from the other lines.
    """

    name: str
    runs: Sequence[TrainedRun]

    @property
    def best(self) -> tuple[float, float | None, int]:
        """The best score of an epoch, its mean over the runs; half the width of its interval; the number of runs."""
        key = _SCORES[self.runs[0].command][0]
        each = np.array([np.nanmax(run.values(key, len(run.epochs)), initial=-np.inf) for run in self.runs])
        mean, low, _ = summarize(each[:, None])
        return float(mean[0]), None if len(each) < 2 else float(mean[0] - low[0]), len(each)


def read_training(path: Path) -> TrainedRun:
    """A run of train or detect with the epochs that it has made.

    Raises:
        InputError: It is another run, or has made no epoch yet.
        CorruptFileError: A file is damaged.
    """
    record = read_run(path)
    command = str(record["command"])
    if command not in _PANELS:
        raise InputError(f"{path} is a run of nascli {command}", "Compare runs of train, or of detect", file=path)
    metrics = path / "metrics.jsonl"
    epochs = read_lines(metrics) if metrics.is_file() else []
    if not epochs:
        raise InputError(f"{path} has made no epoch yet", file=path)
    recipe = dict(record.get("recipe") or {})
    seed = recipe.pop("seed", 0)
    results = record.get("results") or {}
    settings = {**recipe, "cell": results.get("cell") or (record.get("asked") or {}).get("cell")}
    if command == "detect" and not (recipe.get("start") or {}).get("weights"):
        settings["backbone"] = (record.get(START_WEIGHTS) or {}).get("weights")
    return TrainedRun(path, command, seed, settings, epochs)


def group_runs(runs: Sequence[TrainedRun]) -> list[Line]:
    """The lines of runs, in the order in which they came; each named by the settings in which it differs.

    Raises:
        InputError: Runs of train and of detect are mixed.
    """
    if len(commands := {run.command for run in runs}) > 1:
        raise InputError(f"runs of {' and '.join(sorted(commands))} have no curves in common", "Compare one kind")
    groups: list[list[TrainedRun]] = []
    for run in runs:
        same = next((each for each in groups if each[0].settings == run.settings), None)
        groups.append([run]) if same is None else same.append(run)
    flat = [{key: str(value) for key, value in flatten(group[0].settings).items()} for group in groups]
    keys = [
        key for key in dict.fromkeys(key for each in flat for key in each) if len({each.get(key) for each in flat}) > 1
    ]
    return [Line(_name(group, each, keys), group) for group, each in zip(groups, flat, strict=True)]


def summarize(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean over rows, and the ends of the band: a t-interval from three rows on, of two rows both values.

    Args:
        values: (runs, epochs); a column counts the rows that are not NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = (~np.isnan(values)).sum(axis=0)
        sums = np.nansum(values, axis=0)
        mean = np.where(counts > 0, sums / counts, np.nan)
        deviation = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(counts - 1, 1))
        half = t.ppf((1 + SURE) / 2, np.maximum(counts - 1, 1)) * deviation / np.sqrt(np.maximum(counts, 1))
    two = counts < 3
    filled = np.where(np.isnan(values), mean, values)
    low = np.where(two, filled.min(axis=0), mean - half)
    high = np.where(two, filled.max(axis=0), mean + half)
    return mean, low, high


def plot_learning_curves(lines: Sequence[Line]) -> RenderedFigure:
    """A panel for the loss, one for the accuracy or average precision, one for the learning rate."""
    command = lines[0].runs[0].command
    panels = _PANELS[command]
    dotted = any(key for _, _, key in panels)
    with figures.report_style():
        figure = Figure(figsize=(4.2 * len(panels), 3.6 + 0.2 * len(lines)), layout="constrained")
        for axes, (label, key, training) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            figures.use_integer_ticks(axes)
            if key in ("top1", "ap"):
                figures.use_percent_ticks(axes)
            for place, line in enumerate(lines):
                _draw(axes, line, key, place)
                if training:
                    _draw(axes, line, training, place, dotted=True)
            _cut(axes, most=1.0 if key in ("top1", "ap") else math.inf)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=1)
        note = " Dotted: on the training images as they were seen." if dotted else ""
        caption = f"By epoch.{note}{_explain_bands(lines)}"
        title = "Learning curves"
        return figures.render(figure, "learning-curves", title, caption, f"{title}: {', '.join(names)}")


def describe_lines(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """The lines that are drawn, in JSON values: name, runs, and the best epoch's score with its interval."""
    described = []
    for line in lines:
        best, half, _ = line.best
        runs = [{"run": str(run.path), "seed": run.seed, "epochs": len(run.epochs)} for run in line.runs]
        score = _SCORES[line.runs[0].command][1]
        known = best if math.isfinite(best) else None
        described.append({"name": line.name, "score": score, "best": known, "half_width": half, "runs": runs})
    return described


def _draw(axes: Axes, line: Line, key: str, place: int, *, dotted: bool = False) -> None:
    epochs = max(len(run.epochs) for run in line.runs)
    values = np.array([run.values(key, epochs) for run in line.runs])
    if np.isnan(values).all():
        return
    mean, low, high = summarize(values)
    x, known, color = np.arange(1, epochs + 1), ~np.isnan(mean), _COLORS[place % len(_COLORS)]
    style = ":" if dotted else _STYLES[place // len(_COLORS) % len(_STYLES)]
    name = None if dotted else f"{line.name} ({len(line.runs)} seeds)" if len(line.runs) > 1 else line.name
    marker = "o" if known.sum() < 2 else None
    axes.plot(x[known], mean[known], color=color, linestyle=style, marker=marker, label=name)
    if len(line.runs) > 1 and not dotted:
        axes.fill_between(x[known], low[known], high[known], color=color, alpha=0.18, linewidth=0)


def _cut(axes: Axes, most: float) -> None:
    """Show no values that cannot be, which an interval may reach."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02 * min(high, most)), min(high, 1.02 * most))


def _explain_bands(lines: Sequence[Line]) -> str:
    several = [line for line in lines if len(line.runs) > 1]
    if not several:
        return ""
    return f" Lines are means over seeds; bands {SURE:.0%} t-intervals of the mean, of two seeds both values."


def _name(group: Sequence[TrainedRun], settings: Mapping[str, str], keys: Sequence[str]) -> str:
    """A line by the settings that differ, up to three; by its folder where there are none or more."""
    if not 0 < len(keys) <= 3:
        return printable(group[0].path.resolve().name)
    return printable(", ".join(f"{key.rpartition('.')[2]} {Path(settings.get(key, '-')).name}" for key in keys))
