"""Colors and words in every drawing of mobile blocks: one color per op, deeper the more a block expands."""

from nascli.genotype.drawing.shapes import Paint
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, expansion_of, op_words

CONV_PAINT = Paint("#fde6cc", "#d07c1d", "#6b3c06")
DEPTHWISE_PAINT = Paint("#dcf1e0", "#379653", "#17512a")
END_PAINT = Paint("#ffffff", "#334155", "#1e293b")
OUTSIDE_PAINT = Paint("#f6f7f9", "#b6bec9", "#64748b")

_LEAST, _MOST = 2, 9  # expansions
_LEAST_PAINT = Paint("#e3f0fd", "#5b93d6", "#173a6b")
_MOST_PAINT = Paint("#cdb8ee", "#5b3796", "#2e1760")


def op_paint(op: str) -> Paint:
    """The color of an op."""
    if op in ("conv", "linear"):
        return CONV_PAINT
    if op == "depthwise":
        return DEPTHWISE_PAINT
    depth = (expansion_of(op) - _LEAST) / (_MOST - _LEAST)
    return Paint(*(_mix(one, other, depth) for one, other in zip(_LEAST_PAINT, _MOST_PAINT, strict=True)))


def terminal_color(op: str) -> str:
    """The color of an op in a terminal, which has few."""
    known = {"conv": "yellow", "linear": "yellow", "depthwise": "green"}
    return known.get(op) or ("magenta" if expansion_of(op) > (_LEAST + _MOST) / 2 - 1 else "blue")


def layer_words(block: MobileBlock) -> str:
    """The op and the kernel of a block: `MBConv6 5×5`."""
    return f"{op_words(block.op)} {block.kernel}×{block.kernel}"


def block_words(block: MobileBlock) -> str:
    """All of a block in one line: `3 × MBConv6 5×5 · SE 0.25 · stride 2 · skip identity → 160`."""
    said = [f"{block.layers} × {layer_words(block)}" if block.layers > 1 else layer_words(block)]
    said += [f"SE {block.se:.4g}"] if block.se else []
    said += ["stride 2"] if block.stride > 1 else []
    said += [f"skip {block.skip}"] if block.skip != "none" else []
    return f"{' · '.join(said)} → {block.filters}"


def drawn_blocks(genotype: MobileGenotype) -> tuple[MobileBlock, ...]:
    """The blocks with the skips that they have: no drawing shows one that no layer can have."""
    return genotype.canonical().blocks


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + bytes(round(a + (b - a) * share) for a, b in pairs).hex()
