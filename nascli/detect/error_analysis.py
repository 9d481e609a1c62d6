"""The mistakes behind a score: confused classes, and the worst images drawn with ground truth and detections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.detection.dataset import DetectionSplit, open_annotated_image
from nascli.detect.coco_eval import Detection, ImageScore, score_images
from nascli.detect.confusion import CONFUSION_FILE, Indices, count_confusions, group_by_image, pair_boxes
from nascli.detect.visualize import (
    MIN_DRAWN_SCORE,
    LabeledBox,
    detection_boxes,
    draw_boxes,
    ground_truth_boxes,
    tile_panels,
)
from nascli.files import write_json

WORST_FOLDER = "worst"
_WORST_IMAGES = 12


def write_error_analysis(split: DetectionSplit, detections: Sequence[Detection], folder: Path) -> list[dict[str, Any]]:
    """Write `confusion.json`, and `worst/` where the images are on disk, into an existing folder.

    Returns:
        The worst images as JSON values, the worst first.

    Raises:
        CorruptFileError: An image is damaged.
    """
    write_json(folder / CONFUSION_FILE, count_confusions(split, detections, MIN_DRAWN_SCORE).to_dict())
    worst = find_worst_images(score_images(split, detections))
    on_disk = [each for each in worst if each.image.path.is_file()]
    if on_disk:
        draw_worst_images(split, on_disk, detections, folder / WORST_FOLDER)
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
    folder.mkdir(parents=True, exist_ok=True)
    for rank, (image, ap) in enumerate(((each.image, each.ap) for each in worst), 1):
        detected = by_image.get(image.id, [])
        labels = np.array([labels_of[one["category_id"]] for one in detected], dtype=np.int64)
        pairs = pair_boxes(image, np.array([one["bbox"] for one in detected]).reshape(-1, 4), labels)
        own = image.labels[~image.crowd]
        true = ground_truth_boxes(image, _remarks(pairs.detected, own, labels, ("missed", "found as"), names))
        remarks = _remarks(pairs.true, labels, own, ("false", "is"), names)
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
        tile_panels(panels).save(files[-1])
    return files


def _remarks(
    partners: Indices, own: Indices, others: Indices, words: tuple[str, str], names: Sequence[str]
) -> list[str]:
    """The mistake of each box: no partner, or one of another class, which is named; else an empty text.

    Args:
        partners: Position of each box's partner among the others, -1 for none.
        own: Labels of the boxes.
        others: Labels of the others.
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
    number = f"{len(boxes)} box" + ("" if len(boxes) == 1 else "es")
    return f"{name}: {number}" + (f", {marked} {remark}" if marked else "")
