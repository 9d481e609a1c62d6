"""A built network as the backbone of a detector: a feature pyramid over the outputs of its stages.

Shapes: N batch, C channels, H and W of the picture, P channels of the pyramid.
"""

from collections import OrderedDict
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from nascli.errors import InputError
from nascli.models.cells.network import Network

FINEST_STRIDE = 2
"""Stages whose maps are finer than this are not tapped: the CIFAR stem's first stage works at full resolution."""


class Backbone(nn.Module):
    """Stage outputs of a network, through a feature pyramid.

    Tapped are the last normal cells of all stages with a stride of at least 2: strides 2 and 4 with the CIFAR stem, 8,
    16 and 32 with the ImageNet stem. Each passes a ReLU first, since cells give out sums that the next cell would pass
    through one. A last level, every other pixel of the coarsest map, is for proposals alone.

    Args:
        network: Any built network. It becomes part of the backbone, and loses the classifier and the auxiliary head.
        channels: P.
        freeze_batch_norm: Leave the batch norms' statistics, scales and shifts as they are, as the released NASNet
            detector does; they suit small batches best when the network was trained.

    References: Lin et al. 2017, "Feature Pyramid Networks for Object Detection".
    Deviation: Zoph et al. 2018 run proposals over the last two cells of stage 2 and restart the network, at its second
        reduction, on each proposal (`nasnet_head.py`); here all stages run once over the picture and a pyramid joins
        them.
    """

    def __init__(self, network: Network, channels: int, *, freeze_batch_norm: bool = False) -> None:
        super().__init__()
        self.taps = tuple(name for name, stride in network.feature_strides.items() if stride >= FINEST_STRIDE)
        for name in self.taps:
            if name not in network.feature_channels:
                raise InputError(
                    f"cell {network.spec.genotype.name}: {name} is idle in this network, so it cannot be a backbone",
                    "Give more cells_per_stage",
                )
        self.strides = (
            *(network.feature_strides[name] for name in self.taps),
            2 * network.feature_strides[self.taps[-1]],
        )
        self.out_channels = channels  # torchvision reads it under this name
        self._frozen = take_over(network, freeze_batch_norm=freeze_batch_norm)
        self.network = network
        self.pyramid = FeaturePyramidNetwork(
            [network.feature_channels[name] for name in self.taps], channels, LastLevelMaxPool()
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Normalised pictures (N, 3, H, W) to a map a level, each (N, P, H / stride, W / stride), finest first."""
        features = self.network.features(pictures.contiguous(memory_format=torch.channels_last))
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((name, F.relu(features[name])) for name in self.taps))
        return levels

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self


def take_over(network: Network, *, freeze_batch_norm: bool) -> list[nn.BatchNorm2d]:
    """Take from a network what a detector does not use: classifier, auxiliary head, drop path.

    Returns:
        The batch norms that are frozen; they learn nothing, and the caller keeps them in evaluation mode.
    """
    del network.classifier
    network.aux_head = None
    network.set_drop_path(0.0)
    if not freeze_batch_norm:
        return []
    return [module.requires_grad_(False) for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
