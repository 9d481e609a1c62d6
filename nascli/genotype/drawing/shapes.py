"""The plain shapes that every drawing is made of, whatever it shows; SVG and PNG are two spellings of one scene."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nascli.genotype.genotype import Genotype
from nascli.text import printable

Point = tuple[float, float]
Curve = tuple[Point, Point, Point, Point]
"""A cubic Bézier: start, two control points, end."""

INK = "#1e293b"
FAINT_INK = "#64748b"
EDGE_COLOR = "#5b6879"
FAINT_EDGE_COLOR = "#c3cad4"

ARROW_LENGTH = 9.0
SWATCH = 14.0
SMALL_TEXT = 11.5
_TITLE_SIZE = 20.0
_MARGIN, _TITLE_HEIGHT, _LEGEND_GAP = 36.0, 64.0, 34.0
_SMALL_LETTER, _BOLD_LETTER = 0.6, 0.68  # width of a plain and of a bold letter against its size, in the widest font


class Paint(NamedTuple):
    """Colors of a box: its area, its border, its words."""

    fill: str
    line: str
    text: str


PANEL_PAINT = Paint("#f7f9fc", "#dde4ed", "#64748b")


@dataclass(frozen=True)
class Box:
    """A rectangle by its left upper corner."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """x of the right side."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """y of the lower side."""
        return self.top + self.height

    @property
    def middle(self) -> float:
        """x halfway between the sides."""
        return self.left + self.width / 2


@dataclass(frozen=True)
class Plate:
    """A rectangle with rounded corners; `hint` is what a browser shows when the mouse rests on it."""

    box: Box
    paint: Paint
    radius: float
    dashed: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Stroke:
    """A line along a curve."""

    curve: Curve
    color: str
    width: float = 1.7
    dashed: bool = False


@dataclass(frozen=True)
class Arrowhead:
    """A triangle that points up to `tip`."""

    tip: Point
    color: str
    length: float = ARROW_LENGTH
    width: float = 8.5


@dataclass(frozen=True)
class Words:
    """A line of text; `at` is on its baseline, at its middle or its left end."""

    text: str
    at: Point
    size: float
    color: str
    bold: bool = False
    anchor: Literal["middle", "start"] = "middle"


Shape = Plate | Stroke | Arrowhead | Words


@dataclass(frozen=True)
class Group:
    """Shapes that are placed together: their zero stands at (x, y); later shapes cover earlier ones."""

    x: float
    y: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Scene:
    """A drawing of `width` times `height` pixels on white."""

    title: str
    width: float
    height: float
    groups: tuple[Group, ...]


def frame_scene(
    genotype: Genotype, size: tuple[float, float], drawing: Iterable[Group], legend: Sequence[Shape], lines: float = 0
) -> Scene:
    """A whole drawing: the genotype's title, under it what is drawn of it, under that a legend, both in the middle.

    Args:
        size: Width and height of what is drawn.
        drawing: Placed from its left upper corner.
        lines: Height of the legend's lines after the first.
    """
    width = max(size[0], _right_end(legend), len(list_facts(genotype)) * SMALL_TEXT * _SMALL_LETTER)
    indent, top = _MARGIN + (width - size[0]) / 2, _MARGIN + _TITLE_HEIGHT
    bottom = top + size[1] + _LEGEND_GAP
    groups = (
        Group(_MARGIN, _MARGIN, title_words(genotype, width)),
        *(Group(indent + each.x, top + each.y, each.shapes) for each in drawing),
        Group(_MARGIN + (width - _right_end(legend)) / 2, bottom, tuple(legend)),
    )
    return Scene(printable(genotype.name), width + 2 * _MARGIN, bottom + lines + SWATCH + _MARGIN, groups)


def list_facts(genotype: Genotype) -> str:
    """Space, hash, trial and reward in a line, for under the name."""
    facts = [f"space {genotype.space}", f"canonical hash {genotype.canonical_hash()}"]
    origin = genotype.provenance
    facts += [f"trial {origin['trial']}"] if "trial" in origin else []
    reward = origin.get("reward")
    facts += [f"reward {reward:.4g}"] if isinstance(reward, float) else []
    return printable(" · ".join(facts))


def title_words(genotype: Genotype, width: float) -> tuple[Words, Words]:
    """Name and facts, for the left upper corner of a drawing; the name is cut to `width`."""
    name, limit = printable(genotype.name), int(width / (_TITLE_SIZE * _BOLD_LETTER))
    name = name if len(name) <= limit else name[: limit - 1] + "…"
    return (
        Words(name, (0, 14), _TITLE_SIZE, INK, bold=True, anchor="start"),
        Words(list_facts(genotype), (0, 36), SMALL_TEXT, FAINT_INK, anchor="start"),
    )


def lay_out_legend(entries: Iterable[tuple[Callable[[float], Shape], str]]) -> list[Shape]:
    """A row of signs with their words: an entry is what draws a sign of `SWATCH` at an x, and the words."""
    shapes: list[Shape] = []
    x = 0.0
    for draw, words in entries:
        shapes += (draw(x), Words(words, (x + SWATCH + 7, 11), SMALL_TEXT, FAINT_INK, anchor="start"))
        x += SWATCH + 7 + len(words) * SMALL_TEXT * _SMALL_LETTER + 22
    return shapes


def _right_end(shapes: Iterable[Shape]) -> float:
    """The x where the last text ends; 0 without."""
    ends = (s.at[0] + len(s.text) * s.size * _BOLD_LETTER for s in shapes if isinstance(s, Words))
    return max(ends, default=0.0)
