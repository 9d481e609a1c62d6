"""The paper's head: stage 3 of the network itself, run on the crop of each proposal.

One map, of the stride of stage 2 (16 with the ImageNet stem, 2 with the CIFAR stem), joins what stage 3 reads: the
outputs of the last two normal cells of stage 2. Proposals are made on it, and each is cut out of it; the crop is split
into the two maps again, and the network goes on from them: reduction cell, normal cells of stage 3, ReLU, global
average pool. With one normal cell a stage (N = 1) the older of the two maps is that of the reduction cell before it.
Cells that never read h[i-1], or never h[i], need one of the two maps, and the other is left out.

Shapes: N pictures, C channels, H and W of a picture, M proposals of all pictures, S side of a crop.

References: Zoph et al. 2018, section 4.3; the feature extractor and the configuration of the released detector
(TensorFlow detection API, `faster_rcnn_nas`).
Deviation: a crop is sampled once in the middle of each of its pixels; TensorFlow samples from edge to edge.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from nascli.detect.backbone import take_over
from nascli.errors import InputError
from nascli.models.cells.network import Network
from nascli.models.layers import join

STAGE = "stage2"

ANCHOR_DOUBLINGS = 4
"""Sizes of anchors at each place of the map, each twice the one before: the released detector's 64 to 512 pixels."""


class MapBackbone(nn.Module):
    """A network up to the end of stage 2, which gives the map that stage 3 goes on from.

    Args:
        network: Any built network. It becomes part of the backbone whole, and loses the classifier and the auxiliary
            head.
        freeze_batch_norm: Leave the batch norms' statistics, scales and shifts as they are, those of stage 3 too.

    Raises:
        InputError: Stage 3 reads maps of two sizes, which cannot be joined.
    """

    def __init__(self, network: Network, *, freeze_batch_norm: bool = False) -> None:
        super().__init__()
        halvings = {network.plan[output - 1].halvings for output in network.stage3_channels}
        if halvings != {network.plan[-1].halvings - 1}:
            raise InputError(
                f"cell {network.spec.genotype.name}: stage 3 of this network reads stage 1, whose map has twice the "
                "height and width of stage 2's and cannot be joined to it, as head nasnet needs",
                "Give more cells_per_stage, or --head fpn",
            )
        self.stride = network.feature_strides[STAGE]
        self.out_channels = sum(network.stage3_channels.values())  # torchvision reads it under this name
        self._frozen = take_over(network, freeze_batch_norm=freeze_batch_norm)
        self.network = network

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Normalised pictures (N, 3, H, W) to one map (N, C, H / stride, W / stride) by the name of its stage."""
        maps = self.network.before_stage3(pictures.contiguous(memory_format=torch.channels_last))
        return {STAGE: join(maps)}

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self


class MapCrops(nn.Module):
    """Each proposal cut out of the map by bilinear interpolation.

    Args:
        stride: Of the map.
        size: S.
    """

    def __init__(self, stride: int, size: int) -> None:
        super().__init__()
        self.stride = stride
        self.size = size

    def forward(self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        """The map of `MapBackbone` and each picture's proposals, corners in pixels, to crops (M, C, S, S).

        The sizes of the pictures are torchvision's, and not needed.
        """
        crops: Tensor = roi_align(maps[STAGE], proposals, self.size, 1 / self.stride, sampling_ratio=1, aligned=True)
        return crops


class StageHead(nn.Module):
    """Stage 3 on each crop.

    It has no weights of its own: they stay in the backbone, which holds the whole network.

    Args:
        network: That of the backbone.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._channels = list(network.stage3_channels.values())
        self._stage3 = network.stage3  # a method, not a module: the weights are listed, and saved, once

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (M, C, S, S) to what the predictor of classes and boxes reads, (M, `feature_channels["stage3"]`)."""
        maps = torch.split(crops, self._channels, 1)
        return self._stage3([part.contiguous(memory_format=torch.channels_last) for part in maps])


def proposal_head(channels: int, width: int, anchors: int) -> RPNHead:
    """torchvision's head of proposals, whose 3x3 convolution may be narrower than the map that it reads.

    Args:
        channels: Of the map.
        width: Of the convolution; the released detector goes from 4032 to 512 channels.
        anchors: At each place of the map.
    """
    head = RPNHead(width, anchors)
    convolution = nn.Conv2d(channels, width, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.zeros_(convolution.get_parameter("bias"))
    head.conv = nn.Sequential(convolution, nn.ReLU())
    return head
