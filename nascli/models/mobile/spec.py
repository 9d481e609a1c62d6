"""The macro numbers of a mobile network, and the published ones. No torch."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, Skip
from nascli.models.latency import Key
from nascli.models.spec import NetworkSpec

Activation = Literal["relu", "relu6"]

MOST_HEAD_FILTERS = 65_536

_MULTIPLE = 8


@dataclass(frozen=True)
class LayerPlan:
    """One layer of a block at the sizes of a network, and what is added to its output."""

    block: MobileBlock
    channels_in: int
    channels_out: int
    stride: int
    skip: Skip


class MobileNetworkSpec(NetworkSpec):
    """A chain of blocks with the macro numbers that turn it into one network.

    The network is: a 3x3 convolution with stride 2, the blocks, a 1x1 convolution to `head_filters`, each with batch
    norm and activation, then global average pool, dropout, classifier.

    Args:
        width: Multiplies the channels of stem and blocks (`scale_filters`), not those of the head.
        stem: With `cifar` neither the first convolution nor the first block with a stride halves the map; with `whole`
            the first convolution alone does not.
        padding: Of convolutions with a stride, where the map's sides are even: TensorFlow's SAME has one row of zeros
            more after the map than before it, `symmetric` as many on both sides, as PyTorch.

    References: Tan et al. 2019, "MnasNet", section 4.1; what the paper leaves open follows the released code.
    """

    family = "mobile"

    genotype: MobileGenotype
    width: float = Field(gt=0, le=20)
    stem: Literal["cifar", "imagenet", "whole"]
    head_filters: int = Field(ge=1, le=MOST_HEAD_FILTERS)
    padding: Literal["same", "symmetric"] = "same"
    activation: Activation = "relu"

    @property
    def architecture(self) -> MobileGenotype:
        """The genotype."""
        return self.genotype

    @property
    def size_text(self) -> str:
        """The width."""
        return f"width {self.width:g}"

    @property
    def stem_filters(self) -> int:
        """Channels of the first convolution."""
        return scale_filters(self.genotype.stem, self.width)

    @property
    def block_filters(self) -> tuple[int, ...]:
        """Channels of each block's output."""
        return tuple(scale_filters(block.filters, self.width) for block in self.genotype.blocks)

    @property
    def filters(self) -> int:
        """The most channels of a block's output."""
        return max(self.block_filters)

    def plan_layers(self, place: int) -> tuple[LayerPlan, ...]:
        """The layers of the block at this place, from 0.

        They have skips where the genotype's own widths and strides give them one, whatever those of this network are.
        """
        block, own = self.genotype.blocks[place], self.genotype.inputs[place]
        before, filters = (self.stem_filters, *self.block_filters)[place : place + 2]

        def find_skip(channels_in: int, stride: int) -> Skip:
            return block.skip if block.skips(channels_in, stride) else "none"

        first = LayerPlan(block, before, filters, self.strides[place + 1], find_skip(own, block.stride))
        later = LayerPlan(block, filters, filters, 1, find_skip(block.filters, 1))
        return (first, *[later] * (block.layers - 1))

    def layer_keys(self) -> list[Key]:
        """The keys of stem, layers, head, classifier: op, channels, stride, side of the map that is read, and so on."""
        size = self.image_size
        keys: list[Key] = []

        def add(layer: str, channels_in: int, channels_out: int, stride: int = 1, **more: str | int | float) -> None:
            nonlocal size
            shape = {"in": channels_in, "out": channels_out, "stride": stride, "size": size}
            keys.append({"layer": layer, **shape, **more})
            size = -(-size // stride)

        add("stem", 3, self.stem_filters, self.strides[0], activation=self.activation)
        for place, block in enumerate(self.genotype.blocks):
            body = {"kernel": block.kernel, "se": block.se, "activation": self.activation}
            for plan in self.plan_layers(place):
                add(block.op, plan.channels_in, plan.channels_out, plan.stride, skip=plan.skip, **body)
        add("head", self.block_filters[-1], self.head_filters, activation=self.activation)
        add("classifier", self.head_filters, self.classes)
        return keys

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the stem and each block in this network."""
        if self.stem != "cifar":
            return (2 if self.stem == "imagenet" else 1, *(block.stride for block in self.genotype.blocks))
        first = next((place for place, block in enumerate(self.genotype.blocks) if block.stride > 1), -1)
        return (1, *(1 if place == first else block.stride for place, block in enumerate(self.genotype.blocks)))


def scale_filters(filters: int, width: float) -> int:
    """Channels times the width, to a multiple of 8 that is not below 90 % of it; at width 1 as they are.

    References: `round_filters` of the released code; the same rule is in MobileNetV2's.
    """
    if width == 1:
        return filters
    scaled = filters * width
    rounded = max(_MULTIPLE, int(scaled + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return rounded + _MULTIPLE if rounded < 0.9 * scaled else rounded


_MNASNET: dict[str, Any] = {
    "width": 1.0,
    "stem": "imagenet",
    "head_filters": 1280,
    "image_size": 224,
    "classes": 1000,
    "dropout": 0.2,
    "batch_norm_momentum": 0.01,
    "batch_norm_epsilon": 1e-3,
    "padding": "same",
    "activation": "relu",
}
_CIFAR = {"stem": "cifar", "image_size": 32, "classes": 10, "batch_norm_momentum": 0.1, "batch_norm_epsilon": 1e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "mnasnet": _MNASNET,
    "mnasnet-small": _MNASNET | {"dropout": 0.0},
    "mnasnet-cifar": _MNASNET | _CIFAR,
    "nas-bench-macro": _MNASNET | _CIFAR | {"stem": "whole", "dropout": 0.0, "padding": "symmetric"},
    "mobilenetv2": _MNASNET | {"activation": "relu6", "batch_norm_momentum": 3e-3},
}
"""Published settings: MnasNet's are those of its released code (tensorflow/tpu, `models/official/mnasnet`), those of
MobileNetV2 of its own (tensorflow/models, `research/slim/nets/mobilenet`). Those for CIFAR are nobody's: batch norms as
is usual there, and maps that are halved three times. NAS-Bench-Macro is built as by its released code."""
