"""COCO results files: what any detector found, in the form that every tool writes and reads."""

import json
import math
from pathlib import Path
from typing import Any

from nascli.data.detection.json_types import brief, is_box, is_id, is_number, to_float
from nascli.detect.coco_eval import Detection
from nascli.errors import CorruptFileError, InputError

_FORM = "A COCO results file is a list of objects with image_id, category_id, bbox (x, y, width, height) and score"


def read_results(path: Path) -> list[Detection]:
    """The detections of a results file; other keys than the four of `Detection` are passed over.

    Raises:
        InputError: No such file, or an entry that is no detection; the message names its position and field.
        CorruptFileError: The file is not JSON.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"results {path}: {error.strerror or error}", _FORM) from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"results {path} are not JSON: {error}", "Write them again") from error
    if not isinstance(values, list):
        raise InputError(f"results {path}: JSON, but not a list", _FORM)
    return [_detection(entry, f"results {path}: entry {position}") for position, entry in enumerate(values)]


def _detection(entry: Any, where: str) -> Detection:  # noqa: ANN401 - any JSON
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {brief(entry)}, not an object", _FORM)
    for key in ("image_id", "category_id"):
        if not is_id(entry.get(key)):
            raise InputError(f"{where}: {key} is {brief(entry.get(key))}, not a whole number", _FORM)
    box, score = entry.get("bbox"), entry.get("score")
    if not is_box(box) or not all(math.isfinite(to_float(side)) for side in box):
        raise InputError(f"{where}: bbox is {brief(box)}, not four finite numbers", _FORM)
    if min(box[2:]) < 0:
        raise InputError(f"{where}: bbox {brief(box)} has a negative width or height", _FORM)
    if not is_number(score) or not math.isfinite(to_float(score)):
        raise InputError(f"{where}: score is {brief(score)}, not a finite number", _FORM)
    return Detection(
        image_id=entry["image_id"],
        category_id=entry["category_id"],
        bbox=[float(side) for side in box],
        score=float(score),
    )
