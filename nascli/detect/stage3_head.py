"""The paper's head, `nasnet`: stage 3 of the network itself, run on the crop of each proposal.

One map, of the stride of stage 2 (16 with the ImageNet stem, 2 with the CIFAR stem), aligns what stage 3 reads: the
outputs of the last two normal cells of stage 2. Proposals are made on it, and each is cropped from it; the crop is
split into the two maps again, and the network continues from them: reduction cell, normal cells of stage 3, ReLU,
global average pool. With one normal cell per stage (N = 1) the first of the two maps is that of the reduction cell
before it. Cells that never read h[i-1], or never h[i], need only one of the two maps.

Of another `Restartable` network the last stage, after its last halving, stands for stage 3: of mobile networks the
blocks from there on, without the head, on crops of the one map before them.

Shapes: N images, C channels, H and W of an image, M proposals of all images, S side of a crop.

References: Zoph et al. 2018, section 4.3; the feature extractor and the configuration of the released detector
(TensorFlow detection API, `faster_rcnn_nas`).
Deviation: a crop is sampled once in the middle of each of its pixels; TensorFlow samples from edge to edge.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from nascli.detect.backbone import DetectionBackbone
from nascli.errors import InputError
from nascli.models.families import advise_depth
from nascli.models.interface import ImageClassifier, Restartable
from nascli.models.layers import concat_channels

STAGE = "stage2"
"""The name of the one map."""


class SingleScaleBackbone(DetectionBackbone):
    """A network up to the end of stage 2, whose output is the one map that stage 3 continues from.

    Args:
        network: Becomes part of the backbone whole, stage 3 included.
        freeze_batch_norm: Keep the batch norms' statistics, scales and shifts, those of stage 3 too.

    Raises:
        InputError: Stage 3 reads maps of two sizes, which cannot be joined.
    """

    def __init__(self, network: ImageClassifier, *, freeze_batch_norm: bool = False) -> None:
        super().__init__(network, freeze_batch_norm=freeze_batch_norm)
        if not isinstance(network, Restartable) or len(network.feature_info) == 1:
            raise InputError(
                f"{network.spec.name}: this network cannot be restarted at stage 3, as head nasnet needs",
                "Give --head fpn",
            )
        before, last = network.feature_info[-2:]
        maps, self.stride = network.maps_before(last.name), before.stride
        if {info.stride for info in maps} != {self.stride}:
            raise InputError(
                f"{network.spec.name}: stage 3 of this network reads stage 1, whose map has twice the "
                "height and width of stage 2's and cannot be joined to it, as head nasnet needs",
                advise_depth(network.spec, "--head fpn"),
            )
        self._forward_to, self._last = network.forward_to, last.name
        self.out_channels = sum(info.channels for info in maps)  # torchvision reads it under this name

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (N, 3, H, W) to one map (N, C, H / stride, W / stride) by the name of its stage."""
        maps = self._forward_to(images.contiguous(memory_format=torch.channels_last), self._last)
        return {STAGE: concat_channels(maps)}


class SingleScaleRoIPool(nn.Module):
    """Crops each proposal from the one map by bilinear interpolation.

    Args:
        stride: Image pixels per pixel of the map.
        size: S in pixels of the map.
    """

    def __init__(self, stride: int, size: int) -> None:
        super().__init__()
        self.stride = stride
        self.size = size

    def forward(self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        """The map of `SingleScaleBackbone` and each image's proposals, corners in pixels, to crops (M, C, S, S).

        torchvision also passes the sizes of the images, which are not needed.
        """
        crops: Tensor = roi_align(maps[STAGE], proposals, self.size, 1 / self.stride, sampling_ratio=1, aligned=True)
        return crops


class Stage3Head(nn.Module):
    """Stage 3 on each crop. It owns no weights: they stay in the network of the backbone."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        assert isinstance(network, Restartable)
        self._last = network.feature_info[-1].name
        self._channels = [info.channels for info in network.maps_before(self._last)]
        self._forward_from = network.forward_from  # a method, not a module: the weights are listed, and saved, once

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (M, C, S, S) to the input of class and box predictor, (M, channels of stage 3)."""
        maps = torch.split(crops, self._channels, 1)
        places = range(len(self._channels))  # not `maps`, over which a tracer could not loop
        return self._forward_from([maps[k].contiguous(memory_format=torch.channels_last) for k in places], self._last)


def build_rpn_head(channels: int, width: int, anchors: int) -> RPNHead:
    """torchvision's proposal head, with a 3x3 convolution that may be narrower than the map it reads.

    Args:
        channels: C of the map.
        width: Channels of the convolution; the released detector goes from 4032 to 512.
        anchors: Anchors at each place of the map.
    """
    head = RPNHead(width, anchors)
    convolution = nn.Conv2d(channels, width, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.zeros_(convolution.get_parameter("bias"))
    head.conv = nn.Sequential(convolution, nn.ReLU())
    return head
