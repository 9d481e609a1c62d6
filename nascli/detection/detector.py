"""The detector: torchvision's Faster R-CNN over any built network, and its folder on disk.

References: Ren et al. 2015, "Faster R-CNN"; the numbers not in the recipe are torchvision's defaults (IoU thresholds
of 0.7 and 0.3 for proposals and 0.5 for boxes, anchors of ratio 1/2, 1 and 2, score threshold 0.05).
Deviation: Zoph et al. 2018 train by the TensorFlow detection API, with one anchor stride (16) and 1200 x 1200 pixels.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from nascli.artifacts import read_json, write_bytes, write_json
from nascli.config import DetectorConfig, explain
from nascli.data.annotated import Category
from nascli.detection.backbone import Backbone
from nascli.errors import CorruptFileError, InputError
from nascli.models.folders import NETWORK_FILE, WEIGHTS_FILE, load_weights
from nascli.models.network import Network
from nascli.models.spec import NetworkSpec, read_network, write_network

DETECTOR_FILE = "detector.json"
_SCHEMA_VERSION = 1
_RATIOS = (0.5, 1.0, 2.0)
_CROP = 7


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
        InputError: The sizes contradict each other.
    """
    if config.max_size < config.min_size:
        raise InputError(
            f"detector.max_size {config.max_size} is less than detector.min_size {config.min_size}",
            "The shorter side is scaled to min_size unless the longer would exceed max_size",
        )
    spec = network.spec
    backbone = Backbone(network, config.pyramid_channels, freeze_batch_norm=config.freeze_batch_norm)
    detector: nn.Module = FasterRCNN(
        backbone,
        min_size=config.min_size,
        max_size=config.max_size,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
        rpn_anchor_generator=AnchorGenerator(
            anchor_sizes(config, len(backbone.strides)), (_RATIOS,) * len(backbone.strides)
        ),
        rpn_pre_nms_top_n_train=2 * config.proposals,
        rpn_pre_nms_top_n_test=config.proposals,
        rpn_post_nms_top_n_train=config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        box_roi_pool=MultiScaleRoIAlign(list(backbone.taps), _CROP, 2),
        box_head=TwoMLPHead(config.pyramid_channels * _CROP**2, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, classes + 1),
        box_detections_per_img=config.detections,
        box_batch_size_per_image=config.box_samples,
    )
    return detector


def anchor_sizes(config: DetectorConfig, levels: int) -> tuple[tuple[float, ...], ...]:
    """The anchors' sides in pixels, level by level: anchor_size * 2^(level + k / anchor_scales)."""
    scales = config.anchor_scales
    return tuple(
        tuple(config.anchor_size * 2 ** (level + k / scales) for k in range(scales)) for level in range(levels)
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
            f"Finish the run with: nascli detect --resume {folder}",
        )
    spec = read_detector(folder)
    detector = build_detector(Network(spec.network), spec.config, len(spec.categories))
    load_weights(folder / WEIGHTS_FILE, detector)
    return detector.to(device).eval(), spec


def is_detector(folder: Path) -> bool:
    """Whether a folder is of a detect run."""
    return (folder / DETECTOR_FILE).is_file()
