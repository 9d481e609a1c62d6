"""A whole drawing of cells as plain shapes: title, both cells, legend."""

from collections.abc import Iterator
from itertools import chain
from math import log

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.op_info import OP_INFO
from nascli.genotype.drawing.cells import palette
from nascli.genotype.drawing.cells.layout import CellLayout, Edge, Node, lay_out_cell
from nascli.genotype.drawing.shapes import (
    ARROW_LENGTH,
    EDGE_COLOR,
    FAINT_EDGE_COLOR,
    INK,
    PANEL_PAINT,
    SMALL_TEXT,
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

_BETWEEN, _CAPTION_HEIGHT = 72.0, 40.0
_CAPTION_SIZE, _LABEL_SIZE = 15.0, 13.0
_ASPECT = 1.6  # width to height that the arrangement of the two cells comes near to


def cell_scene(genotype: CellGenotype) -> Scene:
    """Both cells of a genotype, side by side or one above the other, with title and legend."""
    cells = [lay_out_cell(genotype.normal), lay_out_cell(genotype.reduction)]
    places, width, height = _arrange(cells)
    groups = []
    for cell, caption, (x, y) in zip(cells, ("Normal cell", "Reduction cell"), places, strict=True):
        under = Words(caption, (cell.width / 2, cell.height + 28), _CAPTION_SIZE, INK, bold=True)
        groups.append(Group(x, y, (*_cell_shapes(cell), under)))
    return frame_scene(genotype, (width, height), groups, _legend(cells))


def _arrange(cells: list[CellLayout]) -> tuple[list[Point], float, float]:
    """Places of the two cells, inputs on one line, and the width and height of both with their captions."""
    first, second = cells
    heights = [cell.height + _CAPTION_HEIGHT for cell in cells]
    beside = (first.width + _BETWEEN + second.width, max(heights))
    above = (max(first.width, second.width), sum(heights) + _BETWEEN / 2)
    if abs(log(beside[0] / beside[1] / _ASPECT)) <= abs(log(above[0] / above[1] / _ASPECT)):
        tallest = max(heights)
        return [(0, tallest - heights[0]), (first.width + _BETWEEN, tallest - heights[1])], *beside
    middles = [(above[0] - cell.width) / 2 for cell in cells]
    return [(middles[0], 0), (middles[1], heights[0] + _BETWEEN / 2)], *above


def _legend(cells: list[CellLayout]) -> list[Shape]:
    """A swatch for every kind of op that live blocks show, and for dead blocks where there are any."""
    ops = {node.op for cell in cells for node in cell.nodes if node.op and not node.dead}
    dead = any(panel.dead for cell in cells for panel in cell.panels)
    return palette.lay_out_kinds({OP_INFO[op].kind for op in ops}, "reaches no output" if dead else "")


def _cell_shapes(cell: CellLayout) -> Iterator[Shape]:
    for panel in cell.panels:
        yield Plate(panel.box, PANEL_PAINT, 10, dashed=panel.dead)
    # Live edges come last, to lie over the dead ones; what edges of one state share is painted once.
    for dead in (True, False):
        edges = [edge for edge in cell.edges if edge.dead is dead]
        yield from dict.fromkeys(chain.from_iterable(_edge_strokes(edge) for edge in edges))
    for edge in cell.edges:
        yield Arrowhead(edge.curves[-1][3], _edge_color(edge))
    for node in cell.nodes:
        yield from _node_shapes(node)


def _edge_color(edge: Edge) -> str:
    if edge.dead:
        return FAINT_EDGE_COLOR
    return EDGE_COLOR if edge.state is None else palette.edge_color(edge.state)


def _edge_strokes(edge: Edge) -> Iterator[Stroke]:
    *before, last = edge.curves
    x, tip = last[3]
    end = (x, tip + ARROW_LENGTH * 0.7)  # the line must not show beside the point of its arrowhead
    for curve in (*before, (last[0], last[1], end, end)):
        yield Stroke(curve, _edge_color(edge), dashed=edge.dead)


def _node_shapes(node: Node) -> Iterator[Shape]:
    paint, box = _node_paint(node), node.box
    middle = box.middle
    baseline = box.top + box.height / 2 + _LABEL_SIZE * 0.35
    yield Plate(box, paint, 7 if node.kind == "op" else box.height / 2, dashed=node.dead, hint=node.op or "")
    if node.kind == "combine":
        number = str(node.state)
        high = box.height - 6
        broad = high + 7 * (len(number) - 1)
        ink = paint.text if node.dead else INK
        yield Plate(Box(box.left + 3, box.top + 3, broad, high), Paint("#ffffff", paint.line, ink), high / 2)
        yield Words(number, (box.left + 3 + broad / 2, baseline - 0.5), SMALL_TEXT, ink, bold=True)
        middle += broad / 2
    yield Words(node.label, (middle, baseline), _LABEL_SIZE, paint.text, bold=node.kind != "op")


def _node_paint(node: Node) -> Paint:
    if node.dead:
        return palette.DEAD_PAINT
    if node.op is not None:
        return palette.KIND_PAINTS[OP_INFO[node.op].kind]
    if node.kind == "combine" or node.kind == "concat":
        return palette.COMBINE_PAINTS[node.label]
    line = palette.STATE_PAINT.line if node.state is None else palette.edge_color(node.state)
    return palette.STATE_PAINT._replace(line=line)
