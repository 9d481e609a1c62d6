"""Plots of confusion matrices: a row per true class, a column per predicted one.

Lengths are in inches, font sizes in points (72 per inch). The more classes, the larger the figure and the smaller its
squares, so that every name has room beside its row.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from nascli.detect.confusion import CONFUSION_FILE, BoxConfusion
from nascli.files import write_bytes
from nascli.fonts import fit_letters, set_font
from nascli.records import read_record
from nascli.report import figures
from nascli.report.figures import RenderedFigure
from nascli.units import shorten

MAX_CLASSES = 100
"""Classes up to which a classifier's matrix can be read."""

MAX_BOX_CLASSES = 20
"""Classes in the matrix of a detector; of more, those most often mistaken for another."""

Counts = NDArray[np.int64]

_MATRIX_SIDE = 5.5
_MIN_SQUARE, _MAX_SQUARE = 0.13, 0.8
_MAX_NAME, _MAX_WRITTEN = 24, 40  # letters of a name, and of one in which some are written as escapes
_MIN_FONT, _NAME_FONT, _COUNT_FONT = 5.5, 9.5, 10.0
_HEADING_LENGTH, _HEADING_FONT, _MAX_HEADING = 70, 10.5, 300
_LETTER_WIDTH = 0.64  # of its size, on average
_LIGHT_ABOVE = 0.45  # share of a row from which counts stand on so dark a color that they are white


def plot_confusion(counts: Counts, class_names: Sequence[str], title: str) -> RenderedFigure:
    """The confusion matrix of a classifier: images (K, K), rows true and columns predicted, K up to `MAX_CLASSES`."""
    accuracy = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} images correct"
    caption = "Rows are true classes, columns predicted ones; the color is the share of a row."
    return _plot_matrix(counts, counts.sum(axis=1), class_names, (title, accuracy), ("predicted", "images"), caption)


def plot_box_confusion(confusion: BoxConfusion) -> RenderedFigure:
    """The confusion matrix of a detector: rows are true classes, columns detected ones, background last."""
    chosen = confusion.most_confused(MAX_BOX_CLASSES)
    places = [*chosen, len(confusion.names)]
    names = [*(confusion.names[k] for k in chosen), "background"]
    met = len(confusion.most_confused(len(confusion.names)))
    shown = "all classes" if len(chosen) == met else f"{len(chosen)} classes of {met}, those most often mistaken"
    return _plot_matrix(
        confusion.counts[np.ix_(places, places)],
        confusion.counts[places].sum(axis=1),
        names,
        (f"boxes with a score of at least {confusion.score_thresh:g}", shown),
        ("detected as", "boxes"),
        "Boxes of each true class (row) by the class they were detected as (column).",
    )


def write_box_confusion(folder: Path) -> Path:
    """Draw the `confusion.json` of a folder as `confusion.png` beside it; InputError where there is none."""
    figure = plot_box_confusion(BoxConfusion.from_dict(read_record(folder / CONFUSION_FILE)))
    path = folder / f"{figure.name}.png"
    write_bytes(path, figure.png)
    return path


def _plot_matrix(
    counts: Counts,
    totals: Counts,
    class_names: Sequence[str],
    heading: tuple[str, str],
    words: tuple[str, str],
    caption: str,
) -> RenderedFigure:
    """Counts in squares, colored by their share of the row; the square root makes rare confusions visible.

    Counts are written into the squares where they fit. The row of a class without samples is gray.

    Args:
        counts: (K, K), rows are true classes.
        totals: Samples per true class (K,); more than the sum of the row where columns are not shown.
        class_names: K names; long ones are truncated.
        heading: Two lines above the matrix.
        words: Label of the columns, and the unit of the counts.
        caption: Text below the figure.
    """
    classes = len(counts)
    square = min(_MAX_SQUARE, max(_MIN_SQUARE, _MATRIX_SIDE / classes))
    font_size = min(_NAME_FONT, 72 * square * 0.75)
    fitted = [fit_letters(_truncate(name, _MAX_NAME)) for name in class_names]
    names = [_truncate(name, _MAX_WRITTEN) for name, _ in fitted]
    longest = max(map(len, names)) * font_size * _LETTER_WIDTH / 72
    title, title_font = fit_letters(shorten(heading[0], _MAX_HEADING))
    lines = [*textwrap.wrap(title, _HEADING_LENGTH), heading[1]]
    with figures.report_style():
        figure, axes, scale = _new_sheet(classes * square, longest, longest < square, lines, title_font)
        _draw_squares(axes, scale, counts, totals, words[1])
        _write_counts(axes, counts, totals, square)
        axes.set_yticks(np.arange(classes), names, fontsize=font_size)
        axes.set_xticks(np.arange(classes), names, fontsize=font_size, rotation=0 if longest < square else 90)
        for axis in (axes.xaxis, axes.yaxis):
            for text, (_, font) in zip(axis.get_ticklabels(), fitted, strict=True):
                set_font(text, font)
        axes.set_xlabel(words[0])
        axes.set_ylabel("true class")
        alt = f"Confusion matrix of {classes} classes, {heading[1]}."
        return figures.render(figure, "confusion", heading[0], caption, alt)


def _new_sheet(
    side: float, names: float, upright: bool, heading: Sequence[str], font: Path
) -> tuple[Figure, Axes, Axes]:
    """A figure with its heading, and room for the matrix and its color scale.

    Everything is placed in inches: matplotlib's own layout cuts off letters where the matrix has to stay square.
    """
    left, bottom, top = names + 0.45, (0.25 if upright else names + 0.15) + 0.35, 0.2 * len(heading) + 0.2
    width = max(left + side + 1.25, max(map(len, heading)) * _HEADING_FONT * _LETTER_WIDTH / 72 + 0.2)
    height = bottom + side + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    scale = figure.add_axes(((left + side + 0.15) / width, bottom / height, 0.18 / width, side / height))
    text = figure.text(0.1 / width, 1 - 0.1 / height, "\n".join(heading), fontsize=_HEADING_FONT, va="top")
    set_font(text, font)
    return figure, axes, scale


def _draw_squares(axes: Axes, scale: Axes, counts: Counts, totals: Counts, counted: str) -> None:
    """The colored squares, and their color scale."""
    whole = totals[:, None]
    shares = np.ma.masked_invalid(np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=whole > 0))
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="#e9e9e9")
    shown = axes.imshow(shares, cmap=colors, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = axes.figure.colorbar(shown, cax=scale, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    scale.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    bar.minorticks_off()
    bar.set_label(f"of the class's {counted}")
    edges = np.arange(len(counts) + 1) - 0.5
    for lines in (axes.hlines, axes.vlines):
        lines(edges, edges[0], edges[-1], color="#d8d8d8", linewidth=0.4)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_counts(axes: Axes, counts: Counts, totals: Counts, square: float) -> None:
    """The numbers that are not 0, where a square has room for the longest."""
    digits = len(str(counts.max()))
    font_size = min(_COUNT_FONT, 72 * square * 0.55, 72 * square * 0.9 / (_LETTER_WIDTH * digits))
    if font_size < _MIN_FONT:
        return
    for row, column in np.argwhere(counts):
        dark = counts[row, column] / max(totals[row], 1) > _LIGHT_ABOVE
        number, place = f"{counts[row, column]}", (column, row)
        figures.write_number(axes, place, number, dark=dark, fontsize=font_size, va="center_baseline")


def _truncate(name: str, letters: int) -> str:
    """A name on one line, and no longer than there is room for."""
    line = " ".join(name.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
