"""Mistakes of a detector: its classes confused with each other and with the background, and the worst images.

On each image true and detected boxes are paired: first those of equal class, then the rest across classes; the greatest
overlap goes first, and a box is used once. A true box without a partner was missed, so it counts as background; a
detected one without a partner is false, so its true class is background. Detections that lie mostly in a crowd box of
their image do not count.

Letters: M true boxes and D detected boxes of an image; K classes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascli.data.detection.dataset import AnnotatedImage, Boxes, DetectionSplit, open_annotated_image, to_corners
from nascli.data.images.saving import save_image
from nascli.detect.coco_eval import Detection, ImageScore, group_by_image, score_images
from nascli.detect.visualize import (
    MIN_DRAWN_SCORE,
    LabeledBox,
    detection_boxes,
    draw_boxes,
    ground_truth_boxes,
    tile_panels,
)
from nascli.files import make_inner_folder
from nascli.records import write_record
from nascli.units import count_of

CONFUSION_FILE = "confusion.json"
_WORST_FOLDER, _WORST_IMAGES = "worst", 12
BACKGROUND = "background"

MIN_IOU = 0.5
"""Intersection over union from which on two boxes can be partners."""

_PAIRS_AT_ONCE = 1 << 20
"""Pairs of boxes whose overlaps are held in memory together."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pairing:
    """The partners on one image.

    Args:
        labels: (D,) classes of the detected boxes, 1 to K.
        detected: (M,) position of the detected box that a true box is paired with, -1 for none.
        true: (D,) position of the true box that a detected box is paired with, -1 for none.
        in_crowd: (D,) whether a detected box lies in a crowd and has no partner.
    """

    labels: Indices
    detected: Indices
    true: Indices
    in_crowd: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BoxConfusion:
    """Counts of true and detected class over the boxes of a split.

    Args:
        names: The K classes.
        counts: (K + 1, K + 1): a row is a true class, a column a detected one; the last of both is background.
        score_thresh: Lowest score of the detections that were counted.
    """

    names: tuple[str, ...]
    counts: Indices
    score_thresh: float

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BoxConfusion":
        """Inverse of `to_dict`."""
        return cls(tuple(values["classes"][:-1]), np.array(values["counts"], dtype=np.int64), values["score_thresh"])

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as they stand in `confusion.json`."""
        return {
            "classes": [*self.names, BACKGROUND],
            "score_thresh": self.score_thresh,
            "iou_thresh": MIN_IOU,
            "rows": "true classes, columns: detected classes",
            "counts": self.counts.tolist(),
        }

    def most_confused(self, count: int) -> list[int]:
        """The positions of the classes with the most mistakes in both directions, in the order of the classes.

        Where no more than `count` classes occur at all, it is those.
        """
        classes = self.counts[:-1, :-1]
        present = np.flatnonzero(self.counts[:-1].sum(1) + self.counts[:, :-1].sum(0))
        mistaken = classes.sum(0) + classes.sum(1) - 2 * classes.diagonal()
        ranked = sorted(present.tolist(), key=lambda k: (-int(mistaken[k]), -int(self.counts[k].sum()), k))
        return sorted(ranked[:count])


def count_confusions(split: DetectionSplit, detections: Sequence[Detection], score_thresh: float) -> BoxConfusion:
    """The confusion of the detections on a split, without those of a lower score than `score_thresh`."""
    background = len(split.categories)
    counts = np.zeros((background + 1, background + 1), dtype=np.int64)
    by_image, labels_by_id = group_by_image(detections, score_thresh), split.labels_by_id
    for image in split.images:
        detected = by_image.get(image.id, [])
        pairs = pair_boxes(image, detected, labels_by_id)
        partners = np.append(pairs.labels - 1, background)[pairs.detected]  # position -1 is background
        np.add.at(counts, (image.labels[~image.crowd] - 1, partners), 1)
        np.add.at(counts[background], (pairs.labels - 1)[(pairs.true < 0) & ~pairs.in_crowd], 1)
    return BoxConfusion(tuple(split.class_names), counts, score_thresh)


def pair_boxes(image: AnnotatedImage, detections: Sequence[Detection], labels_by_id: Mapping[int, int]) -> Pairing:
    """Pair an image's M true boxes, crowds excluded, with the D detected ones."""
    detected = np.array([each["bbox"] for each in detections]).reshape(-1, 4)
    labels = np.array([labels_by_id[each["category_id"]] for each in detections], dtype=np.int64)
    boxes, classes = image.boxes[~image.crowd], image.labels[~image.crowd]
    to_detected, to_true = np.full(len(boxes), -1), np.full(len(detected), -1)
    candidates, overlaps = _find_candidates(boxes, detected)
    differs = classes[candidates[:, 0]] != labels[candidates[:, 1]]
    for m, d in candidates[np.lexsort((-overlaps, differs))].tolist():
        if to_detected[m] < 0 and to_true[d] < 0:
            to_detected[m], to_true[d] = d, m
    crowded = np.zeros(len(detected), dtype=np.bool_)
    for _, crowds in _divide(image.boxes[image.crowd], len(detected)):
        crowded |= (_overlaps(crowds, detected)[1] >= MIN_IOU).any(0)
    return Pairing(labels, to_detected, to_true, crowded & (to_true < 0))


def write_error_analysis(split: DetectionSplit, detections: Sequence[Detection], folder: Path) -> list[dict[str, Any]]:
    """Write `confusion.json`, and `worst/` where the images are on disk, into an existing folder.

    Returns:
        The worst images as JSON values, the worst first.

    Raises:
        CorruptFileError: An image is damaged.
    """
    write_record(folder / CONFUSION_FILE, count_confusions(split, detections, MIN_DRAWN_SCORE).to_dict())
    worst = find_worst_images(score_images(split, detections))
    on_disk = [each for each in worst if os.path.isfile(each.image.path)]
    if on_disk:
        draw_worst_images(split, on_disk, detections, folder / _WORST_FOLDER)
    return [{"image_id": each.image.id, "file": str(each.image.path), "ap": each.ap} for each in worst]


def find_worst_images(scores: Sequence[ImageScore], count: int = _WORST_IMAGES) -> list[ImageScore]:
    """The images of the lowest average precision, the worst first; of equal ones those with more boxes."""
    return sorted(scores, key=lambda each: (each.ap, -int((~each.image.crowd).sum()), each.image.id))[:count]


def draw_worst_images(
    split: DetectionSplit, worst: Sequence[ImageScore], detections: Sequence[Detection], folder: Path
) -> list[Path]:
    """Draw each of these images twice, with its ground truth and with the detections, as `<rank>-<image id>.png`.

    A label says what is wrong with its box: a true one was missed or found as another class, a detected one is another
    class or false.
    """
    names, labels_of = split.class_names, split.labels_by_id
    by_image = group_by_image(detections, MIN_DRAWN_SCORE)
    files: list[Path] = []
    make_inner_folder(folder)
    for rank, (image, ap) in enumerate(((each.image, each.ap) for each in worst), 1):
        detected = by_image.get(image.id, [])
        pairs = pair_boxes(image, detected, labels_of)
        own = image.labels[~image.crowd]
        true = ground_truth_boxes(image, _remarks(pairs.detected, own, pairs.labels, ("missed", "found as"), names))
        remarks = _remarks(pairs.true, pairs.labels, own, ("false", "is"), names)
        remarks = [
            "in a crowd" if crowd else each for each, crowd in zip(remarks, pairs.in_crowd.tolist(), strict=True)
        ]
        boxes = detection_boxes(detected, labels_of, remarks)
        original = open_annotated_image(image)
        panels = [
            (_caption("truth", true, "missed"), draw_boxes(original, true, names)),
            (_caption(f"AP {100 * ap:.1f} %, detected", boxes, "false"), draw_boxes(original, boxes, names)),
        ]
        files.append(folder / f"{rank:02d}-{image.id:06d}.png")
        save_image(tile_panels(panels), files[-1])
    return files


def _remarks(
    partners: Indices, own: Indices, others: Indices, words: tuple[str, str], names: Sequence[str]
) -> list[str]:
    """The mistake of each box: no partner, or one of another class, which is named; else an empty text.

    Args:
        partners: Position of each box's partner among the others, -1 for none.
        own, others: Labels of the boxes, and of the others.
        words: For no partner, and before the partner's class.
        names: The names of labels 1 to K.
    """
    alone, mistaken = words
    remarks: list[str] = []
    for label, partner in zip(own.tolist(), partners.tolist(), strict=True):
        if partner < 0:
            remarks.append(alone)
        else:
            other = int(others[partner])
            remarks.append("" if other == label else f"{mistaken} {names[other - 1]}")
    return remarks


def _caption(name: str, boxes: Sequence[LabeledBox], remark: str) -> str:
    """For instance `truth: 5 boxes, 2 missed`."""
    marked = sum(box.remark == remark for box in boxes)
    number = count_of(len(boxes), "box")
    return f"{name}: {number}" + (f", {marked} {remark}" if marked else "")


def _find_candidates(boxes: Boxes, detected: Boxes) -> tuple[Indices, NDArray[np.float64]]:
    """The pairs of a true and a detected box that overlap enough, (N, 2), and their overlaps."""
    candidates, overlaps = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for start, some in _divide(boxes, len(detected)):
        shares, _ = _overlaps(some, detected)
        enough = shares >= MIN_IOU
        candidates.append(np.argwhere(enough) + np.array((start, 0)))
        overlaps.append(shares[enough])
    return np.concatenate(candidates), np.concatenate(overlaps)


def _divide(boxes: Boxes, others: int) -> Iterator[tuple[int, Boxes]]:
    """The boxes in parts of which each takes little memory with all others, and the position where a part begins."""
    rows = max(1, _PAIRS_AT_ONCE // max(1, others))
    return ((start, boxes[start : start + rows]) for start in range(0, len(boxes), rows))


def _overlaps(first: Boxes, second: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersection of each first with each second box over their union, and over the second's own area: (M, D) both."""
    a, b = to_corners(first)[:, None], to_corners(second)[None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    common = sides.prod(-1)
    areas = first[:, 2:].prod(-1)[:, None], second[:, 2:].prod(-1)[None]
    tiny = np.finfo(np.float64).tiny  # a detected box may be empty
    return common / np.maximum(areas[0] + areas[1] - common, tiny), common / np.maximum(areas[1], tiny)
