"""Which classes a detector takes for which, and for background.

On each image true and found boxes are paired: first those of equal class, then the rest across classes; the greatest
overlap goes first, and a box is used once. A true box without a partner was taken for background, a found one without
a partner was seen in the background. What lies mostly in a crowd box of its image is left aside.

Letters: M true boxes, D found boxes of an image; K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascli.data.detection.dataset import AnnotatedImage, Boxes, DetectionSplit, to_corners
from nascli.detect.coco_eval import Detection

CONFUSION_FILE = "confusion.json"
BACKGROUND = "background"

LEAST_OVERLAP = 0.5
"""Intersection over union from which on two boxes can be partners."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Pairing:
    """The partners on one image.

    Args:
        found: (M,) position of the found box that a true box is paired with, -1 for none.
        true: (D,) position of the true box that a found box is paired with, -1 for none.
        aside: (D,) whether a found box lies in a crowd and has no partner.
    """

    found: NDArray[np.int64]
    true: NDArray[np.int64]
    aside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BoxConfusion:
    """How often boxes of each class were found as each class.

    Args:
        names: The classes.
        counts: (K + 1, K + 1): a row is a true class, a column a found one; the last of both is background.
        score: Least score of a found box that was looked at.
    """

    names: tuple[str, ...]
    counts: Counts
    score: float

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BoxConfusion":
        """Back from what `to_dict` gave."""
        return cls(
            tuple(values["classes"][:-1]), np.array(values["counts"], dtype=np.int64), values["box_score_thresh"]
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "classes": [*self.names, BACKGROUND],
            "box_score_thresh": self.score,
            "least_overlap": LEAST_OVERLAP,
            "rows": "true classes, columns: found classes",
            "counts": self.counts.tolist(),
        }

    def most_confused(self, count: int) -> list[int]:
        """The positions of the classes most often taken for another or for one, in the order of the classes.

        Where no more than `count` classes were met at all, it is those.
        """
        classes = self.counts[:-1, :-1]
        met = np.flatnonzero(self.counts[:-1].sum(1) + self.counts[:, :-1].sum(0))
        mistaken = classes.sum(0) + classes.sum(1) - 2 * classes.diagonal()
        ranked = sorted(met.tolist(), key=lambda k: (-int(mistaken[k]), -int(self.counts[k].sum()), k))
        return sorted(ranked[:count])


def count_confusions(split: DetectionSplit, detections: Sequence[Detection], box_score_thresh: float) -> BoxConfusion:
    """The confusion of a split.

    Args:
        split: The truth.
        detections: Of this split's images and categories.
        box_score_thresh: Found boxes with a lower score are not looked at.
    """
    labels = {category.id: k for k, category in enumerate(split.categories)}
    background = len(labels)
    counts = np.zeros((background + 1, background + 1), dtype=np.int64)
    by_image = group_by_image(detections, box_score_thresh)
    for image in split.images:
        found = by_image.get(image.id, [])
        classes = np.array([labels[each["category_id"]] for each in found], dtype=np.int64)
        pairs = pair_boxes(image, np.array([each["bbox"] for each in found]).reshape(-1, 4), classes + 1)
        partners = np.append(classes, background)[pairs.found]  # position -1 is background
        np.add.at(counts, (image.labels[~image.crowd] - 1, partners), 1)
        np.add.at(counts[background], classes[(pairs.true < 0) & ~pairs.aside], 1)
    return BoxConfusion(tuple(category.name for category in split.categories), counts, box_score_thresh)


def group_by_image(detections: Sequence[Detection], box_score_thresh: float) -> dict[int, list[Detection]]:
    """The detections with at least that score, by image id."""
    by_image: dict[int, list[Detection]] = {}
    for each in detections:
        if each["score"] >= box_score_thresh:
            by_image.setdefault(each["image_id"], []).append(each)
    return by_image


def pair_boxes(image: AnnotatedImage, found: Boxes, labels: NDArray[np.int64]) -> Pairing:
    """The partners of an image's true boxes, crowds left out, among found boxes.

    Args:
        image: With M boxes that are no crowds.
        found: (D, 4) x, y, width, height.
        labels: (D,) their classes, 1 to K.
    """
    boxes, classes = image.boxes[~image.crowd], image.labels[~image.crowd]
    overlaps, _ = _overlaps(boxes, found)  # (M, D)
    to_found, to_true = np.full(len(boxes), -1), np.full(len(found), -1)
    equal = classes[:, None] == labels
    candidates = np.argwhere(overlaps >= LEAST_OVERLAP).tolist()
    for m, d in sorted(candidates, key=lambda pair: (not equal[tuple(pair)], -overlaps[tuple(pair)])):
        if to_found[m] < 0 and to_true[d] < 0:
            to_found[m], to_true[d] = d, m
    _, inside = _overlaps(image.boxes[image.crowd], found)
    crowded = (inside >= LEAST_OVERLAP).any(0)
    return Pairing(to_found, to_true, crowded & (to_true < 0))


def _overlaps(first: Boxes, second: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each of the first boxes with each of the second: intersection over union, and over the second's own area."""
    a, b = to_corners(first)[:, None], to_corners(second)[None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    common = sides.prod(-1)
    areas = first[:, 2:].prod(-1)[:, None], second[:, 2:].prod(-1)[None]
    tiny = np.finfo(np.float64).tiny  # a found box may be empty
    return common / np.maximum(areas[0] + areas[1] - common, tiny), common / np.maximum(areas[1], tiny)
