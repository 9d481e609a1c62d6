"""The detector: Faster R-CNN over any network, with one of `HEADS`, and its folder on disk.

Its boxes and losses are those of torchvision's, whose parts it is made of; the parts that pick boxes in training are
our own.

References: Ren et al. 2015, "Faster R-CNN"; the numbers not in the recipe are torchvision's defaults (IoU thresholds
of 0.7 and 0.3 for proposals and 0.5 for boxes, anchors of ratio 1/2, 1 and 2).
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RPNHead

from nascli.config import DetectorConfig, Strict, parse
from nascli.data.detection.dataset import Category
from nascli.data.images.decoding import REDUCED_ABOVE
from nascli.detect.heads import ANCHOR_RATIOS, HEADS
from nascli.detect.proposals import ProposalNetwork
from nascli.detect.resizing import ExactTransform, Target, scale_boxes
from nascli.detect.roi_heads import SampledRoIHeads
from nascli.errors import CorruptFileError, InputError
from nascli.files import write_text
from nascli.models.families import NETWORK_FILE, build
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE, load_weights
from nascli.models.spec import NetworkSpec, format_network, read_network
from nascli.records import check_schema, format_record, read_record
from nascli.runs.find import advise_folder
from nascli.runs.record import DETECTOR_FILE
from nascli.text import quote

_SCHEMA_VERSION = 1
_REDUCED_FACTOR = 2
"""Times the largest side which a detector sees that a very large image keeps until it is resized."""


@dataclass(frozen=True)
class DetectorSpec:
    """Everything besides weights that is needed to build a detector again."""

    network: NetworkSpec
    config: DetectorConfig
    categories: tuple[Category, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of labels 1 to K."""
        return tuple(category.name for category in self.categories)


class Detector(GeneralizedRCNN):  # type: ignore[misc]
    """A backbone, its proposals, and what they show.

    In training mode it maps (images, targets) to four losses by name; in evaluation mode images to one dict each, of
    `boxes` (M, 4) corners in its pixels, `labels` (M,) and `scores` (M,). Images are float32 (3, H, W) in [0, 1], of
    any sizes; they are normalized as in the network's training and resized here. Targets have `boxes` (M, 4) that are
    not empty, and `labels` (M,) from 1 on.
    """

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses, or what is in the images."""
        if not self.training:
            found: list[dict[str, Tensor]] = super().forward(images)
            return found
        # torchvision's would read every box first, to see that none is empty
        resized, goals = self.transform(images, targets)
        maps = self.backbone(resized.tensors)
        proposals, of_proposals = self.rpn(resized, maps, goals)
        _, of_boxes = self.roi_heads(maps, proposals, resized.image_sizes, goals)
        return {**of_boxes, **of_proposals}


def build_detector(network: ImageClassifier, config: DetectorConfig, classes: int) -> Detector:
    """A Faster R-CNN with fresh heads, initialized from torch's global random generator.

    Args:
        network: The backbone; it becomes part of the detector.
        classes: K without the background, which is added here.

    Raises:
        InputError: The sizes contradict each other, or the network does not fit the head.
    """
    _check_sizes(config)
    spec = network.spec
    head = HEADS[config.head](network, config)
    network.set_grad_checkpointing(config.grad_checkpointing)
    predictor = FastRCNNPredictor(head.channels, classes + 1)
    anchors = AnchorGenerator(head.anchors, (ANCHOR_RATIOS,) * len(head.anchors))
    rpn_head = head.rpn_head or RPNHead(head.backbone.out_channels, anchors.num_anchors_per_location()[0])
    square = (config.min_size, config.min_size) if config.resize == "both_sides" else None
    transform = ExactTransform(config.min_size, config.max_size, list(spec.mean), list(spec.std), 32, square)
    transform.register_forward_pre_hook(_reduce_largest)
    return Detector(
        head.backbone,
        ProposalNetwork(anchors, rpn_head, head.pre_nms_top_n, config.rpn_post_nms_top_n),
        SampledRoIHeads(
            head.roi_pool,
            head.box_head,
            predictor,
            batch_size_per_image=config.box_batch_size_per_image,
            score_thresh=config.box_score_thresh,
            nms_thresh=config.box_nms_thresh,
            detections_per_img=config.box_detections_per_img,
        ),
        transform,
    )


def _reduce_largest(transform: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ANN401 - torchvision's
    """Make very large images smaller before they are normalized and resized, or each would be there three times.

    Boxes follow; those that are found are brought to the size that the image had before.
    """
    images, targets = inputs[0], inputs[1] if len(inputs) > 1 else None
    changed, moved = list(images), None if targets is None else list(targets)
    for k, image in enumerate(images):
        height, width = image.shape[-2:]
        size = _find_size(height, width, max((transform.max_size, *(transform.fixed_size or ()))))
        if size == (height, width):
            continue
        changed[k] = nn.functional.interpolate(image[None], size, mode="area")[0]
        if moved is not None:
            moved[k] = {**moved[k], "boxes": scale_boxes(moved[k]["boxes"], (height, width), size)}
    return changed, moved


def _find_size(height: int, width: int, largest: int) -> tuple[int, int]:
    """The height and width from which an image is resized: its own, but for very large ones."""
    if height * width <= REDUCED_ABOVE * 10**6:
        return height, width
    factor = max(1, max(height, width) // (_REDUCED_FACTOR * largest))
    return max(1, height // factor), max(1, width // factor)


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


class CategoryEntry(Strict):
    """An entry of `categories` in `detector.json`."""

    id: int
    name: str


def write_detector(folder: Path, spec: DetectorSpec) -> None:
    """Write `network.json` and `detector.json`."""
    for name, text in format_detector(spec).items():
        write_text(folder / name, text)


def format_detector(spec: DetectorSpec) -> dict[str, str]:
    """The texts of `network.json` and `detector.json`, by name."""
    detector = {
        "schema": _SCHEMA_VERSION,
        "detector": spec.config.model_dump(mode="json"),
        "categories": [asdict(category) for category in spec.categories],
    }
    return {NETWORK_FILE: format_network(spec.network), DETECTOR_FILE: format_record(detector)}


def read_detector(folder: Path) -> DetectorSpec:
    """Read `network.json` and `detector.json`.

    Raises:
        InputError: A file is absent, of a newer schema, or a field is impossible.
        CorruptFileError: A file is damaged.
    """
    path = folder / DETECTOR_FILE
    values = read_record(path)
    check_schema(values, _SCHEMA_VERSION, path)
    try:
        given, entries = values["detector"], [CategoryEntry.model_validate(entry) for entry in values["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path}: JSON, but not a detector ({error!r})") from error
    config = parse(DetectorConfig, given, str(path))
    categories = tuple(Category(entry.id, entry.name) for entry in entries)
    return DetectorSpec(read_network(folder / NETWORK_FILE), config, categories)


def check_detector(folder: Path) -> None:
    """InputError where a folder holds no detector, or none that is trained to the end."""
    if not is_detector(folder):
        raise InputError(
            f"{folder}: there is no detector in it ({DETECTOR_FILE} is missing)",
            ". ".join(filter(None, (advise_folder(folder), "nascli detect makes one"))),
        )
    if not os.path.isfile(folder / WEIGHTS_FILE):
        raise InputError(
            f"{folder}: there is no trained detector in it ({WEIGHTS_FILE} is missing)",
            f"Finish the run with: nascli detect --resume {quote(folder)}",
        )


def load_detector(folder: Path, device: torch.device) -> tuple[nn.Module, DetectorSpec]:
    """The detector of a finished run, in evaluation mode, on `device`.

    Raises:
        InputError: The run is not finished, a file is absent, or files do not belong together.
        CorruptFileError: A file is damaged.
    """
    check_detector(folder)
    spec = read_detector(folder)
    detector = build_detector(build(spec.network), spec.config, len(spec.categories))
    load_weights(folder / WEIGHTS_FILE, detector)
    return detector.to(device, memory_format=torch.channels_last).eval(), spec


def is_detector(folder: Path) -> bool:
    """Whether a folder is a run of `nascli detect`."""
    return os.path.isfile(folder / DETECTOR_FILE)
