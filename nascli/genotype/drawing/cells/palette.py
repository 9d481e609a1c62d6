"""Colors and names in every drawing of cells: one color per kind of op, and one per input state."""

from collections.abc import Collection
from functools import partial

from nascli.genotype.cells.op_info import OpKind
from nascli.genotype.drawing.shapes import EDGE_COLOR, SWATCH, Box, Paint, Plate, Shape, lay_out_legend

KIND_PAINTS: dict[OpKind, Paint] = {
    "separable": Paint("#dbe8fb", "#3a74c4", "#173a6b"),
    "convolution": Paint("#fde6cc", "#d07c1d", "#6b3c06"),
    "pool": Paint("#dcf1e0", "#379653", "#17512a"),
    "identity": Paint("#eceff3", "#8792a2", "#3c4654"),
}
COMBINE_PAINTS: dict[str, Paint] = {
    "add": Paint("#334155", "#334155", "#ffffff"),
    "concat": Paint("#6d4a9c", "#6d4a9c", "#ffffff"),
}
STATE_PAINT = Paint("#ffffff", "#334155", "#1e293b")
DEAD_PAINT = Paint("#f6f7f9", "#b6bec9", "#8b95a3")

INPUT_EDGE_COLORS = ("#b4593b", "#2f7f86")
"""Edges that leave h[i-1] and h[i]; all others are `EDGE_COLOR`."""


def state_name(state: int) -> str:
    """The name of a hidden state in images and trees: h[i-1], h[i], then its number."""
    return ("h[i-1]", "h[i]")[state] if state < 2 else str(state)


def lay_out_kinds(used: Collection[OpKind], dead: str) -> list[Shape]:
    """A legend: a swatch for every kind of op that is used, and for what is dead, with these words for it if any."""
    entries: list[tuple[str, Paint]] = [(kind, paint) for kind, paint in KIND_PAINTS.items() if kind in used]
    entries += [(dead, DEAD_PAINT)] if dead else []
    return lay_out_legend((partial(_swatch, paint), name) for name, paint in entries)


def _swatch(paint: Paint, x: float) -> Plate:
    return Plate(Box(x, 0, SWATCH, SWATCH), paint, 4, dashed=paint is DEAD_PAINT)


def edge_color(state: int) -> str:
    """The color of every edge that leaves a hidden state."""
    return INPUT_EDGE_COLORS[state] if state < len(INPUT_EDGE_COLORS) else EDGE_COLOR
