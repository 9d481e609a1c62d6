"""A whole drawing as plain shapes: title, both cells, legend. SVG and PNG are two spellings of one scene."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import log
from typing import Literal

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.drawing import palette
from nascli.genotype.drawing.layout import Box, CellLayout, Curve, Edge, Node, Point, lay_out_cell
from nascli.genotype.drawing.palette import Paint, printable

_MARGIN, _BETWEEN = 36.0, 72.0
_TITLE_HEIGHT, _CAPTION_HEIGHT, _LEGEND_HEIGHT = 64.0, 40.0, 34.0
_TITLE_SIZE, _CAPTION_SIZE, _LABEL_SIZE, _SMALL_SIZE = 20.0, 15.0, 13.0, 11.5
_LETTER, _SMALL_LETTER = 0.68, 0.6  # width of a bold and of a plain letter against its size, in the widest font
_ASPECT = 1.6  # width to height that the arrangement of the two cells comes near to
_LINE, _ARROW_LENGTH, _ARROW_WIDTH = 1.7, 9.0, 8.5
_SWATCH = 14.0


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
    colour: str
    width: float = _LINE
    dashed: bool = False


@dataclass(frozen=True)
class Arrowhead:
    """A triangle that points up to `tip`."""

    tip: Point
    colour: str
    length: float = _ARROW_LENGTH
    width: float = _ARROW_WIDTH


@dataclass(frozen=True)
class Words:
    """A line of text; `at` is on its baseline, at its middle or its left end."""

    text: str
    at: Point
    size: float
    colour: str
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


def build_scene(genotype: CellGenotype) -> Scene:
    """Both cells of a genotype, side by side or one above the other, with title and legend."""
    cells = [lay_out_cell(genotype.normal), lay_out_cell(genotype.reduction)]
    title, legend = _title(genotype), _legend(cells)
    places, inner_width, inner_height = _arrange(cells)
    width = max(inner_width, _extent(legend))
    indent = _MARGIN + (width - inner_width) / 2
    title[0] = _shortened(title[0], width)
    groups = [Group(_MARGIN, _MARGIN, tuple(title))]
    for cell, caption, (x, y) in zip(cells, ("Normal cell", "Reduction cell"), places, strict=True):
        under = Words(caption, (cell.width / 2, cell.height + 28), _CAPTION_SIZE, palette.INK, bold=True)
        groups.append(Group(indent + x, _MARGIN + _TITLE_HEIGHT + y, (*_cell_shapes(cell), under)))
    bottom = _MARGIN + _TITLE_HEIGHT + inner_height + _LEGEND_HEIGHT
    groups.append(Group(_MARGIN + (width - _extent(legend)) / 2, bottom, tuple(legend)))
    return Scene(printable(genotype.name), width + 2 * _MARGIN, bottom + _SWATCH + _MARGIN, tuple(groups))


def _arrange(cells: list[CellLayout]) -> tuple[list[Point], float, float]:
    """Where the two cells stand, inputs on one line, and the width and height of both with their captions."""
    first, second = cells
    heights = [cell.height + _CAPTION_HEIGHT for cell in cells]
    beside = (first.width + _BETWEEN + second.width, max(heights))
    above = (max(first.width, second.width), sum(heights) + _BETWEEN / 2)
    if abs(log(beside[0] / beside[1] / _ASPECT)) <= abs(log(above[0] / above[1] / _ASPECT)):
        tallest = max(heights)
        return [(0, tallest - heights[0]), (first.width + _BETWEEN, tallest - heights[1])], *beside
    middles = [(above[0] - cell.width) / 2 for cell in cells]
    return [(middles[0], 0), (middles[1], heights[0] + _BETWEEN / 2)], *above


def _title(genotype: CellGenotype) -> list[Words]:
    facts = [f"space {genotype.space}", f"canonical hash {genotype.canonical_hash()}"]
    origin = genotype.provenance
    facts += [f"trial {origin['trial']}"] if "trial" in origin else []
    facts += [f"reward {origin['reward']:.4g}"] if isinstance(origin.get("reward"), float) else []
    return [
        Words(printable(genotype.name), (0, 14), _TITLE_SIZE, palette.INK, bold=True, anchor="start"),
        Words(printable(" · ".join(facts)), (0, 36), _SMALL_SIZE, palette.FAINT_INK, anchor="start"),
    ]


def _shortened(words: Words, width: float) -> Words:
    most = int(width / (words.size * _LETTER))
    text = words.text if len(words.text) <= most else words.text[: most - 1] + "…"
    return Words(text, words.at, words.size, words.colour, words.bold, words.anchor)


def _legend(cells: list[CellLayout]) -> list[Shape]:
    """A swatch for every family that live blocks show, and for dead blocks where there are any."""
    ops = {node.op for cell in cells for node in cell.nodes if node.op and not node.dead}
    used = {palette.OP_STYLES[op].family for op in ops}
    entries = [(family, paint) for family, paint in palette.FAMILY_PAINTS.items() if family in used]
    dead = any(panel.dead for cell in cells for panel in cell.panels)
    shapes: list[Shape] = []
    x = 0.0
    for name, paint in [*entries, *([("reaches no output", palette.DEAD_PAINT)] if dead else [])]:
        shapes.append(Plate(Box(x, 0, _SWATCH, _SWATCH), paint, 4, dashed=paint is palette.DEAD_PAINT))
        shapes.append(Words(name, (x + _SWATCH + 7, 11), _SMALL_SIZE, palette.FAINT_INK, anchor="start"))
        x += _SWATCH + 7 + len(name) * _SMALL_SIZE * _SMALL_LETTER + 22
    return shapes


def _extent(shapes: Iterable[Shape]) -> float:
    """The x where the last text ends."""
    return max(s.at[0] + len(s.text) * s.size * _LETTER for s in shapes if isinstance(s, Words))


def _cell_shapes(cell: CellLayout) -> Iterator[Shape]:
    for panel in cell.panels:
        yield Plate(panel.box, palette.PANEL_PAINT, 10, dashed=panel.dead)
    # Live edges come last, to lie over the dead ones; what edges of one state share is painted once.
    for dead in (True, False):
        edges = [edge for edge in cell.edges if edge.dead is dead]
        yield from dict.fromkeys(chain.from_iterable(_edge_strokes(edge) for edge in edges))
    for edge in cell.edges:
        yield Arrowhead(edge.curves[-1][3], _edge_colour(edge))
    for node in cell.nodes:
        yield from _node_shapes(node)


def _edge_colour(edge: Edge) -> str:
    if edge.dead:
        return palette.DEAD_EDGE_COLOUR
    return palette.BLOCK_EDGE_COLOUR if edge.state is None else palette.edge_colour(edge.state)


def _edge_strokes(edge: Edge) -> Iterator[Stroke]:
    *before, last = edge.curves
    x, tip = last[3]
    end = (x, tip + _ARROW_LENGTH * 0.7)  # the line must not show beside the point of its arrowhead
    for curve in (*before, (last[0], last[1], end, end)):
        yield Stroke(curve, _edge_colour(edge), dashed=edge.dead)


def _node_shapes(node: Node) -> Iterator[Shape]:
    paint, box = _node_paint(node), node.box
    middle = box.middle
    baseline = box.top + box.height / 2 + _LABEL_SIZE * 0.35
    yield Plate(box, paint, 7 if node.kind == "op" else box.height / 2, dashed=node.dead, hint=node.op or "")
    if node.kind == "combine":
        number = str(node.state)
        high = box.height - 6
        broad = high + 7 * (len(number) - 1)
        ink = paint.text if node.dead else palette.INK
        yield Plate(Box(box.left + 3, box.top + 3, broad, high), Paint("#ffffff", paint.line, ink), high / 2)
        yield Words(number, (box.left + 3 + broad / 2, baseline - 0.5), _SMALL_SIZE, ink, bold=True)
        middle += broad / 2
    yield Words(node.label, (middle, baseline), _LABEL_SIZE, paint.text, bold=node.kind != "op")


def _node_paint(node: Node) -> Paint:
    if node.dead:
        return palette.DEAD_PAINT
    if node.op is not None:
        return palette.FAMILY_PAINTS[palette.OP_STYLES[node.op].family]
    if node.kind == "combine" or node.kind == "concat":
        return palette.COMBINE_PAINTS[node.label]
    line = palette.STATE_PAINT.line if node.state is None else palette.edge_colour(node.state)
    return palette.STATE_PAINT._replace(line=line)
