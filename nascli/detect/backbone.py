"""Networks as backbones of a detector; the backbone of head `fpn`, a feature pyramid over the ends of the stages.

Shapes: N batch, C channels, H and W of the image, P channels of the pyramid.

References: Lin et al. 2017, "Feature Pyramid Networks for Object Detection".
Deviation: Zoph et al. 2018 run proposals over the last two cells of stage 2 and restart the network, at its second
    reduction, on each proposal (`stage3_head.py`); here all stages run once over the image and a pyramid joins them.
"""

import os
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from nascli.config import NetworkConfig
from nascli.engine.device import temporary_seed
from nascli.errors import InputError
from nascli.models.families import NETWORK_FILE, advise_depth, build
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import load_network
from nascli.models.spec import Architecture, resolve_network
from nascli.runs.find import advise_folder, refuse_detector

FINEST_STRIDE, MOST_MAPS = 2, 4
"""Feature maps that are finer than this are not used: the CIFAR stem's first stage works at full resolution. Of those
that are left, so many of the coarsest are: those of strides 4 to 32 in the paper."""


def load_backbone(folder: Path) -> ImageClassifier:
    """The network of a train run, or of any folder with `network.json` and `weights.safetensors`.

    Raises:
        InputError: The folder holds no trained network.
        CorruptFileError: A file in it is damaged.
    """
    refuse_detector(folder)
    if not os.path.isfile(folder / NETWORK_FILE):
        hint = advise_folder(folder) or "Give a train run to --backbone"
        raise InputError(f"{folder}: there is no {NETWORK_FILE} in it", hint)
    return load_network(folder)


def random_backbone(architecture: Architecture, config: NetworkConfig, seed: int) -> ImageClassifier:
    """A network of fresh weights, which follow from the seed.

    Unless `config` gives a batch-norm momentum it is 0.1: with the ImageNet presets' 3e-4 the statistics would need
    many thousand steps until they describe the network.
    """
    if config.batch_norm_momentum is None:
        config = config.model_copy(update={"batch_norm_momentum": 0.1})
    with temporary_seed(seed, "init"):
        return build(resolve_network(architecture, config))


class DetectionBackbone(nn.Module):
    """The base of both backbones: a network without classifier, auxiliary head and drop path.

    Args:
        network: Becomes part of the backbone.
        freeze_batch_norm: Keep the batch norms' statistics, scales and shifts, as the released NASNet detector does;
            they suit small batches best when the network was trained.
    """

    def __init__(self, network: ImageClassifier, *, freeze_batch_norm: bool) -> None:
        super().__init__()
        network.remove_classifier()
        if freeze_batch_norm:
            norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
            network.freeze_norms([norm.requires_grad_(False) for norm in norms])
        self.network = network


class PyramidBackbone(DetectionBackbone):
    """Feature maps of a network, through a feature pyramid.

    Used are the ends of up to four stages with a stride of at least 2. With the ImageNet stem these are strides 8, 16
    and 32 of cells, 4 to 32 of mobile networks; with the CIFAR stem 2 and 4 of cells, 2 to 8 of mobile networks. A last
    level, every other pixel of the coarsest map, serves proposals alone.

    Raises:
        InputError: A stage is idle in this network, so it has no feature map; or no map has a stride.
    """

    def __init__(self, network: ImageClassifier, channels: int, *, freeze_batch_norm: bool = False) -> None:
        super().__init__(network, freeze_batch_norm=freeze_batch_norm)
        used = [info for info in network.feature_info if info.stride >= FINEST_STRIDE][-MOST_MAPS:]
        if not used:
            raise InputError(
                f"{network.spec.name}: no map of this network is halved, so it cannot be a backbone",
                "Give a network with strides, or with the ImageNet stem",
            )
        for info in used:
            if not info.channels:
                raise InputError(
                    f"{network.spec.name}: {info.name} is idle in this network, so it cannot be a backbone",
                    advise_depth(network.spec),
                )
        self.taps = tuple(info.name for info in used)
        self.strides = (*(info.stride for info in used), 2 * used[-1].stride)
        self.out_channels = channels  # torchvision reads it under this name
        self.pyramid = FeaturePyramidNetwork([info.channels for info in used], channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (N, 3, H, W) to one map per level, (N, P, H / stride, W / stride) each, finest first."""
        features = self.network.features(images.contiguous(memory_format=torch.channels_last))
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((name, features[name]) for name in self.taps))
        return levels
