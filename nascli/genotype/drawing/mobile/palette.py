"""Colors in every drawing of mobile blocks, one per op, and the words of a block."""

from nascli.genotype.drawing.shapes import Paint
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, op_words

CONV_PAINT = Paint("#fde6cc", "#d07c1d", "#6b3c06")
DEPTHWISE_PAINT = Paint("#dcf1e0", "#379653", "#17512a")
NARROW_PAINT = Paint("#dbe8fb", "#3a74c4", "#173a6b")
WIDE_PAINT = Paint("#e6defa", "#6d4a9c", "#3b2363")
STEM_PAINT = Paint("#ffffff", "#334155", "#1e293b")

_WIDE = 5


def op_paint(op: str) -> Paint:
    """The color of an op; those that expand five times and more have one, those that expand less another."""
    if op == "conv":
        return CONV_PAINT
    if op == "depthwise":
        return DEPTHWISE_PAINT
    return WIDE_PAINT if int(op.removeprefix("mbconv")) >= _WIDE else NARROW_PAINT


def layer_words(block: MobileBlock) -> str:
    """The op and the kernel of a block: `MBConv6 5×5`."""
    return f"{op_words(block.op)} {block.kernel}×{block.kernel}"


def canonical_blocks(genotype: MobileGenotype) -> tuple[MobileBlock, ...]:
    """The blocks with the skips that they have: no drawing shows one that no layer can have."""
    return genotype.canonical().blocks
