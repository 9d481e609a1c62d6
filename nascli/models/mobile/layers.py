"""The layers of mobile networks: an expansion, a depthwise convolution, a projection, and the gate between them.

Shapes: N batch, C channels, H height, W width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models.convolutions import Pointwise
from nascli.models.layers import BatchNorm, Padding, average_map, avg_pool, conv
from nascli.models.mobile.spec import Activation, LayerPlan

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}
_POOL = 3


def conv_bn(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    padding: Padding = "same",
    activation: Activation | None = None,
) -> list[nn.Module]:
    """A convolution without bias, batch norm, and an activation unless the output is linear."""
    made = [conv(channels_in, channels_out, kernel, stride, groups=groups, padding=padding)]
    made.append(BatchNorm(channels_out))
    return [*made, _ACTIVATIONS[activation](inplace=True)] if activation else made


class SqueezeExcitation(nn.Module):
    """x times sigmoid(expand(ReLU(reduce(mean of each channel)))): a factor for each channel of each image.

    References: Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = Pointwise(channels, squeezed, bias=True)
        self.expand = Pointwise(squeezed, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        factors: Tensor = self.expand(F.relu(self.reduce(average_map(x)))).sigmoid()
        return x * factors


class MobileLayer(nn.Module):
    """One layer of a block: x to f(x), or to f(x) + skip(x).

    f is, by the block's op: a convolution, with an activation or linear; or a depthwise convolution and a linear 1x1
    convolution; or those two after a 1x1 convolution to E times the channels (a "mobile inverted bottleneck"). Every
    convolution has a batch norm, and an activation unless it is linear. Squeeze-and-excitation stands before the linear
    1x1 convolution, in a layer without one at the end; it squeezes to a share of the channels of x, not of the expanded
    ones.

    (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride), rounded up. The skip is x itself, or its
    average over 3x3 pixels with the layer's stride.

    References: Sandler et al. 2018, "MobileNetV2", section 3.3; Tan et al. 2019, section 4.1 and the released code. The
        paper leaves open what a pooling skip is, and where squeeze-and-excitation stands in a plain convolution.
    """

    def __init__(self, plan: LayerPlan, *, padding: Padding = "same", activation: Activation = "relu") -> None:
        super().__init__()
        self.skip, self.stride, self.padding = plan.skip, plan.stride, padding
        block, channels = plan.block, plan.channels_in
        plain = block.op in ("conv", "linear")
        inner = plan.channels_out if plain else block.expansion * channels
        filtered = conv_bn(
            channels if plain else inner,
            inner,
            block.kernel,
            plan.stride,
            groups=1 if plain else inner,
            padding=padding,
            activation=None if block.op == "linear" else activation,
        )
        widen = conv_bn(channels, inner, 1, activation=activation) if block.expansion > 1 else []
        gate = [SqueezeExcitation(inner, max(1, int(block.se * channels)))] if block.se else []
        project = [] if plain else conv_bn(inner, plan.channels_out, 1)
        self.path = nn.Sequential(*widen, *filtered, *gate, *project)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the layer; `mask` is that of drop path, (N, 1, 1, 1), None where f is not dropped."""
        result: Tensor = self.path(x)
        if mask is not None:
            result = result * mask.to(result.dtype)
        if self.skip == "none":
            return result
        return result + (x if self.skip == "identity" else self._pool(x))

    def _pool(self, x: Tensor) -> Tensor:
        if self.padding == "same":
            return avg_pool(x, _POOL, self.stride)
        return F.avg_pool2d(x, _POOL, self.stride, _POOL // 2, count_include_pad=False)
