"""How ops look in every picture: the figures' words for them, and one colour a family."""

from typing import Literal, NamedTuple

Family = Literal["convolution", "separable", "pool", "identity"]


class OpStyle(NamedTuple):
    """The words that stand in an op's box, and the family that colours it."""

    label: str
    family: Family


class Paint(NamedTuple):
    """Colours of a box: its area, its border, its words."""

    fill: str
    line: str
    text: str


OP_STYLES: dict[str, OpStyle] = {
    "identity": OpStyle("identity", "identity"),
    "conv_1x3_3x1": OpStyle("conv 1×3 3×1", "convolution"),
    "conv_1x7_7x1": OpStyle("conv 1×7 7×1", "convolution"),
    "dil_conv_3x3": OpStyle("dil 3×3", "convolution"),
    "avg_pool_3x3": OpStyle("avg 3×3", "pool"),
    "max_pool_3x3": OpStyle("max 3×3", "pool"),
    "max_pool_5x5": OpStyle("max 5×5", "pool"),
    "max_pool_7x7": OpStyle("max 7×7", "pool"),
    "conv_1x1": OpStyle("conv 1×1", "convolution"),
    "conv_3x3": OpStyle("conv 3×3", "convolution"),
    "sep_conv_3x3": OpStyle("sep 3×3", "separable"),
    "sep_conv_5x5": OpStyle("sep 5×5", "separable"),
    "sep_conv_7x7": OpStyle("sep 7×7", "separable"),
    "avg_pool_2x2": OpStyle("avg 2×2", "pool"),
    "avg_pool_5x5": OpStyle("avg 5×5", "pool"),
    "max_pool_2x2": OpStyle("max 2×2", "pool"),
    "dil_sep_conv_3x3": OpStyle("dil sep 3×3", "separable"),
    "dil_sep_conv_5x5": OpStyle("dil sep 5×5", "separable"),
    "bottleneck_conv_3x3": OpStyle("bottleneck 3×3", "convolution"),
    "bottleneck_conv_1x7_7x1": OpStyle("bottleneck 1×7 7×1", "convolution"),
}
"""Every op of the schema; the words follow the figures of the NASNet paper ("sep 5×5", "avg 3×3", "identity")."""

FAMILY_PAINTS: dict[str, Paint] = {
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
PANEL_PAINT = Paint("#f7f9fc", "#dde4ed", "#64748b")

INK = "#1e293b"
FAINT_INK = "#64748b"
EDGE_COLOURS = ("#b4593b", "#2f7f86")
"""Edges that leave h[i-1] and h[i]; all others are `BLOCK_EDGE_COLOUR`."""
BLOCK_EDGE_COLOUR = "#5b6879"
DEAD_EDGE_COLOUR = "#c3cad4"


def state_name(state: int) -> str:
    """What a hidden state is called in pictures and trees: h[i-1], h[i], then its number."""
    return ("h[i-1]", "h[i]")[state] if state < 2 else str(state)


def edge_colour(state: int) -> str:
    """The colour of every edge that leaves a hidden state."""
    return EDGE_COLOURS[state] if state < len(EDGE_COLOURS) else BLOCK_EDGE_COLOUR


def printable(text: str) -> str:
    """Text from outside (a genotype's name) on one line, without the characters that XML and terminals refuse."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
