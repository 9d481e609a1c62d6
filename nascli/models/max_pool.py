"""Max pools whose gradients can be added up in a fixed order on GPUs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool2d(x: Tensor, kernel: int, stride: int, padding: tuple[int, int] = (0, 0), *, ceil: bool = False) -> Tensor:
    """torch's `max_pool2d`; its gradient has the same bits each time where deterministic algorithms are asked for.

    CUDA's own gradient adds what overlapping windows send to a pixel in the order in which threads arrive.

    Args:
        x: (N, C, H, W).
        padding: Rows and columns of minus infinity on each side.
        ceil: Also take windows that hang over the end.
    """
    if x.is_cuda and torch.are_deterministic_algorithms_enabled():
        return OrderedMaxPool.apply(x, kernel, stride, padding, ceil)  # type: ignore[no-any-return]
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)


class OrderedMaxPool(torch.autograd.Function):
    """`max_pool2d` with a gradient that is added up place by place of the window."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        kernel: int,
        stride: int,
        padding: tuple[int, int],
        ceil: bool,
    ) -> Tensor:
        """The largest value of each window; a tie goes to the first."""
        pooled, winners = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil, return_indices=True)
        ctx.save_for_backward(winners)
        ctx.shape, ctx.window = x.shape, (kernel, stride, padding)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """No two windows have their pixel of one place in common, so that each sum is of whole maps."""
        (winners,) = ctx.saved_tensors
        (n, c, height, width), (kernel, stride, (top, left)) = ctx.shape, ctx.window
        rows, columns = (stride * torch.arange(side, device=winners.device) for side in gradient.shape[2:])
        spans = [stride * (side - 1) + kernel for side in gradient.shape[2:]]
        bottom, right = (span - kernel + 1 for span in spans)
        padded = gradient.new_zeros(n, c, max(spans[0], top + height), max(spans[1], left + width))
        for i in range(kernel):
            for j in range(kernel):
                here = (rows + i - top)[:, None] * width + (columns + j - left)  # (H', W'), as `winners` counts pixels
                inside = (columns + j >= left) & (columns + j < left + width)
                won = (winners == here) & inside  # a pixel left of the map has the number of one in the row above
                padded[:, :, i : i + bottom : stride, j : j + right : stride] += gradient * won
        return padded[:, :, top : top + height, left : left + width], None, None, None, None
