"""Figures of a report: their common look, and each as SVG for an HTML page and as PNG.

Figures are made of matplotlib's objects alone, and drawn under settings of their own: nothing outside changes them, and
the same figure always gives the same text.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7A7A7A"
"""The palette of Okabe and Ito, told apart with any color vision; and a gray."""

INK = "#111111"

DENSE = 1500
"""Number of points from which a scatter is stored as an image inside the SVG."""

_DPI = 144
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nascli",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.parse_math": False,  # a $ in a name is a $
}


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as an `<svg>` element for an HTML page and as a PNG, with its words; `alt` describes it for the blind.

    Args:
        name: File name of the PNG without suffix; one word with hyphens.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes


def report_style() -> Any:  # noqa: ANN401 - matplotlib's own context manager has no public name
    """A context in which figures are made and drawn with the look of the report."""
    settings: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    return matplotlib.rc_context(settings | dict(_STYLE))


def new_axes(x_label: str, y_label: str, *, width: float = 6.6, height: float = 3.7) -> tuple[Figure, Axes]:
    """A figure, sides in inches, with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def use_percent_ticks(axes: Axes) -> None:
    """Write the ticks of the y axis in percent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def use_integer_ticks(axes: Axes) -> None:
    """Put the ticks of the x axis at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))


def write_number(axes: Axes, place: tuple[float, float], text: str, *, dark: bool, fontsize: float, va: str) -> None:
    """Write a number in a square of a matrix, white on a dark one."""
    axes.text(*place, text, ha="center", va=va, fontsize=fontsize, color="white" if dark else INK, in_layout=False)


def render(figure: Figure, name: str, title: str, caption: str, alt: str) -> RenderedFigure:
    """Draw a figure in both formats."""
    figure.set_dpi(_DPI)
    svg, png = io.StringIO(), io.BytesIO()
    # The canvases are asked directly: savefig would draw everything twice.
    vector: Any = FigureCanvasSVG(figure)  # Any: matplotlib leaves these methods without types
    vector.print_svg(svg, metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # everything has its place by now
    figure.set_dpi(_DPI)  # an SVG leaves a figure at 72
    pixels: Any = FigureCanvasAgg(figure)
    pixels.print_png(png, metadata={"Software": None})
    return RenderedFigure(name, title, caption, alt, inline_svg(svg.getvalue(), name, alt), png.getvalue())


def inline_svg(document: str, name: str, alt: str) -> str:
    """An SVG document as an element of an HTML page: no prolog, ids that begin with its name, a description."""
    text = document[document.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<title>.*?</title>\s*", "", text, count=1, flags=re.DOTALL)  # would repeat the description
    text = re.sub(r'(\sid=")', rf"\g<1>{name}-", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    box = re.search(r'viewBox="([\d. -]+)"', text)
    assert box is not None, "every drawing of ours has its size"
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(alt)}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    fonts = re.search(r'^<svg[^>]*?(\sfont-family="[^"]*")', text)
    return re.sub(r"^<svg[^>]*>", lambda _: f"{head}{fonts[1] if fonts else ''}>", text, count=1)
