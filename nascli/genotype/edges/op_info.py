"""The words and the kind of each op on an edge."""

from nascli.genotype.cells.op_info import OpInfo
from nascli.genotype.edges.formula import NONE, POOL, SKIP

OP_INFO: dict[str, OpInfo] = {
    NONE: OpInfo("none", "identity"),
    SKIP: OpInfo("skip", "identity"),
    "nor_conv_1x1": OpInfo("conv 1×1", "convolution"),
    "nor_conv_3x3": OpInfo("conv 3×3", "convolution"),
    POOL: OpInfo("avg 3×3", "pool"),
}
"""Every op by its published name; the same names as `nascli.genotype.edges.formula.OPS`."""
