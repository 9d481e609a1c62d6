"""Results of any tool, held against the split that they are of: image and class of each, and what all have in common.

What can mean one thing only is read as that and counted; `nascli.data.issues` has the table. Boxes are never converted:
where they look like another order of numbers, that is said beside the scores.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.detection.across import MAX_COUNTED
from nascli.data.detection.dataset import LARGEST_AREA, DetectionSplit
from nascli.data.detection.formats.box_patterns import READINGS, describe_box, find_other_reading
from nascli.data.detection.formats.values import is_blank, read_number
from nascli.data.issues import Issue, IssueLog, raise_if_refused
from nascli.detect.coco_eval import Detection
from nascli.detect.results_file import RESULTS_HINT, SCORE_KEYS, Entry, ResultEntries, read_result_entries
from nascli.detect.results_names import IMAGE_KEYS, UNLISTED, match_category_ids, match_image_ids
from nascli.errors import InputError
from nascli.units import shorten

_LEAVE, _PARTS = "results that leave their images", "results look like parts of their images"
_FAR = 0.1  # part of an image's side by which a box sticks out that rounding does not explain
_MOST = 0.5  # part of the boxes


@dataclass(frozen=True)
class Results:
    """The detections of a file, and what was met in reading it."""

    detections: list[Detection]
    issues: tuple[Issue, ...]

    @property
    def doubts(self) -> tuple[Issue, ...]:
        """Reasons to doubt the scores."""
        return tuple(each for each in self.issues if each.kind in (_LEAVE, _PARTS))


def read_results(path: Path, split: DetectionSplit, *, strict: bool = False) -> Results:
    """Read the detections of any tool on a split; further keys of its entries are ignored.

    Args:
        strict: Refuse what would be skipped or read leniently.

    Raises:
        InputError: No such file, another kind of file, results of other images, or an entry that is no detection.
        CorruptFileError: The file is not JSON.
    """
    log = IssueLog()
    found = read_result_entries(path, log)
    _refuse_other_results(path, found.entries)
    images = match_image_ids(found, split, log)
    _refuse_other_data(path, split, found, log.issues)
    categories = match_category_ids(found, split, log)
    detections = _join(found.entries, images, categories, log)
    raise_if_refused(path, log.issues, strict=strict, lister="")
    _check_together(detections, split, log)
    return Results(detections, log.issues)


def _refuse_other_results(path: Path, entries: Sequence[Entry]) -> None:
    """InputError for results of another task: they have no boxes."""
    if not entries or any(not is_blank(entry.get("bbox")) for entry in entries):
        return
    for key, what in (("segmentation", "masks"), ("keypoints", "keypoints"), ("segments_info", "panoptic segments")):
        if any(key in entry for entry in entries):
            raise InputError(
                f"results {path}: {what}, without boxes",
                f"Boxes alone are scored: give each entry its bbox. {RESULTS_HINT}",
            )


def _refuse_other_data(path: Path, split: DetectionSplit, found: ResultEntries, issues: Iterable[Issue]) -> None:
    """InputError where no entry is of an image of the split."""
    unlisted = sum(each.count for each in issues if each.kind == UNLISTED)
    if not unlisted or unlisted < len(found.entries):
        return
    theirs = [entry[key] for entry in found.entries[:3] for key in IMAGE_KEYS if not is_blank(entry.get(key))]
    ours = ", ".join(f"{image.written_id or image.id} ({image.path.name})" for image in split.images[:3])
    raise InputError(
        f"results {path}: entry 0: image_id is {shorten(repr(theirs[0]))}; no entry is of an image of {split.source}",
        f"Give the data set that they are of. Images of the file: {', '.join(map(repr, theirs))}; of the data: {ours}",
        file=path,
    )


def _join(
    entries: Sequence[Entry], images: Sequence[int | None], categories: Sequence[int | None], log: IssueLog
) -> list[Detection]:
    detections: list[Detection] = []
    for position, entry in enumerate(entries):
        image, category = images[position], categories[position]
        box, score = _read_box(entry.get("bbox"), position, log), _read_score(entry, position, log)
        if image is not None and category is not None and box is not None and score is not None:
            detections.append(Detection(image_id=image, category_id=category, bbox=box, score=score))
    return detections


def _read_box(value: object, position: int, log: IssueLog) -> list[float] | None:
    """Four finite numbers; None, with an issue, for anything else."""
    numbers = [read_number(each) for each in value] if isinstance(value, list) else []
    box = [number for number in numbers if number is not None and math.isfinite(number)]
    if len(box) != 4 or len(numbers) != 4:
        log.add(
            "result box not four numbers", f"entry {position}: bbox is {shorten(repr(value))}, not four finite numbers"
        )
        return None
    if box[2] < 0 or box[3] < 0:
        example = f"entry {position}: bbox {shorten(repr(value))} has a negative width or height"
        log.add("result box of negative size", example)
        return None
    if box[2] * box[3] > LARGEST_AREA or not math.isfinite(box[0] + box[2]) or not math.isfinite(box[1] + box[3]):
        log.add("result box too large", f"entry {position}: bbox {shorten(repr(value))}")
        return None
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        log.add("number of another type", f"entry {position}: bbox is {shorten(repr(value))}")
    return box


def _read_score(entry: Mapping[str, Any], position: int, log: IssueLog) -> float | None:
    key = next((each for each in SCORE_KEYS if each in entry), "score")
    value = entry.get(key)
    text = value.strip().removesuffix("%") if isinstance(value, str) else value
    score = read_number(text)
    if score is None or not math.isfinite(score):
        log.add("score not a number", f"entry {position}: {key} is {shorten(repr(value))}, not a finite number")
        return None
    if isinstance(value, str):
        log.add("number of another type", f"entry {position}: {key} is {value!r}")
    if key != "score":
        log.add("score under another key", f"entry {position}: its {key} is read")
    return score


def _check_together(detections: Sequence[Detection], split: DetectionSplit, log: IssueLog) -> None:
    """Remark on what all detections of a file have in common."""
    if not detections:
        return
    _check_boxes(detections, split, log)
    highest = max(each["score"] for each in detections)
    if highest > 1 or min(each["score"] for each in detections) < 0:
        above = sum(not 0 <= each["score"] <= 1 for each in detections)
        log.add("score not between 0 and 1", f"the highest is {highest:g}", above)
    per_image = Counter(each["image_id"] for each in detections)
    for image, count in per_image.items():
        if count > MAX_COUNTED:
            log.add("image with more than 100 results", f"image id {image} has {count:,}")


def _check_boxes(detections: Iterable[Detection], split: DetectionSplit, log: IssueLog) -> None:
    sizes_by_id = {image.id: (image.width, image.height) for image in split.images if image.width and image.height}
    sized = [each for each in detections if each["image_id"] in sizes_by_id]
    if not sized:
        return
    boxes = np.array([each["bbox"] for each in sized])
    sizes = np.array([sizes_by_id[each["image_id"]] for each in sized], dtype=np.float64)
    beyond = boxes[:, :2] + boxes[:, 2:] - sizes
    far = int((beyond > 1 + _FAR * sizes).any(1).sum())
    reading = find_other_reading(boxes, sizes)
    shown = describe_box(boxes[0], sizes[0])
    if boxes.max() <= 1:
        log.add(_PARTS, f"all are between 0 and 1, such as {shown}", len(boxes))
    elif reading or far >= _MOST * len(boxes):
        looks = f"; nearly all fit as {READINGS[reading][0]}" if reading else ""
        example = f"{far:,} of {len(boxes):,} boxes leave their images, such as {shown}{looks}"
        log.add(_LEAVE, example, far)
