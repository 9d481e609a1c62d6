"""The operations of cells: the one list of them. `nascli.models.cells.ops` has the builder of each."""

from typing import Literal, NamedTuple

OpKind = Literal["convolution", "separable", "pool", "identity"]


class OpInfo(NamedTuple):
    """The words in an op's box, after the figures of the NASNet paper, and the kind that decides its color."""

    label: str
    kind: OpKind


_NASNET: dict[str, OpInfo] = {
    "identity": OpInfo("identity", "identity"),
    "conv_1x3_3x1": OpInfo("conv 1×3 3×1", "convolution"),
    "conv_1x7_7x1": OpInfo("conv 1×7 7×1", "convolution"),
    "dil_conv_3x3": OpInfo("dil 3×3", "convolution"),
    "avg_pool_3x3": OpInfo("avg 3×3", "pool"),
    "max_pool_3x3": OpInfo("max 3×3", "pool"),
    "max_pool_5x5": OpInfo("max 5×5", "pool"),
    "max_pool_7x7": OpInfo("max 7×7", "pool"),
    "conv_1x1": OpInfo("conv 1×1", "convolution"),
    "conv_3x3": OpInfo("conv 3×3", "convolution"),
    "sep_conv_3x3": OpInfo("sep 3×3", "separable"),
    "sep_conv_5x5": OpInfo("sep 5×5", "separable"),
    "sep_conv_7x7": OpInfo("sep 7×7", "separable"),
}

OP_INFO: dict[str, OpInfo] = _NASNET | {
    "avg_pool_2x2": OpInfo("avg 2×2", "pool"),
    "avg_pool_5x5": OpInfo("avg 5×5", "pool"),
    "max_pool_2x2": OpInfo("max 2×2", "pool"),
    "dil_sep_conv_3x3": OpInfo("dil sep 3×3", "separable"),
    "dil_sep_conv_5x5": OpInfo("dil sep 5×5", "separable"),
    "bottleneck_conv_3x3": OpInfo("bottleneck 3×3", "convolution"),
    "bottleneck_conv_1x7_7x1": OpInfo("bottleneck 1×7 7×1", "convolution"),
}
"""Every op by name: those of the paper first, then what AmoebaNet, NAONet and the DARTS family need besides."""

NASNET_OPS = tuple(_NASNET)
"""The 13 operations of the paper, section 3, in its order."""
