"""Average precision as COCO defines it, computed by hotcoco: pycocotools' numbers, in Rust.

AP is the area under the precision-recall curve of one class, sampled at 101 recalls, averaged over classes and over
the ten IoU thresholds 0.50, 0.55, ... 0.95; AP50 and AP75 take one threshold. A detection that falls into a crowd box
counts neither for nor against; at most 100 detections per image count.

Images, classes and boxes are numbered from 1 here, whatever ids their file has, each in the order of its ids: the
reference code takes a match with annotation id 0 for no match, and among equal scores the lower image id comes first.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, TypedDict

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from nascli.data.detection.dataset import LARGEST_AREA, AnnotatedImage, DetectionSplit
from nascli.errors import InputError, NascliError

_PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_RECALLS = ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
SUMMARY = (*_PRECISIONS, *_RECALLS)
"""COCO's twelve numbers in its order; small is under 32 x 32 pixels of area, large over 96 x 96."""

METRIC = "COCO average precision of boxes, 0 to 1, computed by hotcoco"

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
        InputError: A detection is on an image or of a category that the split does not have, or a number of it is not
            finite.
        NascliError: This process was forked from one that has scored.

    References: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the reference code is pycocotools.
    """
    precision, recall = _compute(_make_evaluation(split, detections))
    per_class = precision[:, :, :, 0, -1]
    totals = np.bincount([label for image in split.images for label in image.labels[~image.crowd]], minlength=1)
    classes = tuple(
        ClassPrecision(
            category.id,
            category.name,
            int(totals[k + 1]) if k + 1 < len(totals) else 0,
            _mean(per_class[:, :, k]),
            _mean(per_class[0, :, k]),
        )
        for k, category in enumerate(split.categories)
    )
    return DetectionScore(_summarize(precision, recall), classes, len(split.images), split.boxes)


def score_images(split: DetectionSplit, detections: Sequence[Detection]) -> list[ImageScore]:
    """The average precision of each image with boxes over its own classes, in the order of the split.

    Raises:
        InputError: A detection is on an image or of a category that the split does not have, or a number of it is not
            finite.
        NascliError: This process was forked from one that has scored.
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
            precision, _ = _compute(evaluation)
            scores.append(ImageScore(image, _mean(precision) or 0.0))
    return scores


def group_by_image(detections: Sequence[Detection], score_thresh: float) -> dict[int, list[Detection]]:
    """The detections with at least that score, by image id."""
    by_image: dict[int, list[Detection]] = {}
    for each in detections:
        if each["score"] >= score_thresh:
            by_image.setdefault(each["image_id"], []).append(each)
    return by_image


def _make_evaluation(split: DetectionSplit, detections: Sequence[Detection]) -> COCOeval:
    """The library's evaluation of detections against the ground truth, not yet computed."""
    if _scoring_process() != os.getpid():  # it would wait for ever for threads that a fork does not copy
        raise NascliError(
            "a process forked from one that has scored cannot score", "Start processes by spawn, or score in the first."
        )
    numbers = _image_numbers(split)
    truth = _make_truth(split, numbers)
    return COCOeval(truth, truth.load_res(_make_rows(split, numbers, detections)), "bbox")


@cache
def _scoring_process() -> int:
    """The id of the process that scored first: it has the library's threads."""
    return os.getpid()


def _image_numbers(split: DetectionSplit) -> dict[int, int]:
    return {image_id: number for number, image_id in enumerate(sorted(image.id for image in split.images), 1)}


def _make_truth(split: DetectionSplit, numbers: dict[int, int]) -> COCO:
    images = split.images
    owners = np.array([numbers[image.id] for image in images], dtype=np.int64)
    return COCO.from_arrays(
        [{"id": number} for number in range(1, len(images) + 1)],
        [{"id": label, "name": str(label)} for label in range(1, len(split.categories) + 1)],  # any text may be a name
        owners.repeat([len(image.labels) for image in images]),
        # an empty array first: there may be no image
        np.concatenate((np.empty(0, dtype=np.int64), *(image.labels for image in images))),
        np.concatenate((np.empty((0, 4)), *(image.boxes for image in images))),
        area=np.concatenate((np.empty(0), *(image.areas for image in images))),
        iscrowd=np.concatenate((np.empty(0, dtype=np.bool_), *(image.crowd for image in images))),
    )


def _make_rows(split: DetectionSplit, numbers: dict[int, int], detections: Sequence[Detection]) -> NDArray[np.float64]:
    """(N, 7): the image's number, the box, the score and the label of each detection."""
    labels = split.labels_by_id
    rows = np.empty((len(detections), 7))
    for position, each in enumerate(detections):
        number, label = numbers.get(each["image_id"]), labels.get(each["category_id"])
        if number is None or label is None:
            strange = f"image_id {each['image_id']}" if number is None else f"category_id {each['category_id']}"
            raise InputError(f"detection {position}: {strange} is not in {split.source}")
        rows[position] = number, *each["bbox"], each["score"], label
    odd = np.flatnonzero(~np.isfinite(rows).all(1))
    if odd.size:  # without a word such a box would match any other
        first = detections[odd[0]]
        raise InputError(f"detection {odd[0]}: bbox {first['bbox']} or score {first['score']} is not finite")
    return rows


def _compute(evaluation: COCOeval) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall, -1 where there is nothing to measure.

    Axes: IoU thresholds, recalls (of precision alone), classes, areas (0 is all), and the most detections per image.
    """
    evaluation.evaluate()
    evaluation.accumulate()
    curves = evaluation.eval or {}
    return curves["precision"], curves["recall"]


def _summarize(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, float | None]:
    """COCO's twelve numbers; the library's own summary would be printed."""
    sizes = range(1, 4)
    parts = (
        *(precision[thresholds, ..., 0, -1] for thresholds in (slice(None), 0, 5)),  # all, 0.50, 0.75
        *(precision[..., size, -1] for size in sizes),
        *(recall[..., 0, limit] for limit in range(3)),
        *(recall[..., size, -1] for size in sizes),
    )
    return {name: _mean(part) for name, part in zip(SUMMARY, parts, strict=True)}


def _mean(values: NDArray[np.float64]) -> float | None:
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None
