"""A whole drawing of a cell of edges as plain shapes: title, cell, legend.

The nodes stand one above the other, the input at the bottom. Edges to the next node lie between them; the others pass
on both sides, so that no two cross, whatever the cell. What changes nothing is faint; `none` is not drawn.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nascli.genotype.drawing.cells.palette import DEAD_PAINT, KIND_PAINTS, STATE_PAINT, lay_out_kinds
from nascli.genotype.drawing.edges.text import node_name
from nascli.genotype.drawing.shapes import (
    ARROW_LENGTH,
    EDGE_COLOR,
    FAINT_EDGE_COLOR,
    PANEL_PAINT,
    Arrowhead,
    Box,
    Group,
    Paint,
    Plate,
    Point,
    Scene,
    Shape,
    Stroke,
    Words,
    frame_scene,
)
from nascli.genotype.edges.formula import INNER_NODES, NONE, Edge
from nascli.genotype.edges.genotype import EdgeGenotype
from nascli.genotype.edges.op_info import OP_INFO

_PAD = 24.0
_NODE, _OP = (84.0, 34.0), (92.0, 32.0)
_FLOOR = 136.0  # from a node to the next
_SIDE = 124.0  # from the middle to the first column beside it
_COLUMNS: dict[Edge, int] = {(0, 2): -1, (1, 3): 1, (0, 3): -2}
"""The column of an edge that passes nodes; the others are in the middle, 0."""
_APART = {-2: -0.38, -1: -0.2, 0: 0.0, 1: 0.28}
"""Where an edge of a column leaves and enters nodes, in widths of a node from its middle."""
_BEND = 66.0  # height in which an edge goes from a node to its column, the same for all: so none crosses another
_LABEL_SIZE = 13.0


class _Drawn(NamedTuple):
    """An edge in the drawing: its op, the middle of its box, and where it leaves and enters nodes."""

    op: str
    dead: bool
    middle: Point
    start: Point
    end: Point


def edge_scene(genotype: EdgeGenotype) -> Scene:
    """The cell of a genotype with title and legend."""
    edges = [_place(genotype, source, node) for node, ops in enumerate(genotype.nodes, 1) for source in range(len(ops))]
    shown = [edge for edge in edges if edge.op != NONE]
    left, right = -2 * _SIDE - _OP[0] / 2 - _PAD, _SIDE + _OP[0] / 2 + _PAD
    height = _FLOOR * INNER_NODES + _NODE[1] + 2 * _PAD
    cell = (Plate(Box(left, -_PAD, right - left, height), PANEL_PAINT, 10), *_cell_shapes(shown))
    return frame_scene(genotype, (right - left, height), [Group(-left, _PAD, cell)], _legend(shown))


def _top(node: int) -> float:
    """y of a node's upper side."""
    return _FLOOR * (INNER_NODES - node)


def _place(genotype: EdgeGenotype, source: int, target: int) -> _Drawn:
    column = _COLUMNS.get((source, target), 0)
    start, end = _top(source), _top(target) + _NODE[1]
    apart = _APART[column] * _NODE[0]
    return _Drawn(
        genotype.nodes[target - 1][source],
        (source, target) not in genotype.live,
        (column * _SIDE, (start + end) / 2),
        (apart, start),
        (apart, end),
    )


def _cell_shapes(edges: list[_Drawn]) -> Iterator[Shape]:
    for edge in sorted(edges, key=lambda each: not each.dead):  # live ones lie over dead ones
        yield from _lines(edge)
    for node in range(INNER_NODES + 1):
        box = Box(-_NODE[0] / 2, _top(node), *_NODE)
        yield Plate(box, STATE_PAINT, _NODE[1] / 2)
        yield _label(node_name(node), box, STATE_PAINT, bold=True)
    for edge in edges:
        x, y = edge.middle
        box, paint = Box(x - _OP[0] / 2, y - _OP[1] / 2, *_OP), _paint(edge)
        yield Plate(box, paint, 7, dashed=edge.dead, hint=edge.op)
        yield _label(OP_INFO[edge.op].label, box, paint)


def _lines(edge: _Drawn) -> Iterator[Shape]:
    """From the source to the column, up behind the op, and to the target."""
    color = FAINT_EDGE_COLOR if edge.dead else EDGE_COLOR
    (x, y), (at, tip) = edge.middle, edge.end
    end = (at, tip + ARROW_LENGTH * 0.7)  # the line must not show beside the point of its arrowhead
    away, back = (x, max(edge.start[1] - _BEND, y + _OP[1] / 2)), (x, min(tip + _BEND, y - _OP[1] / 2))
    for one, other in ((edge.start, away), (away, (x, y)), ((x, y), back), (back, end)):
        bend = (one[1] - other[1]) * 0.55
        yield Stroke((one, (one[0], one[1] - bend), (other[0], other[1] + bend), other), color, dashed=edge.dead)
    yield Arrowhead(edge.end, color)


def _label(text: str, box: Box, paint: Paint, bold: bool = False) -> Words:
    return Words(text, (box.middle, box.top + box.height / 2 + _LABEL_SIZE * 0.35), _LABEL_SIZE, paint.text, bold=bold)


def _paint(edge: _Drawn) -> Paint:
    return DEAD_PAINT if edge.dead else KIND_PAINTS[OP_INFO[edge.op].kind]


def _legend(edges: list[_Drawn]) -> list[Shape]:
    """A swatch for every kind of op that live edges show, and for dead edges where there are any."""
    used = {OP_INFO[edge.op].kind for edge in edges if not edge.dead}
    return lay_out_kinds(used, "changes nothing" if any(edge.dead for edge in edges) else "")
