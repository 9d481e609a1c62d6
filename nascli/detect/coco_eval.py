"""Average precision as COCO defines it, computed by faster-coco-eval: pycocotools' numbers, in C++.

AP is the area under the precision-recall curve of one class, sampled at 101 recalls, averaged over classes and over
the ten IoU thresholds 0.50, 0.55, ... 0.95; AP50 and AP75 take one threshold. A detection that falls into a crowd box
counts neither for nor against; at most 100 detections per image count.

Images, classes and boxes are numbered from 1 here, whatever ids their file has, each in the order of its ids: the
reference code takes a match with annotation id 0 for no match, and among equal scores the lower image id comes first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from nascli.data.detection.dataset import LARGEST_AREA, AnnotatedImage, DetectionSplit
from nascli.errors import InputError

_PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_RECALLS = ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
SUMMARY = (*_PRECISIONS, *_RECALLS)
"""COCO's twelve numbers in its order; small is under 32 x 32 pixels of area, large over 96 x 96."""

METRIC = "COCO average precision of boxes, 0 to 1, computed by faster-coco-eval"

_MAX_DETECTIONS = 100  # per image


class Detection(TypedDict):
    """One detected box as in COCO's results files: `bbox` is x, y, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class ClassPrecision:
    """One class: its average precision, None where the ground truth has no box of it."""

    id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class DetectionScore:
    """COCO's twelve numbers by name (None where there is nothing to measure), each class, and the counts behind."""

    summary: dict[str, float | None]
    classes: tuple[ClassPrecision, ...]
    images: int
    boxes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values, the twelve numbers first."""
        return {
            **self.summary,
            "images": self.images,
            "boxes": self.boxes,
            "per_class": [asdict(each) for each in self.classes],
        }


@dataclass(frozen=True)
class ImageScore:
    """The average precision of one image, computed as if it were the whole split."""

    image: AnnotatedImage
    ap: float


def score_detections(split: DetectionSplit, detections: Sequence[Detection]) -> DetectionScore:
    """The average precision of detections, in any order and any number per image, on a split.

    Raises:
        InputError: A detection is on an image or of a category that the split does not have.

    References: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the reference code is pycocotools.
    """
    evaluation = _make_evaluation(split, detections)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    summary = {
        name: None if value < 0 else float(value)  # -1 where there is nothing to measure
        for name, value in zip(SUMMARY, evaluation.stats[: len(SUMMARY)], strict=True)
    }
    # axes: IoU thresholds, recalls, classes, areas (0 is all), max. detections per image (the last is 100)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    totals = np.bincount([label for image in split.images for label in image.labels[~image.crowd]], minlength=1)
    classes = tuple(
        ClassPrecision(
            category.id,
            category.name,
            int(totals[k + 1]) if k + 1 < len(totals) else 0,
            _mean(precision[:, :, k]),
            _mean(precision[0, :, k]),
        )
        for k, category in enumerate(split.categories)
    )
    return DetectionScore(summary, classes, len(split.images), split.boxes)


def score_images(split: DetectionSplit, detections: Sequence[Detection]) -> list[ImageScore]:
    """The average precision of each image with boxes over its own classes, in the order of the split.

    Raises:
        InputError: A detection is on an image or of a category that the split does not have.
    """
    evaluation = _make_evaluation(split, detections)
    parameters = evaluation.params
    parameters.areaRng, parameters.areaRngLbl, parameters.maxDets = [[0.0, LARGEST_AREA]], ["all"], [_MAX_DETECTIONS]
    scores: list[ImageScore] = []
    numbers = _image_numbers(split)
    for image in split.images:
        labels = np.unique(image.labels[~image.crowd]).tolist()
        if labels:
            parameters.imgIds, parameters.catIds = [numbers[image.id]], labels
            evaluation.evaluate()
            evaluation.accumulate()
            scores.append(ImageScore(image, _mean(evaluation.eval["precision"]) or 0.0))
    return scores


def group_by_image(detections: Sequence[Detection], score_thresh: float) -> dict[int, list[Detection]]:
    """The detections with at least that score, by image id."""
    by_image: dict[int, list[Detection]] = {}
    for each in detections:
        if each["score"] >= score_thresh:
            by_image.setdefault(each["image_id"], []).append(each)
    return by_image


def _make_evaluation(split: DetectionSplit, detections: Sequence[Detection]) -> Any:  # noqa: ANN401 - no types there
    """The library's evaluation of detections against the ground truth, not yet computed."""
    images = _image_numbers(split)
    labels = split.labels_by_id
    for position, each in enumerate(detections):
        for key, known in (("image_id", images), ("category_id", labels)):
            if each[key] not in known:  # type: ignore[literal-required]
                raise InputError(f"detection {position}: {key} {each[key]} is not in {split.source}")  # type: ignore[literal-required]
    truth = (
        {"image_id": images[image.id], "category_id": label, "bbox": bbox, "area": area, "iscrowd": int(crowd)}
        for image in split.images
        for label, bbox, area, crowd in zip(
            image.labels.tolist(), image.boxes.tolist(), image.areas.tolist(), image.crowd.tolist(), strict=True
        )
    )
    detected = (
        {
            **each,
            "image_id": images[each["image_id"]],
            "category_id": labels[each["category_id"]],
            "area": each["bbox"][2] * each["bbox"][3],
            "iscrowd": 0,
        }
        for each in detections
    )
    indexes = _make_index(split, truth), _make_index(split, detected)
    return COCOeval_faster(*indexes, "bbox", print_function=lambda *_: None)


def _image_numbers(split: DetectionSplit) -> dict[int, int]:
    return {image_id: number for number, image_id in enumerate(sorted(image.id for image in split.images), 1)}


def _make_index(split: DetectionSplit, annotations: Iterable[dict[str, Any]]) -> Any:  # noqa: ANN401 - no types there
    index = COCO()
    index.dataset = {
        "images": [{"id": number} for number in range(1, len(split.images) + 1)],
        "categories": [{"id": k, "name": category.name} for k, category in enumerate(split.categories, 1)],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, 1)],
    }
    index.createIndex()
    return index


def _mean(precision: NDArray[np.float64]) -> float | None:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None
