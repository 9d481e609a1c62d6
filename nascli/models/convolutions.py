"""The two convolutions that cells are made of, computed in the way that is fastest on a CPU.

Shapes: N batch, C channels, H height, W width. On any other device, in another number format or memory layout both are
`torch.nn.Conv2d` and nothing else. What was measured stands in docs/performance.md.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW_PIXELS = 4096
_LITTLE_WORK = 8_000_000
"""Pixels (N H W) and multiply-accumulates up to which the product of matrices is the faster 1x1 convolution."""

_FAST_WIDTH = 3
"""Columns of a kernel up to which oneDNN's gradient of depthwise weights is a depthwise one; rows do not matter. With
a stride a single column is slow again, so that a kernel is split as evenly as can be."""

_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
"""Asked once: a compiler of blocks cannot look into the question."""


class Pointwise(nn.Conv2d):
    """A 1x1 convolution with stride 1; a small one on a CPU as the matrix product that it is.

    (N, C_in, H, W) to (N, C_out, H, W). With channels last in memory the map is a matrix of N H W rows already, and
    oneDNN's convolution takes its time before it begins. On large maps it is the faster one.

    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = False) -> None:
        super().__init__(channels_in, channels_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Every pixel's channels times the weights."""
        pixels = x.numel() // x.shape[1]
        small = pixels <= _FEW_PIXELS and pixels * self.weight.numel() <= _LITTLE_WORK
        if small and x.is_cpu and x.is_contiguous(memory_format=torch.channels_last):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(x)


class Depthwise(nn.Conv2d):
    """A depthwise convolution without bias; on a CPU with a gradient of wide kernels that does not waste its time.

    (N, C, H, W) to (N, C, H', W').

    """

    def __init__(
        self, channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each channel with its own kernel."""
        wide = self.kernel_size[1] > _FAST_WIDTH
        if wide and self.weight.requires_grad and torch.is_grad_enabled() and _on_onednn(x, self.weight):
            result: Tensor = _WideDepthwise.apply(x, self.weight, self.stride, self.padding)
            return result
        return super().forward(x)


class _WideDepthwise(torch.autograd.Function):
    """A depthwise convolution whose weights' gradient is computed three columns of the kernel at a time.

    oneDNN has a depthwise kernel for that gradient up to three columns; for more it falls back to one for dense
    convolutions, which takes up to ten times as long as the forward pass. Column j of the weights meets the input moved
    by j: so each slice of it is the gradient of a narrow kernel on a moved input.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(grad, x, weight, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def _gradient_of_input(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    if stride == (1, 1) and x.shape == grad.shape:  # the forward pass with the kernel turned round is faster
        return F.conv2d(grad, weight.flip(2, 3), None, stride, padding, 1, len(weight))
    return _gradients(grad, x, weight, stride, padding, [True, False, False])[0]


def _gradient_of_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    gradients, column = [], 0
    for narrow in weight.tensor_split(-(-weight.shape[3] // _FAST_WIDTH), dim=3):
        first = column - padding[1]
        met = (grad.shape[3] - 1) * stride[1] + narrow.shape[3]  # columns of the input that these of the kernel meet
        there = x[..., max(first, 0) : max(first + met, 0)]
        if there.shape[3]:
            before = max(-first, 0)
            moved = F.pad(there, (before, met - before - there.shape[3]))
            gradients.append(_gradients(grad, moved, narrow, stride, (padding[0], 0), [False, True, False])[1])
        else:
            gradients.append(torch.zeros_like(narrow))
        column += narrow.shape[3]
    return torch.cat(gradients, 3)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], asked: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias, as far as they are asked for."""
    both: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), asked
    )
    return both


def _on_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes this, in float32."""
    return (
        x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and _ONEDNN
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )
