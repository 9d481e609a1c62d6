"""The detector: torchvision's Faster R-CNN over any built network, with one of two heads, and its folder on disk.

References: Ren et al. 2015, "Faster R-CNN"; the numbers not in the recipe are torchvision's defaults (IoU thresholds
of 0.7 and 0.3 for proposals and 0.5 for boxes, anchors of ratio 1/2, 1 and 2).
"""

import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from nascli.config import DetectionHead, DetectorConfig, explain
from nascli.data.detection.dataset import Category
from nascli.detect.backbone import Backbone
from nascli.detect.stage3_head import ANCHOR_DOUBLINGS, MapBackbone, MapCrops, StageHead, proposal_head
from nascli.errors import CorruptFileError, InputError
from nascli.files import read_json, write_bytes, write_json
from nascli.models.cells.network import Network
from nascli.models.cells.spec import NetworkSpec, read_network, write_network
from nascli.models.serialization import NETWORK_FILE, WEIGHTS_FILE, load_weights

DETECTOR_FILE = "detector.json"
_SCHEMA_VERSION = 1
_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class DetectorSpec:
    """All that is needed, beside weights, to build a detector again."""

    network: NetworkSpec
    config: DetectorConfig
    categories: tuple[Category, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name k is that of label k + 1."""
        return tuple(category.name for category in self.categories)


def build_detector(network: Network, config: DetectorConfig, classes: int) -> nn.Module:
    """A Faster R-CNN with fresh heads, from torch's global random generator.

    In training mode it maps (pictures, targets) to four losses by name; in evaluation mode pictures to, for each, a
    dict of `boxes` (M, 4) corners in its pixels, `labels` (M,) and `scores` (M,). Pictures are float32 (3, H, W) in
    [0, 1], of any sizes; they are normalised as the network's training did and resized here.

    Args:
        network: The backbone; it becomes part of the detector.
        config: Sizes and numbers.
        classes: K; background is added here.

    Raises:
        InputError: The sizes contradict each other, or the network does not go with the head.
    """
    _check_sizes(config)
    spec = network.spec
    parts = HEADS[config.head](network, config)
    network.grad_checkpointing = config.grad_checkpointing
    detector: nn.Module = FasterRCNN(
        parts.backbone,
        min_size=config.min_size,
        max_size=config.max_size,
        fixed_size=(config.min_size, config.min_size) if config.resize == "both_sides" else None,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
        rpn_anchor_generator=AnchorGenerator(parts.anchors, (_RATIOS,) * len(parts.anchors)),
        rpn_head=parts.proposer,
        rpn_pre_nms_top_n_train=parts.candidates[0],
        rpn_pre_nms_top_n_test=parts.candidates[1],
        rpn_post_nms_top_n_train=config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        box_head=parts.box_head,
        box_predictor=FastRCNNPredictor(parts.channels, classes + 1),
        box_score_thresh=config.box_score_thresh,
        box_nms_thresh=config.nms_iou,
        box_detections_per_img=config.detections,
        box_batch_size_per_image=config.box_batch_size_per_image,
    )
    heads: Any = detector.roi_heads
    heads.box_roi_pool = parts.crops  # FasterRCNN itself takes no other than torchvision's
    return detector


@dataclass(frozen=True)
class HeadParts:
    """What the two heads do each in its own way.

    Args:
        backbone: Pictures to maps by name.
        anchors: Sides in pixels, map by map.
        proposer: Maps to objectness and corrections of the anchors; None is torchvision's, as wide as the maps.
        candidates: Best anchors a map and image that are compared with each other, in training and in use.
        crops: Maps and proposals to crops.
        box_head: Crops to vectors.
        channels: Of a vector.
    """

    backbone: nn.Module
    anchors: tuple[tuple[float, ...], ...]
    proposer: nn.Module | None
    candidates: tuple[int, int]
    crops: nn.Module
    box_head: nn.Module
    channels: int


def _fpn(network: Network, config: DetectorConfig) -> HeadParts:
    """A feature pyramid, crops from the level that fits a proposal, two linear layers."""
    backbone = Backbone(network, config.pyramid_channels, freeze_batch_norm=config.freeze_batch_norm)
    size = config.roi_size or 7
    return HeadParts(
        backbone=backbone,
        anchors=anchor_sizes(config, len(backbone.strides)),
        proposer=None,
        candidates=(2 * config.proposals, config.proposals),
        crops=pyramid_crops(backbone, size),
        box_head=TwoMLPHead(config.pyramid_channels * size**2, config.head_channels),
        channels=config.head_channels,
    )


def pyramid_crops(backbone: Backbone, size: int) -> MultiScaleRoIAlign:
    """Crops from the level of the pyramid that fits a proposal.

    torchvision guesses the strides from the first pictures it sees, and wrong where they are small and filled up: a
    resumed training would see others first.
    """
    crops = MultiScaleRoIAlign(list(backbone.taps), size, 2)
    strides = backbone.strides[: len(backbone.taps)]
    crops.scales = [1 / stride for stride in strides]
    crops.map_levels = LevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))
    return crops


def _nasnet(network: Network, config: DetectorConfig) -> HeadParts:
    """The paper's: one map with the anchors of all sizes at each place, and stage 3 on each crop of it."""
    backbone = MapBackbone(network, freeze_batch_norm=config.freeze_batch_norm)
    sides = tuple(side for level in anchor_sizes(config, ANCHOR_DOUBLINGS) for side in level)
    many = 10 * config.proposals  # neighbours on one map are much alike, and few are left of them
    return HeadParts(
        backbone=backbone,
        anchors=(sides,),
        proposer=proposal_head(backbone.out_channels, config.pyramid_channels, len(sides) * len(_RATIOS)),
        candidates=(many, many),
        crops=MapCrops(backbone.stride, config.roi_size or 17),
        box_head=StageHead(network),
        channels=network.feature_channels["stage3"],
    )


HEADS: dict[DetectionHead, Callable[[Network, DetectorConfig], HeadParts]] = {"fpn": _fpn, "nasnet": _nasnet}


def anchor_sizes(config: DetectorConfig, levels: int) -> tuple[tuple[float, ...], ...]:
    """The anchors' sides in pixels, level by level: anchor_size * 2^(level + k / anchor_scales)."""
    scales = config.anchor_scales
    return tuple(
        tuple(config.anchor_size * 2 ** (level + k / scales) for k in range(scales)) for level in range(levels)
    )


def _check_sizes(config: DetectorConfig) -> None:
    if config.max_size < config.min_size:
        raise InputError(
            f"detector.max_size {config.max_size} is less than detector.min_size {config.min_size}",
            "The shorter side is scaled to min_size unless the longer would exceed max_size",
        )
    if config.resize == "both_sides" and config.max_size > config.min_size:
        raise InputError(
            f"detector.resize both_sides makes squares of detector.min_size {config.min_size} pixels, so that "
            f"detector.max_size {config.max_size} would mean nothing",
            "Give both the same number",
        )


def write_detector(folder: Path, spec: DetectorSpec) -> None:
    """Write `network.json` and `detector.json`."""
    write_network(folder / NETWORK_FILE, spec.network)
    write_json(
        folder / DETECTOR_FILE,
        {
            "schema": _SCHEMA_VERSION,
            "detector": spec.config.model_dump(mode="json"),
            "categories": [asdict(category) for category in spec.categories],
        },
    )


def read_detector(folder: Path) -> DetectorSpec:
    """Read `network.json` and `detector.json`.

    Raises:
        InputError: A file is absent, of a newer schema, or a field is impossible.
        CorruptFileError: A file is damaged.
    """
    path = folder / DETECTOR_FILE
    values = read_json(path)
    version = values.get("schema", _SCHEMA_VERSION)
    if isinstance(version, int) and version > _SCHEMA_VERSION:
        raise InputError(f"{path}: schema {version} is newer than this nascli reads", "Upgrade nascli")
    try:
        config = DetectorConfig.model_validate(values["detector"])
        categories = tuple(Category(int(entry["id"]), str(entry["name"])) for entry in values["categories"])
    except ValidationError as error:
        raise explain(error, str(path), DetectorConfig) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path}: JSON, but not a detector ({error!r})") from error
    return DetectorSpec(read_network(folder / NETWORK_FILE), config, categories)


def save_detector_weights(folder: Path, detector: nn.Module) -> None:
    """Write all weights and batch-norm statistics, backbone and heads, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state, {"format": "pt"}))


def load_detector(folder: Path, device: torch.device) -> tuple[nn.Module, DetectorSpec]:
    """The detector of a finished run, in evaluation mode, on `device`.

    Raises:
        InputError: The run is not finished, a file is absent, or files do not belong together.
        CorruptFileError: A file is damaged.
    """
    if not is_detector(folder):
        raise InputError(
            f"{folder}: there is no detector in it ({DETECTOR_FILE} is missing)", "nascli detect makes one"
        )
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError(
            f"{folder}: there is no trained detector in it ({WEIGHTS_FILE} is missing)",
            f"Finish the run with: nascli detect --resume {shlex.quote(str(folder))}",
        )
    spec = read_detector(folder)
    detector = build_detector(Network(spec.network), spec.config, len(spec.categories))
    load_weights(folder / WEIGHTS_FILE, detector)
    return detector.to(device).eval(), spec


def is_detector(folder: Path) -> bool:
    """Whether a folder is of a detect run."""
    return (folder / DETECTOR_FILE).is_file()
