"""The confusion matrix as a picture: a row for each true class, a column for each answered one.

Lengths are in inches, sizes of letters in points (72 an inch). The more classes, the larger the picture and the smaller
its squares, so that every name has room beside its row.
"""

import textwrap
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from nascli.report import figures
from nascli.report.figures import Picture

LARGEST = 100
"""Classes up to which a picture can be read."""

Counts = NDArray[np.int64]

_MATRIX_SIDE = 5.5
_SMALLEST_SQUARE, _LARGEST_SQUARE = 0.13, 0.8
_LONGEST_NAME = 24
_SMALLEST_LETTERS, _NAME_LETTERS, _COUNT_LETTERS = 5.5, 9.5, 10.0
_HEADING_LENGTH, _HEADING_LETTERS = 70, 10.5
_LETTER_WIDTH = 0.64  # of its size, on average
_LIGHT_ABOVE = 0.45  # part of a row from which counts stand on so dark a colour that they are white


def confusion_picture(counts: Counts, class_names: Sequence[str], title: str) -> Picture:
    """The answers of a classifier.

    Args:
        counts: (K, K), rows true and columns answered classes, K up to `LARGEST`.
        class_names: K names.
        title: What was measured on what.
    """
    accuracy = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} images right"
    caption = "Rows are true classes, columns what the network answered; the colour is the part of a row."
    return matrix_picture(counts, counts.sum(axis=1), class_names, (title, accuracy), ("answered", "images"), caption)


def matrix_picture(
    counts: Counts,
    totals: Counts,
    class_names: Sequence[str],
    heading: tuple[str, str],
    words: tuple[str, str],
    caption: str,
) -> Picture:
    """Counts in squares, coloured by their part of the row; the square root makes rare confusions visible.

    Counts are written into the squares where they fit. A row that stands for nothing is grey.

    Args:
        counts: (K, K), rows are true classes.
        totals: (K,), what a whole row stands for; more than its sum where columns are left out.
        class_names: K names; long ones are shortened.
        heading: What was measured on what, and one more line.
        words: What the columns say, and what is counted.
        caption: What the picture shows, in a sentence.
    """
    classes = len(counts)
    square = min(_LARGEST_SQUARE, max(_SMALLEST_SQUARE, _MATRIX_SIDE / classes))
    letters = min(_NAME_LETTERS, 72 * square * 0.75)
    names = [_shown(name) for name in class_names]
    longest = max(map(len, names)) * letters * _LETTER_WIDTH / 72
    lines = [*textwrap.wrap(heading[0], _HEADING_LENGTH), heading[1]]
    plain = matplotlib.rc_context({"text.parse_math": False})  # a $ in a name is a $
    with figures.styled(), plain, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font has not
        figure, axes, scale = _sheet(classes * square, longest, longest < square, lines)
        _draw_squares(axes, scale, counts, totals, words[1])
        _write_counts(axes, counts, totals, square)
        _write_names(axes, names, letters, words[0], upright=longest < square)
        return figures.finish(
            figure,
            "confusion",
            heading[0],
            caption,
            f"Confusion matrix of {classes} classes, {heading[1]}.",
        )


def _sheet(side: float, names: float, upright: bool, heading: Sequence[str]) -> tuple[Figure, Axes, Axes]:
    """A figure with its heading, and room for the matrix and its scale of colours.

    Everything is placed in inches: matplotlib's own layout cuts off letters where the matrix has to stay square.
    """
    left, bottom, top = names + 0.45, (0.25 if upright else names + 0.15) + 0.35, 0.2 * len(heading) + 0.2
    width = max(left + side + 1.25, max(map(len, heading)) * _HEADING_LETTERS * _LETTER_WIDTH / 72 + 0.2)
    height = bottom + side + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    scale = figure.add_axes(((left + side + 0.15) / width, bottom / height, 0.18 / width, side / height))
    figure.text(0.1 / width, 1 - 0.1 / height, "\n".join(heading), fontsize=_HEADING_LETTERS, va="top")
    return figure, axes, scale


def _draw_squares(axes: Axes, scale: Axes, counts: Counts, totals: Counts, counted: str) -> None:
    """The coloured squares, and what their colours mean."""
    whole = totals[:, None]
    parts = np.ma.masked_invalid(np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=whole > 0))
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#e9e9e9")
    shown = axes.imshow(parts, cmap=colours, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
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
    letters = min(_COUNT_LETTERS, 72 * square * 0.55, 72 * square * 0.9 / (_LETTER_WIDTH * digits))
    if letters < _SMALLEST_LETTERS:
        return
    for row, column in np.argwhere(counts):
        dark = counts[row, column] / max(totals[row], 1) > _LIGHT_ABOVE
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center_baseline",
            fontsize=letters,
            color="white" if dark else "#111111",
            in_layout=False,
        )


def _write_names(axes: Axes, names: Sequence[str], letters: float, columns: str, *, upright: bool) -> None:
    places = np.arange(len(names))
    axes.set_yticks(places, names, fontsize=letters)
    axes.set_xticks(places, names, fontsize=letters, rotation=0 if upright else 90)
    axes.set_xlabel(columns)
    axes.set_ylabel("true class")


def _shown(name: str) -> str:
    """A name on one line, and no longer than there is room for."""
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST_NAME else line[: _LONGEST_NAME - 1] + "…"
