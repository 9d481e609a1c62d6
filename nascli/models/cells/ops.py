"""Operations: what transforms one hidden state inside a block. One signature: (channels in, channels out, stride).

An op is a *prefix* without weights (nothing, ReLU, or a pool) followed by a *body* with weights. The cell computes a
prefix once for each state and hands it to every op that begins with it, so a ReLU or pool of one state is never done
twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models import layers
from nascli.models.layers import conv


@dataclass(frozen=True)
class SharedPrefix:
    """The part of an op before its weights: computed once per hidden state for all ops that read it."""

    kind: Literal["nothing", "relu", "max_pool", "avg_pool"] = "nothing"
    kernel: int = 1
    stride: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to (N, C, H, W)."""
        if self.kind == "relu":
            return F.relu(x)
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


OpBuilder = Callable[[int, int, int], Op]

_RELU = SharedPrefix("relu")


def _project(channels_in: int, channels_out: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out)


def _identity(channels_in: int, channels_out: int, stride: int) -> Op:
    """Pass the state on; where it must stride or change width: ReLU, 1x1 convolution, batch norm (released code)."""
    if stride == 1 and channels_in == channels_out:
        return Op(SharedPrefix())
    return Op(_RELU, *_project(channels_in, channels_out, stride))


def _pool_op(
    kind: Literal["max_pool", "avg_pool"], kernel: int, channels_in: int, channels_out: int, stride: int
) -> Op:
    """Pool; where the width must change a 1x1 convolution and batch norm follow, without ReLU (released code)."""
    body = () if channels_in == channels_out else _project(channels_in, channels_out)
    return Op(SharedPrefix(kind, kernel, stride), *body)


def _separable(kernel: int, dilation: int, channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    """Depthwise at the input's own width, then pointwise; nothing between (paper, appendix A.4)."""
    return (
        conv(channels_in, channels_in, kernel, stride, groups=channels_in, dilation=dilation),
        conv(channels_in, channels_out, 1),
        nn.BatchNorm2d(channels_out),
    )


def _sep_conv(kernel: int, channels_in: int, channels_out: int, stride: int) -> Op:
    """Separable convolution applied twice, ReLU before each (paper, appendix A.4)."""
    return Op(
        _RELU,
        *_separable(kernel, 1, channels_in, channels_out, stride),
        nn.ReLU(inplace=True),
        *_separable(kernel, 1, channels_out, channels_out, 1),
    )


def _dil_sep_conv(kernel: int, channels_in: int, channels_out: int, stride: int) -> Op:
    """Separable convolution of dilation 2, applied once (DARTS)."""
    return Op(_RELU, *_separable(kernel, 2, channels_in, channels_out, stride))


def _conv(kernel: int, dilation: int, channels_in: int, channels_out: int, stride: int) -> Op:
    """ReLU, convolution, batch norm. The paper gives no dilation for its dilated 3x3; 2 is chosen."""
    return Op(_RELU, conv(channels_in, channels_out, kernel, stride, dilation=dilation), nn.BatchNorm2d(channels_out))


def _factorized(length: int, channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    """1xk then kx1, each with its share of the stride, batch norm and ReLU between (AmoebaNet's code)."""
    return (
        conv(channels_in, channels_out, (1, length), (1, stride)),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        conv(channels_out, channels_out, (length, 1), (stride, 1)),
        nn.BatchNorm2d(channels_out),
    )


def _factorized_conv(length: int, channels_in: int, channels_out: int, stride: int) -> Op:
    """ReLU, 1xk, kx1, batch norm."""
    return Op(_RELU, *_factorized(length, channels_in, channels_out, stride))


def _bottleneck(
    inner: Callable[[int, int, int], tuple[nn.Module, ...]], channels_in: int, channels_out: int, stride: int
) -> Op:
    """ReLU-1x1 to a quarter of the width, ReLU-op, ReLU-1x1 back (AmoebaNet's code); plain under 4 filters."""
    narrow = channels_out // 4
    if narrow < 1:
        return Op(_RELU, *inner(channels_in, channels_out, stride))
    return Op(
        _RELU,
        *_project(channels_in, narrow),
        nn.ReLU(inplace=True),
        *inner(narrow, narrow, stride),
        nn.ReLU(inplace=True),
        *_project(narrow, channels_out),
    )


def _conv3x3(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    return conv(channels_in, channels_out, 3, stride), nn.BatchNorm2d(channels_out)


OPS: dict[str, OpBuilder] = {
    "identity": _identity,
    "conv_1x3_3x1": partial(_factorized_conv, 3),
    "conv_1x7_7x1": partial(_factorized_conv, 7),
    "dil_conv_3x3": partial(_conv, 3, 2),
    "avg_pool_3x3": partial(_pool_op, "avg_pool", 3),
    "max_pool_3x3": partial(_pool_op, "max_pool", 3),
    "max_pool_5x5": partial(_pool_op, "max_pool", 5),
    "max_pool_7x7": partial(_pool_op, "max_pool", 7),
    "conv_1x1": partial(_conv, 1, 1),
    "conv_3x3": partial(_conv, 3, 1),
    "sep_conv_3x3": partial(_sep_conv, 3),
    "sep_conv_5x5": partial(_sep_conv, 5),
    "sep_conv_7x7": partial(_sep_conv, 7),
    "avg_pool_2x2": partial(_pool_op, "avg_pool", 2),
    "avg_pool_5x5": partial(_pool_op, "avg_pool", 5),
    "max_pool_2x2": partial(_pool_op, "max_pool", 2),
    "dil_sep_conv_3x3": partial(_dil_sep_conv, 3),
    "dil_sep_conv_5x5": partial(_dil_sep_conv, 5),
    "bottleneck_conv_3x3": partial(_bottleneck, _conv3x3),
    "bottleneck_conv_1x7_7x1": partial(_bottleneck, partial(_factorized, 7)),
}
"""Every op by name; the same names as `nascli.genotype.cells.op_info.OP_INFO`."""
