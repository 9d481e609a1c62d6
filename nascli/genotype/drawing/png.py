"""A scene as a PNG, painted by matplotlib without a window and without its global state."""

import io
from typing import TYPE_CHECKING

from nascli.fonts import fit_letters, set_font
from nascli.genotype.drawing.shapes import Arrowhead, Group, Plate, Scene, Stroke, Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

_PIXELS_PER_INCH = 100  # of the scene; with `scale` 1 a pixel of the scene is one of the image
_POINTS_PER_PIXEL = 72 / _PIXELS_PER_INCH
_DASHES = (0, (3.5, 2.8))


def png_bytes(scene: Scene, scale: float = 2.0) -> bytes:
    """The scene as the content of a PNG file, with `scale` pixels per pixel of the scene."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(scene.width / _PIXELS_PER_INCH, scene.height / _PIXELS_PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    for order, group in enumerate(scene.groups):
        _paint(axes, group, order)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=_PIXELS_PER_INCH * scale)
    return content.getvalue()


def _paint(axes: "Axes", group: Group, order: int) -> None:
    for shape in group.shapes:
        if isinstance(shape, Words):
            text, font = fit_letters(shape.text)
            drawn = axes.text(
                group.x + shape.at[0],
                group.y + shape.at[1],
                text,
                fontsize=shape.size * _POINTS_PER_PIXEL,
                fontweight="bold" if shape.bold else "normal",
                color=shape.color,
                horizontalalignment="center" if shape.anchor == "middle" else "left",
                verticalalignment="baseline",
                parse_math=False,
                zorder=order,
            )
            set_font(drawn, font)
        else:
            axes.add_patch(_patch(shape, group)).set_zorder(order)


def _patch(shape: Plate | Stroke | Arrowhead, group: Group) -> "Patch":
    from matplotlib.patches import BoxStyle, FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path

    match shape:
        case Plate(box, paint, radius, dashed):
            return FancyBboxPatch(
                (group.x + box.left, group.y + box.top),
                box.width,
                box.height,
                boxstyle=BoxStyle.Round(pad=0, rounding_size=radius),
                facecolor=paint.fill,
                edgecolor=paint.line,
                linewidth=1.3 * _POINTS_PER_PIXEL,
                linestyle=_DASHES if dashed else "solid",
            )
        case Stroke(curve, color, width, dashed):
            path = Path([(group.x + x, group.y + y) for x, y in curve], [Path.MOVETO, *[Path.CURVE4] * 3])
            return PathPatch(
                path,
                fill=False,
                edgecolor=color,
                linewidth=width * _POINTS_PER_PIXEL,
                linestyle=_DASHES if dashed else "solid",
                capstyle="round",
            )
        case Arrowhead((x, y), color, length, width):
            tip = (group.x + x, group.y + y)
            corners = [tip, (tip[0] - width / 2, tip[1] + length), (tip[0] + width / 2, tip[1] + length)]
            return Polygon(corners, facecolor=color, linewidth=0)
