"""Average precision as COCO defines it, computed by pycocotools.

AP is the area under the precision-recall curve of one class, sampled at 101 recalls, averaged over classes and over
the ten IoU thresholds 0.50, 0.55, ... 0.95; AP50 and AP75 take one threshold. A detection that falls into a crowd box
counts neither for nor against; at most 100 detections an image count.

Ground truth is numbered from 1 here whatever ids its file has: pycocotools takes a match with annotation id 0 for no
match.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nascli.data.annotated import DetectionSplit
from nascli.errors import InputError

SUMMARY = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
"""COCO's twelve numbers in its order; small is under 32 x 32 pixels of area, large over 96 x 96."""


class Detection(TypedDict):
    """One found box, as COCO's results files have it: `bbox` is x, y, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class ClassScore:
    """One class: its average precision, None where the ground truth has no box of it."""

    id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class DetectionScore:
    """COCO's twelve numbers by name (None where there is nothing to measure), each class, and how much was scored."""

    summary: dict[str, float | None]
    classes: tuple[ClassScore, ...]
    images: int
    boxes: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values, the twelve numbers first."""
        return {
            **self.summary,
            "images": self.images,
            "boxes": self.boxes,
            "per_class": [asdict(each) for each in self.classes],
        }


def score_detections(split: DetectionSplit, detections: Sequence[Detection]) -> DetectionScore:
    """The average precision of detections on a split.

    Args:
        split: The ground truth; its crowd boxes are passed on as such.
        detections: In any order, any number an image.

    Raises:
        InputError: A detection is on an image or of a category that the split does not have.

    References: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the reference code is pycocotools.
    """
    _check_ids(split, detections)
    with _silence():
        truth, found = _truth(split), _found(split, detections)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    summary = {name: _number(value) for name, value in zip(SUMMARY, evaluation.stats, strict=True)}
    # axes: IoU thresholds, recalls, classes, areas (0 is all), most detections an image (the last is 100)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    totals = np.bincount([label for image in split.images for label in image.labels[~image.crowd]], minlength=1)
    classes = tuple(
        ClassScore(
            category.id,
            category.name,
            int(totals[k + 1]) if k + 1 < len(totals) else 0,
            _mean(precision[:, :, k]),
            _mean(precision[0, :, k]),
        )
        for k, category in enumerate(split.categories)
    )
    return DetectionScore(summary, classes, len(split.images), split.boxes)


def _truth(split: DetectionSplit) -> COCO:
    annotations: list[dict[str, Any]] = []
    for image in split.images:
        for box, label, area, crowd in zip(
            image.boxes.tolist(), image.labels.tolist(), image.areas.tolist(), image.crowd.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": split.categories[label - 1].id,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return _indexed(split, annotations)


def _found(split: DetectionSplit, detections: Sequence[Detection]) -> COCO:
    return _indexed(
        split,
        [
            {**detection, "id": number, "area": detection["bbox"][2] * detection["bbox"][3], "iscrowd": 0}
            for number, detection in enumerate(detections, 1)
        ],
    )


def _indexed(split: DetectionSplit, annotations: list[dict[str, Any]]) -> COCO:
    made = COCO()
    made.dataset = {
        "images": [{"id": image.id} for image in split.images],
        "categories": [{"id": category.id, "name": category.name} for category in split.categories],
        "annotations": annotations,
    }
    made.createIndex()
    return made


def _check_ids(split: DetectionSplit, detections: Sequence[Detection]) -> None:
    images = {image.id for image in split.images}
    categories = {category.id for category in split.categories}
    for position, detection in enumerate(detections):
        for key, known in (("image_id", images), ("category_id", categories)):
            if detection[key] not in known:  # type: ignore[literal-required]
                raise InputError(
                    f"detection {position}: {key} {detection[key]} is not in {split.source}"  # type: ignore[literal-required]
                )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _mean(precision: Any) -> float | None:  # noqa: ANN401 - an array of a library without types
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None


def _number(value: float) -> float | None:
    return None if value < 0 else float(value)
