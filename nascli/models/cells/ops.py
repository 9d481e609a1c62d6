"""Operations: what transforms one hidden state inside a block. One signature: (channels in, channels out, stride).

An op is a *prefix* without weights (nothing, ReLU, or a pool) followed by a *body* with weights. The cell computes a
prefix once for each state and hands it to every op that begins with it, so a ReLU or pool of one state is never done
twice.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models import layers
from nascli.models.layers import BatchNorm, conv
from nascli.models.max_pool import max_pool2d


@dataclass(frozen=True)
class SharedPrefix:
    """The beginning of an op, before its weights: computed once per hidden state for all ops that read it.

    Args:
        zero_padded: The pool counts zeros around the map.
    """

    kind: Literal["nothing", "relu", "max_pool", "avg_pool"] = "nothing"
    kernel: int = 1
    stride: int = 1
    zero_padded: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to (N, C, H, W)."""
        if self.kind == "relu":
            return F.relu(x)
        if self.zero_padded:
            pool = max_pool2d if self.kind == "max_pool" else F.avg_pool2d
            return pool(layers.pad_same(x, self.kernel, self.stride), self.kernel, self.stride)
        if self.kind == "max_pool":
            return layers.max_pool(x, self.kernel, self.stride)
        if self.kind == "avg_pool":
            return layers.avg_pool(x, self.kernel, self.stride)
        return x


class Op(nn.Module):
    """A body, and the prefix whose result it wants as its input.

    Args:
        prefix: Computed by the cell, shared between ops on the same state.
        body: Layers with weights; none for a pool or an identity that keep the width.
    """

    def __init__(self, prefix: SharedPrefix, *body: nn.Module) -> None:
        super().__init__()
        self.prefix = prefix
        self.body = nn.Sequential(*body)

    def forward(self, prefixed: Tensor) -> Tensor:
        """(N, C_in, H, W), the prefix applied, to (N, C_out, H', W')."""
        result: Tensor = self.body(prefixed)
        return result


def pad_pools(network: nn.Module, kinds: Collection[str]) -> None:
    """Let the strided pools of these kinds, `avg` or `max`, count zeros around the map."""
    for op in network.modules():
        if isinstance(op, Op) and op.prefix.stride > 1 and op.prefix.kind.removesuffix("_pool") in kinds:
            op.prefix = replace(op.prefix, zero_padded=True)


OpBuilder = Callable[[int, int, int], Op]
Layers = tuple[nn.Module, ...]

_RELU = SharedPrefix("relu")


def _conv_bn(kernel: int, channels_in: int, channels_out: int, stride: int = 1, *, dilation: int = 1) -> Layers:
    return conv(channels_in, channels_out, kernel, stride, dilation=dilation), BatchNorm(channels_out)


def _separable(kernel: int, channels_in: int, channels_out: int, stride: int, *, dilation: int = 1) -> Layers:
    """Depthwise at the input's own width, then pointwise; nothing between (paper, appendix A.4)."""
    depthwise = conv(channels_in, channels_in, kernel, stride, groups=channels_in, dilation=dilation)
    return depthwise, *_conv_bn(1, channels_in, channels_out)


def _separable_twice(kernel: int, channels_in: int, channels_out: int, stride: int) -> Layers:
    """Separable convolution applied twice, ReLU before each (paper, appendix A.4)."""
    first = _separable(kernel, channels_in, channels_out, stride)
    return *first, nn.ReLU(inplace=True), *_separable(kernel, channels_out, channels_out, 1)


def _factorize(length: int, channels_in: int, channels_out: int, stride: int) -> Layers:
    """1xk then kx1, each with its share of the stride, batch norm and ReLU between (AmoebaNet's code)."""
    return (
        conv(channels_in, channels_out, (1, length), (1, stride)),
        BatchNorm(channels_out),
        nn.ReLU(inplace=True),
        conv(channels_out, channels_out, (length, 1), (stride, 1)),
        BatchNorm(channels_out),
    )


def _bottleneck(inner: Callable[[int, int, int], Layers], channels_in: int, channels_out: int, stride: int) -> Layers:
    """1x1 to a quarter of the width, ReLU-op, ReLU-1x1 back (AmoebaNet's code); the op alone under 4 filters."""
    narrow = channels_out // 4
    if narrow < 1:
        return inner(channels_in, channels_out, stride)
    return (
        *_conv_bn(1, channels_in, narrow),
        nn.ReLU(inplace=True),
        *inner(narrow, narrow, stride),
        nn.ReLU(inplace=True),
        *_conv_bn(1, narrow, channels_out),
    )


def _relu_op(layers: Callable[[int, int, int], Layers], channels_in: int, channels_out: int, stride: int) -> Op:
    return Op(_RELU, *layers(channels_in, channels_out, stride))


def _identity(channels_in: int, channels_out: int, stride: int) -> Op:
    """Pass the state on; where it must stride or change width: ReLU, 1x1 convolution, batch norm (released code)."""
    if stride == 1 and channels_in == channels_out:
        return Op(SharedPrefix())
    return Op(_RELU, *_conv_bn(1, channels_in, channels_out, stride))


def _pool(kind: Literal["max_pool", "avg_pool"], kernel: int, channels_in: int, channels_out: int, stride: int) -> Op:
    """Pool; where the width must change a 1x1 convolution and batch norm follow, without ReLU (released code)."""
    body = () if channels_in == channels_out else _conv_bn(1, channels_in, channels_out)
    return Op(SharedPrefix(kind, kernel, stride), *body)


OPS: dict[str, OpBuilder] = {
    "identity": _identity,
    "conv_1x3_3x1": partial(_relu_op, partial(_factorize, 3)),
    "conv_1x7_7x1": partial(_relu_op, partial(_factorize, 7)),
    "dil_conv_3x3": partial(_relu_op, partial(_conv_bn, 3, dilation=2)),  # the paper gives no dilation; 2 is chosen
    "avg_pool_3x3": partial(_pool, "avg_pool", 3),
    "max_pool_3x3": partial(_pool, "max_pool", 3),
    "max_pool_5x5": partial(_pool, "max_pool", 5),
    "max_pool_7x7": partial(_pool, "max_pool", 7),
    "conv_1x1": partial(_relu_op, partial(_conv_bn, 1)),
    "conv_3x3": partial(_relu_op, partial(_conv_bn, 3)),
    "sep_conv_3x3": partial(_relu_op, partial(_separable_twice, 3)),
    "sep_conv_5x5": partial(_relu_op, partial(_separable_twice, 5)),
    "sep_conv_7x7": partial(_relu_op, partial(_separable_twice, 7)),
    "avg_pool_2x2": partial(_pool, "avg_pool", 2),
    "avg_pool_5x5": partial(_pool, "avg_pool", 5),
    "max_pool_2x2": partial(_pool, "max_pool", 2),
    "dil_sep_conv_3x3": partial(_relu_op, partial(_separable, 3, dilation=2)),  # applied once (DARTS)
    "dil_sep_conv_5x5": partial(_relu_op, partial(_separable, 5, dilation=2)),
    "bottleneck_conv_3x3": partial(_relu_op, partial(_bottleneck, partial(_conv_bn, 3))),
    "bottleneck_conv_1x7_7x1": partial(_relu_op, partial(_bottleneck, partial(_factorize, 7))),
}
"""Every op by name; the same names as `nascli.genotype.cells.op_info.OP_INFO`."""
