"""What a scored split shows besides its numbers: the worst images, and which classes are taken for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nascli.data.detection.dataset import DetectionSplit
from nascli.detect.coco_eval import Detection, score_images
from nascli.detect.confusion import CONFUSION_FILE, count_confusions
from nascli.detect.drawing import DRAWN_SCORE
from nascli.detect.visualize import draw_worst, worst_images
from nascli.files import write_json

WORST_FOLDER = "worst"


def review_scored(split: DetectionSplit, detections: Sequence[Detection], folder: Path) -> list[dict[str, Any]]:
    """Write `confusion.json`, and `worst/` where the pictures of the worst images are on disk.

    Args:
        split: The truth.
        detections: Of this split's images and categories.
        folder: Is there.

    Returns:
        The worst images as JSON values, the worst first.

    Raises:
        CorruptFileError: A picture is damaged.
    """
    write_json(folder / CONFUSION_FILE, count_confusions(split, detections, DRAWN_SCORE).to_dict())
    worst = worst_images(score_images(split, detections))
    there = [each for each in worst if each.image.path.is_file()]
    if there:
        draw_worst(split, there, detections, folder / WORST_FOLDER)
    return [{"image_id": each.image.id, "file": str(each.image.path), "ap": each.ap} for each in worst]
