"""The layout of a cell: boxes and curves in pixels, x to the right, y down, the cell growing upwards.

A block is a panel with its two ops below and their combination above; edges arrive from below and leave at the top.
Between rows edges are curves that stay in the gap; through a row they run straight on their lane. So no edge touches
a box that is not its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nascli.genotype.cells.op_info import OP_INFO
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.drawing.cells.coordinates import settle
from nascli.genotype.drawing.cells.ordering import Link, Slot, order_rows
from nascli.genotype.drawing.cells.palette import state_name
from nascli.genotype.drawing.shapes import Box, Curve, Point

Kind = Literal["input", "op", "combine", "concat", "output"]

OP_HEIGHT = 30.0
COMBINE_WIDTH, COMBINE_HEIGHT = 92.0, 26.0
STATE_WIDTH, STATE_HEIGHT = 84.0, 32.0
CONCAT_HEIGHT = 28.0

_LETTER = 8.2  # width of a letter at the size of labels, in the widest of the fonts asked for
_OP_PADDING, _OP_MIN_WIDTH, _OP_SPACING = 11.0, 74.0, 10.0
_PANEL_SIDE, _PANEL_TOP, _PANEL_MIDDLE, _PANEL_BOTTOM = 10.0, 10.0, 26.0, 18.0
_PANEL_HEIGHT = _PANEL_TOP + COMBINE_HEIGHT + _PANEL_MIDDLE + OP_HEIGHT + _PANEL_BOTTOM
_SPACING = 22.0
_GAP, _GAP_SLOPE, _GAP_MOST = 42.0, 0.11, 120.0  # height between rows: grows with the widest step in it
_STRAIGHT_END = 12.0  # an arrow arrives straight, so that its head does not lean
_COMBINE_ENTRY = 18.0
_CONCAT_GAP, _CONCAT_OVERHANG, _CONCAT_MIN_WIDTH = 34.0, 30.0, 130.0
_OUTPUT_GAP = 32.0


@dataclass(frozen=True)
class Node:
    """A box with words.

    `state` is the hidden state it is, or is part of (None for concat and output); `op` the name of an op's op.
    """

    key: str
    kind: Kind
    label: str
    box: Box
    state: int | None = None
    op: str | None = None
    dead: bool = False


@dataclass(frozen=True)
class Edge:
    """An arrow between two nodes, by their keys; edges that leave one state share their first curves."""

    source: str
    target: str
    state: int | None
    curves: tuple[Curve, ...]
    dead: bool = False


@dataclass(frozen=True)
class Panel:
    """The ground that holds a block's two ops and its combination; dead if the block reaches no output."""

    state: int
    box: Box
    dead: bool


@dataclass(frozen=True)
class CellLayout:
    """A cell, placed; everything lies between (0, 0) and (width, height)."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    panels: tuple[Panel, ...]
    width: float
    height: float


def lay_out_cell(cell: CellSpec) -> CellLayout:
    """Place a cell: rows, order along them, x of every slot, then boxes and curves.

    The two ops of a block stand in the order that crosses fewer edges; that order does not change the network.
    """
    placement = _Placement(cell)
    nodes = [*placement.inputs(), *placement.outputs()]
    edges = placement.output_edges()
    for state in placement.shapes:
        nodes += placement.block_nodes(state)
        edges += placement.block_edges(state)
    panels = tuple(placement.panel(state) for state in placement.shapes)
    return CellLayout(tuple(nodes), tuple(edges), panels, placement.width, placement.height)


class _Shape(NamedTuple):
    """A block's measures: the widths of its panel and ops, and how far the ops' middles stand from the panel's."""

    width: float
    op_widths: tuple[float, float]
    op_shifts: tuple[float, float]


class _Placement:
    """A cell with an x for every slot and a y for every row, from which boxes and curves follow."""

    def __init__(self, cell: CellSpec) -> None:
        self.cell = cell
        self.live = cell.live
        rows = order_rows(cell)
        self.row_of = {slot.state: r for r, row in enumerate(rows.slots) for slot in row if not slot.lane}
        self.shapes: dict[int, _Shape] = {}
        for k, block in enumerate(cell.blocks):
            below = self.row_of[k + 2] - 1
            first, second = (rows.slots[below].index(self._slot(state, below)) for state in block.inputs)
            self.shapes[k + 2] = _shape(block, swapped=first > second)
        self.entries = {(state, half): shape.op_shifts[half] for state, shape in self.shapes.items() for half in (0, 1)}
        widths = {slot: self._slot_width(slot) for row in rows.slots for slot in row}
        self.x = settle(rows, widths, self.entries, spacing=_SPACING)
        self.bar, self.width = self._shift_to_zero(widths, len(rows.slots) - 1)
        self.tops, self.height = _row_tops([self._widest_step(between) for between in rows.links])

    def inputs(self) -> list[Node]:
        """The nodes of h[i-1] and h[i]."""
        return [
            Node(str(s), "input", state_name(s), self._box(s, self.tops[0], STATE_WIDTH, STATE_HEIGHT), s)
            for s in (0, 1)
        ]

    def outputs(self) -> list[Node]:
        """The nodes of the concat and of h[i+1] above it."""
        above = Box(self.bar.middle - STATE_WIDTH / 2, 0, STATE_WIDTH, STATE_HEIGHT)
        return [Node("concat", "concat", "concat", self.bar), Node("output", "output", "h[i+1]", above)]

    def output_edges(self) -> list[Edge]:
        """The edges into the concat, straight up from each state's last slot, and the one out of it."""
        edges = [Edge("concat", "output", None, (_straight((self.bar.middle, self.bar.top), STATE_HEIGHT),))]
        for state in self.cell.concat:
            climb = self._climb(state, len(self.tops) - 1)
            edges.append(Edge(str(state), "concat", state, (*climb, _straight(climb[-1][3], self.bar.bottom))))
        return edges

    def panel(self, state: int) -> Panel:
        """The ground of a block."""
        box = self._box(state, self.tops[self.row_of[state]], self.shapes[state].width, _PANEL_HEIGHT)
        return Panel(state, box, state not in self.live)

    def block_nodes(self, state: int) -> list[Node]:
        """A block's combination and its two ops."""
        block, shape, dead = self.cell.blocks[state - 2], self.shapes[state], state not in self.live
        top = self.tops[self.row_of[state]] + _PANEL_TOP
        pill = self._box(state, top, COMBINE_WIDTH, COMBINE_HEIGHT)
        nodes = [Node(str(state), "combine", block.combine, pill, state, dead=dead)]
        top += COMBINE_HEIGHT + _PANEL_MIDDLE
        for half, op in enumerate(block.ops):
            box = self._box(state, top, shape.op_widths[half], OP_HEIGHT, shift=shape.op_shifts[half])
            nodes.append(Node(f"{state}.{half}", "op", OP_INFO[op].label, box, state, op, dead))
        return nodes

    def block_edges(self, state: int) -> list[Edge]:
        """The edges into a block's two ops, and from these to the combination."""
        edges = []
        middle, top, dead = self.x[self._slot(state)], self.tops[self.row_of[state]], state not in self.live
        pill = top + _PANEL_TOP + COMBINE_HEIGHT
        for half, read in enumerate(self.cell.blocks[state - 2].inputs):
            key, shift = f"{state}.{half}", self.entries[state, half]
            climb = self._climb(read, self.row_of[state] - 1)
            entry = (middle + shift, top + _PANEL_HEIGHT)
            into_op = (*climb, _bend(climb[-1][3], entry), _straight(entry, entry[1] - _PANEL_BOTTOM))
            edges.append(Edge(str(read), key, read, into_op, dead))
            below = (middle + (_COMBINE_ENTRY if shift > 0 else -_COMBINE_ENTRY), pill + _STRAIGHT_END)
            into_pill = (_bend((middle + shift, pill + _PANEL_MIDDLE), below), _straight(below, pill))
            edges.append(Edge(key, str(state), None, into_pill, dead))
        return edges

    def _climb(self, state: int, row: int) -> list[Curve]:
        """From a state's own box, along its lanes, to the upper edge of `row`."""
        own = self.row_of[state]
        curves = [_straight((self.x[self._slot(state)], self.tops[own] + (_PANEL_TOP if own else 0)), self.tops[own])]
        for passed in range(own + 1, row + 1):
            lane = (self.x[self._slot(state, passed)], self.tops[passed] + _PANEL_HEIGHT)
            curves += [_bend(curves[-1][3], lane), _straight(lane, self.tops[passed])]
        return curves

    def _slot(self, state: int, row: int | None = None) -> Slot:
        """The slot of a state, or its lane in `row`."""
        own = self.row_of[state]
        return Slot(state, own, lane=False) if row is None else Slot(state, row, lane=row > own)

    def _slot_width(self, slot: Slot) -> float:
        if slot.lane:
            return 0.0
        return self.shapes[slot.state].width if slot.state > 1 else STATE_WIDTH

    def _shift_to_zero(self, widths: Mapping[Slot, float], top_row: int) -> tuple[Box, float]:
        """Move everything so that the leftmost side is at 0; the concat's box and the width of the whole."""
        arriving = [self.x[self._slot(state, top_row)] for state in self.cell.concat]
        middle = (min(arriving) + max(arriving)) / 2
        bar = max(max(arriving) - min(arriving) + 2 * _CONCAT_OVERHANG, _CONCAT_MIN_WIDTH)
        left = min(middle - bar / 2, *(x - widths[slot] / 2 for slot, x in self.x.items()))
        right = max(middle + bar / 2, *(x + widths[slot] / 2 for slot, x in self.x.items()))
        self.x = {slot: x - left for slot, x in self.x.items()}
        return Box(middle - bar / 2 - left, STATE_HEIGHT + _OUTPUT_GAP, bar, CONCAT_HEIGHT), right - left

    def _widest_step(self, links: Sequence[Link]) -> float:
        """The largest sideways step of these links."""
        return max(
            abs(
                self.x[link.upper]
                + (0 if link.half is None else self.entries[link.upper.state, link.half])
                - self.x[link.lower]
            )
            for link in links
        )

    def _box(self, state: int, top: float, width: float, height: float, *, shift: float = 0.0) -> Box:
        return Box(self.x[self._slot(state)] + shift - width / 2, top, width, height)


def _shape(block: Block, *, swapped: bool) -> _Shape:
    first, second = (max(_OP_MIN_WIDTH, len(OP_INFO[op].label) * _LETTER + 2 * _OP_PADDING) for op in block.ops)
    both = first + _OP_SPACING + second
    shifts = ((both - first) / 2, (second - both) / 2) if swapped else ((first - both) / 2, (both - second) / 2)
    return _Shape(max(both, COMBINE_WIDTH) + 2 * _PANEL_SIDE, (first, second), shifts)


def _row_tops(steps: Sequence[float]) -> tuple[list[float], float]:
    """The y of every row's upper edge, row 0 first, and the height of the whole; `steps[r]` is above row r."""
    y = STATE_HEIGHT + _OUTPUT_GAP + CONCAT_HEIGHT + _CONCAT_GAP
    tops = []
    for step in reversed(steps):
        tops.append(y)
        y += _PANEL_HEIGHT + min(_GAP + _GAP_SLOPE * step, _GAP_MOST)
    return [y, *reversed(tops)], y + STATE_HEIGHT


def _straight(start: Point, y: float) -> Curve:
    x, from_y = start
    return start, (x, from_y + (y - from_y) / 3), (x, from_y + (y - from_y) * 2 / 3), (x, y)


def _bend(start: Point, end: Point) -> Curve:
    """A curve that leaves and arrives upright."""
    middle = (start[1] + end[1]) / 2
    return start, (start[0], middle), (end[0], middle), end
