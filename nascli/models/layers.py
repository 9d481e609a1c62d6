"""Layers and functions that networks of any family are made of.

Shapes: N batch, C channels, H height, W width. Padding is TensorFlow's SAME at every size unless another is asked for:
the output has ceil(H / stride) rows, and where the padding is odd the extra row lies at the bottom (right), so that
published weights fit.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.max_pool import max_pool2d

Padding = Literal["same", "symmetric"]
"""Where zeros are put around a map: TensorFlow's SAME, or as many before it as after it, whatever its size."""


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """SAME padding along one axis.

    The total is max((ceil(size / stride) - 1) * stride + kernel - size, 0), the smaller half first.

    Args:
        size: Length of the input in pixels.
        kernel: Length of the (dilated) kernel.

    Returns:
        Pixels before and after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization with a fixed momentum, which does not count its batches.

    Nobody would read the count, and a GPU takes as long to begin adding 1 to it as for a map.
    """

    num_batches_tracked: None
    momentum: float

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def reset_running_stats(self) -> None:
        """Start with mean 0 and variance 1."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:  # noqa: ANN401
        """As of torch, which would give weights without a version the count that its first version had not."""
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *others)


class SamePad(nn.Module):
    """Zero padding to SAME for a strided convolution of a (dilated) kernel: it depends on the input's size."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def sides(self, x: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below (N, C, H, W), columns left and right of it."""
        rows = same_padding(x.shape[2], self.kernel[0], self.stride[0])
        return rows, same_padding(x.shape[3], self.kernel[1], self.stride[1])

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W)."""
        (top, bottom), (left, right) = self.sides(x)
        return F.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around (N, C, H, W) as SAME puts them."""
    rows, columns = (same_padding(side, kernel, stride) for side in x.shape[2:])
    return F.pad(x, (*columns, *rows))


def subsample(x: Tensor, down: int, across: int) -> Tensor:
    """Every `down`-th row and every `across`-th column of (N, C, H, W), beginning with the first.

    A 1x1 convolution with a stride looks at nothing else. Taking these pixels first and convolving with stride 1
    gives the same numbers, and keeps clear of oneDNN's own strided 1x1 convolution, whose backward pass writes past
    its workspace where a channels-last input has fewer than 16 channels (uxlfoundation/oneDNN issue 6035): it
    crashes, hangs, or gives wrong gradients.
    """
    return F.avg_pool2d(x, 1, (down, across))  # the same as x[:, :, ::down, ::across], with a faster backward pass


class Subsample(nn.Module):
    """`subsample` as a layer, in front of a 1x1 convolution."""

    def __init__(self, down: int, across: int) -> None:
        super().__init__()
        self.down = down
        self.across = across

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / down), ceil(W / across))."""
        return subsample(x, self.down, self.across)


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    padding: Padding = "same",
) -> nn.Module:
    """A convolution without bias, padded: (N, C_in, H, W) to (N, C_out, ceil(H/s), ceil(W/s))."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    down, across = (stride, stride) if isinstance(stride, int) else stride
    extent = ((height - 1) * dilation + 1, (width - 1) * dilation + 1)
    if extent == (1, 1) and groups == 1:
        pointwise = Pointwise(channels_in, channels_out)
        return pointwise if down == across == 1 else nn.Sequential(Subsample(down, across), pointwise)
    # at stride 1 and odd kernels SAME is symmetric whatever the size
    fixed = down == across == 1 or padding == "symmetric"
    zeros = ((extent[0] - 1) // 2, (extent[1] - 1) // 2) if fixed else (0, 0)
    made: nn.Conv2d
    if groups == channels_in == channels_out and dilation == 1:
        made = Depthwise(channels_in, (height, width), (down, across), zeros)
    else:
        size, steps = (height, width), (down, across)
        made = nn.Conv2d(channels_in, channels_out, size, steps, zeros, dilation, groups, bias=False)
    return made if fixed else nn.Sequential(SamePad(extent, (down, across)), made)


def relu_conv_bn(channels_in: int, channels_out: int, *, pre_activated: bool = False) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: how a cell brings one of its inputs to its width.

    With `pre_activated` the input comes with the ReLU applied; an identity stands in its place, so that weights keep
    their names.
    """
    return nn.Sequential(first_relu(pre_activated), conv(channels_in, channels_out, 1), BatchNorm(channels_out))


def first_relu(pre_activated: bool) -> nn.Module:
    """The ReLU that something begins with, unless its input has it already."""
    return nn.Identity() if pre_activated else nn.ReLU()


class FactorizedReduction(nn.Module):
    """Halve the map without dropping pixels: two 1x1 convolutions, one on the map shifted by a pixel, concatenated.

    (N, C_in, H, W) to (N, C_out, ceil(H/2), ceil(W/2)), then one batch norm over both halves. There is no ReLU here.

    References: released code of Zoph et al. 2018 (`factorized_reduction`).
    Deviation: an odd C_out is allowed; the first half gets the smaller share.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        first = channels_out // 2
        self.straight = Pointwise(channels_in, first) if first else None
        self.shifted = Pointwise(channels_in, channels_out - first)
        self.norm = BatchNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce (N, C_in, H, W)."""
        # the second convolution sees the pixels between those of the first: the map without its first row and column,
        # with zeros after the last
        shifted = F.pad(x, (-1, 1, -1, 1))
        halves = [self.shifted(subsample(shifted, 2, 2))]
        if self.straight is not None:
            halves.insert(0, self.straight(subsample(x, 2, 2)))
        reduced: Tensor = self.norm(concat_channels(halves))  # (N, C_out, H/2, W/2)
        return reduced


def align(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Bring a state to the width (stride 1) or also the size (stride 2) that a concatenation needs; no ReLU."""
    if stride == 2:
        return FactorizedReduction(channels_in, channels_out)
    if channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(conv(channels_in, channels_out, 1), BatchNorm(channels_out))


def concat_channels(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps along their channels: (N, C_k, H, W) to (N, sum of C_k, H, W).

    As `torch.cat`, but backwards each map gets a gradient of its own instead of a view into the joint one: a batch
    norm's backward pass takes twenty times as long on such a view.
    """
    result: Tensor = _ConcatChannels.apply(*maps) if torch.is_grad_enabled() else torch.cat(tuple(maps), 1)
    return result


class _ConcatChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:  # noqa: ANN401
        ctx.channels = [each.shape[1] for each in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        last = grad.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return tuple(each.contiguous(memory_format=layout) for each in torch.split(grad, ctx.channels, 1))


def global_average(x: Tensor) -> Tensor:
    """The mean of each channel's map: (N, C, H, W) to (N, C).

    Summed pixel by pixel, so that the gradient keeps the layout of a map with channels last.
    """
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def average_map(x: Tensor) -> Tensor:
    """The mean of each channel's map, as a map of one pixel: (N, C, H, W) to (N, C, 1, 1)."""
    return global_average(x)[:, :, None, None]


def avg_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Average pool with SAME padding; the divisor counts only pixels of the image.

    Args:
        x: (N, C, H, W).
        kernel: From 2 on.
        stride: 1 or 2.

    References: TensorFlow's documentation of `avg_pool`, padding SAME.
    Deviation: NAO's code fills the row that its 2x2 pool of stride 1 adds after the last with zeros, and divides by 4.
    """
    if stride == 1 and kernel % 2 == 0:  # as much on both sides as SAME has after the last: the first is one too many
        return F.pad(F.avg_pool2d(x, kernel, 1, kernel // 2, count_include_pad=False), (-1, 0, -1, 0))
    rows, columns = (same_padding(side, kernel, stride) for side in x.shape[2:])
    return F.avg_pool2d(x, kernel, stride, (rows[0], columns[0]), ceil_mode=True, count_include_pad=False)


def max_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Max pool with SAME padding; padding never wins against a negative value."""
    rows, columns = (same_padding(side, kernel, stride) for side in x.shape[2:])
    if stride == 1 and kernel % 2 == 0:  # the window that hangs over the edge is not one that ceil_mode adds
        return max_pool2d(F.pad(x, (*columns, *rows), value=float("-inf")), kernel, stride)
    # `ceil` adds the missing row after the last; it is padded with minus infinity inside the kernel
    return max_pool2d(x, kernel, stride, (rows[0], columns[0]), ceil=True)


def draw_path_masks(images: Tensor, prob: float | Tensor, shares: tuple[float, ...]) -> tuple[Tensor, ...]:
    """The factors of paths: for each image 0 with probability p, else 1 / (1 - p), where p is the path's share of prob.

    They are drawn at once, since a GPU takes as long to begin drawing one as all.

    Args:
        images: (N, C, H, W); only N, type and device are read.
        prob: In [0, 1), a number or a scalar on the device. With 0 all factors are 1.
        shares: Of each path, in (0, 1].

    Returns:
        (N, 1, 1, 1) for each path, in the type that the forward pass computes in.

    References: Zoph et al. 2018, section 4 and appendix A.5.
    """
    device, n = images.device, len(images)
    keep = 1 - prob * _shares_on(shares, device)
    masks = (torch.rand(len(shares), n, device=device) < keep) / keep
    casts = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    kind = torch.get_autocast_dtype(device.type) if casts else images.dtype
    return masks.to(kind).view(len(shares), n, 1, 1, 1).unbind()


@functools.lru_cache(maxsize=64)
def _shares_on(shares: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(shares, device=device)[:, None]


def set_batch_norms(network: nn.Module, momentum: float, epsilon: float) -> None:
    """Set the two numbers of every batch norm; momentum in PyTorch's sense, 1 - decay."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = momentum, epsilon


def init_weights(network: nn.Module) -> None:
    """Normal with variance 2 / fan-out for convolutions, 0.01 deviation for classifiers, batch norms at identity.

    Without effect on the meta device, where drawing would take longer than all the rest.

    The fan-out of a grouped convolution counts the outputs of one group, so that depthwise kernels start at the same
    scale as dense ones.

    References: variance scaling by fan-out as in the released code of Zoph et al. 2018.
    """
    for module in network.modules():
        if any(weight.is_meta for weight in module.parameters(recurse=False)):
            continue
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            fan_out = area * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
