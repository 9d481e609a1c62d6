"""The heads of a detector: what each adds to a network, as modules that Faster R-CNN is built from.

To add one: its name and meaning in `nascli.config.DETECTION_HEADS`, and here a function from network and configuration
to `HeadModules` with an entry in `HEADS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from nascli.config import DetectorConfig
from nascli.detect.backbone import PyramidBackbone
from nascli.detect.pyramid_roi_pool import PyramidRoIPool
from nascli.detect.stage3_head import SingleScaleBackbone, SingleScaleRoIPool, Stage3Head, build_rpn_head
from nascli.models.interface import ImageClassifier

ANCHOR_RATIOS = (0.5, 1.0, 2.0)
"""Height to width of the anchors of each size."""

_NASNET_ANCHOR_SIZES = 4
"""Sizes of anchors at each place of head nasnet's map, each twice the one before: the released detector's 64 to 512."""


@dataclass(frozen=True)
class HeadModules:
    """The modules and numbers of a head, for Faster R-CNN.

    Args:
        backbone: Images to feature maps by name.
        anchors: Sides in pixels, map by map.
        rpn_head: Maps to objectness and corrections of the anchors; None is torchvision's, as wide as the maps.
        pre_nms_top_n: Best anchors per map and image that are compared with each other, in training and in inference.
        roi_pool: Maps and proposals to crops.
        box_head: Crops to vectors.
        channels: Length of such a vector.
    """

    backbone: nn.Module
    anchors: tuple[tuple[float, ...], ...]
    rpn_head: nn.Module | None
    pre_nms_top_n: tuple[int, int]
    roi_pool: nn.Module
    box_head: nn.Module
    channels: int


def build_fpn_head(network: ImageClassifier, config: DetectorConfig) -> HeadModules:
    """A feature pyramid, crops from the level that fits a proposal, two linear layers."""
    backbone = PyramidBackbone(network, config.pyramid_channels, freeze_batch_norm=config.freeze_batch_norm)
    size = config.roi_size or 7
    return HeadModules(
        backbone=backbone,
        anchors=anchor_sizes(config, len(backbone.strides)),
        rpn_head=None,
        pre_nms_top_n=(2 * config.rpn_post_nms_top_n, config.rpn_post_nms_top_n),
        roi_pool=PyramidRoIPool(backbone.taps, backbone.strides[: len(backbone.taps)], size),
        box_head=TwoMLPHead(config.pyramid_channels * size**2, config.head_channels),
        channels=config.head_channels,
    )


def build_nasnet_head(network: ImageClassifier, config: DetectorConfig) -> HeadModules:
    """The paper's: one map with the anchors of all sizes at each place, and stage 3 on each crop of it."""
    backbone = SingleScaleBackbone(network, freeze_batch_norm=config.freeze_batch_norm)
    sides = tuple(side for level in anchor_sizes(config, _NASNET_ANCHOR_SIZES) for side in level)
    many = 10 * config.rpn_post_nms_top_n  # neighbors on one map are much alike, and few of them remain
    return HeadModules(
        backbone=backbone,
        anchors=(sides,),
        rpn_head=build_rpn_head(backbone.out_channels, config.pyramid_channels, len(sides) * len(ANCHOR_RATIOS)),
        pre_nms_top_n=(many, many),
        roi_pool=SingleScaleRoIPool(backbone.stride, config.roi_size or 17),
        box_head=Stage3Head(network),
        channels=network.feature_info[-1].channels,
    )


HEADS: dict[str, Callable[[ImageClassifier, DetectorConfig], HeadModules]] = {
    "fpn": build_fpn_head,
    "nasnet": build_nasnet_head,
}


def anchor_sizes(config: DetectorConfig, levels: int) -> tuple[tuple[float, ...], ...]:
    """The anchors' sides in pixels, level by level: anchor_size * 2^(level + k / anchor_scales)."""
    scales = config.anchor_scales
    return tuple(
        tuple(config.anchor_size * 2 ** (level + k / scales) for k in range(scales)) for level in range(levels)
    )
