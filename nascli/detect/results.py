"""Results of any tool, held against the split that they are of: image and class of each, and what all have in common.

What can mean one thing only is read as that and counted; `nascli.data.issues` has the table. Boxes are never converted:
where they look like another order of numbers, that is said beside the scores.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.detection.across import MAX_COUNTED
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.formats.box_patterns import describe_reading, find_other_reading
from nascli.data.detection.formats.values import is_blank, read_number, read_whole
from nascli.data.issues import Issue, IssueLog, raise_if_refused
from nascli.detect.coco_eval import Detection
from nascli.detect.results_file import RESULTS_HINT, SCORE_KEYS, Entry, ResultEntries, read_result_entries
from nascli.errors import InputError
from nascli.text import as_read, nfc
from nascli.units import shorten

_IMAGE_KEYS = ("image_id", "file_name", "filename", "image", "image_name", "image_path")
_CATEGORY_KEYS = ("category_id", "category_name", "category", "class_name", "label", "class", "name")
"""Keys that say the image and the class, COCO's own first."""

_LEAVE, _PARTS = "results that leave their images", "results look like parts of their images"
_UNLISTED = "result of an unlisted image"
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
    images = _match(found.entries, _IMAGE_KEYS, _ImageTable(split, found.image_names).find, log)
    _refuse_other_data(path, split, found, log.issues)
    categories = _match(found.entries, _CATEGORY_KEYS, _CategoryTable(split, found.category_names).find, log)
    detections = _join(found.entries, images, categories, log)
    raise_if_refused(path, log.issues, strict=strict, lister="")
    _check_together(detections, split, log)
    return Results(detections, log.issues)


@dataclass(frozen=True)
class _Match:
    """The meaning of a value that names an image or a class: an id of the split, and the kind of issue if it is one."""

    id: int | None
    kind: str = ""
    example: str = ""


def _match(
    entries: Sequence[Entry],
    keys: Sequence[str],
    find: Callable[[Sequence[tuple[str, Hashable]]], Mapping[tuple[str, Hashable], _Match]],
    log: IssueLog,
) -> list[int | None]:
    """The id that each entry means; each kind of issue is counted once per entry."""
    named: list[tuple[str, Hashable]] = []
    for entry in entries:
        key = keys[0]
        if is_blank(entry.get(key)):
            key = next((each for each in keys if not is_blank(entry.get(each))), key)
        value = entry.get(key)
        named.append((key, value if isinstance(value, Hashable) else repr(value)))
    first = {value: position for position, value in reversed(list(enumerate(named)))}
    matches = find(list(first))
    for value, count in Counter(named).items():
        match = matches[value]
        if match.kind:
            log.add(match.kind, f"entry {first[value]}: {value[0]} {match.example}", count)
    return [matches[value].id for value in named]


class _ImageTable:
    """The images of a split, by all that names them."""

    def __init__(self, split: DetectionSplit, own_names: Mapping[object, str]) -> None:
        self._split, self._own_names = split, own_names
        self._written = {image.written_id: image.id for image in split.images if image.written_id}
        self._ids = {image.id for image in split.images} - set(self._written.values())
        self._names: dict[str, set[int]] = {}
        for image in split.images:
            for name in {nfc(image.path.name), nfc(image.path.stem)}:
                self._names.setdefault(name, set()).add(image.id)

    def find(self, values: Sequence[tuple[str, Hashable]]) -> dict[tuple[str, Hashable], _Match]:
        """The image of each value, which is a key of an entry and what stands there.

        Numbers that are no ids may all be names of files: 101 for 000101.jpg.
        """
        found = {each: self._find(each[1]) for each in values}
        if values and all(match.kind == _UNLISTED for match in found.values()):
            numbers = {number: ids for name, ids in self._names.items() if (number := read_whole(name)) is not None}
            by_number = {each: numbers.get(read_whole(each[1]) or -1, set()) for each in values}
            if all(len(ids) == 1 for ids in by_number.values()):
                return {each: self._name(each[1], next(iter(ids))) for each, ids in by_number.items()}
        return found

    def _find(self, value: Hashable) -> _Match:
        if value in self._own_names and (ids := self._look_up_name(self._own_names[value])):
            (number,) = ids
            kind = "" if number == value else "image numbered differently"
            return _Match(number, kind, f"{value!r} is {self._own_names[value]} there, which has the id {number} here")
        if type(value) is int and value in self._ids:
            return _Match(value)
        if isinstance(value, str) and value in self._written:
            return _Match(self._written[value])
        whole, named = read_whole(value), self._look_up_name(value) if isinstance(value, str) else set()
        meant = {whole} & self._ids if whole is not None else set()
        if len(meant | named) > 1:
            return _Match(None, "result of one of two images", f"{shorten(repr(value))} is an id and a file name")
        if meant:
            return _Match(whole, "id of another type", f"{shorten(repr(value))} is read as {whole}")
        if named:
            return self._name(value, next(iter(named)))
        if isinstance(value, bool) or is_blank(value) or not isinstance(value, int | str | float):
            return _Match(
                None, "result without image", f"is {shorten(repr(value))}, not an image of {self._split.source}"
            )
        return _Match(None, _UNLISTED, f"{shorten(repr(value))} is not in {self._split.source}")

    def _name(self, value: object, number: int) -> _Match:
        return _Match(number, "image named in place of its id", f"{shorten(repr(value))} is the image id {number}")

    def _look_up_name(self, text: str) -> set[int]:
        """The one image of this file name, with or without folders and ending; empty where there is not one alone."""
        name = nfc(text).replace("\\", "/").rsplit("/", 1)[-1]
        stem = name.rpartition(".")[0]
        candidates = (self._names.get(each, set()) for each in (name, stem) if each)
        return next((ids for ids in candidates if len(ids) == 1), set())


class _CategoryTable:
    """The classes of a split, by id and by name."""

    def __init__(self, split: DetectionSplit, own_names: Mapping[object, str]) -> None:
        self._split, self._own_names = split, own_names
        self._names: dict[str, set[int]] = {}
        for category in split.categories:
            for name in {as_read(category.name), as_read(category.name).casefold()}:
                self._names.setdefault(name, set()).add(category.id)

    def find(self, values: Sequence[tuple[str, Hashable]]) -> dict[tuple[str, Hashable], _Match]:
        """The category of each value, which is a key of an entry and what stands there."""
        return {each: self._find(each[1], [value for _, value in values]) for each in values}

    def _find(self, value: Hashable, all_values: Sequence[Hashable]) -> _Match:
        ids = self._split.labels_by_id
        if value in self._own_names:
            named = self._look_up_name(self._own_names[value])
            if named is not None and named != value:
                example = f"{value!r} is {self._own_names[value]!r} there, which has the id {named} here"
                return _Match(named, "category numbered differently", example)
        if type(value) is int and value in ids:
            return _Match(value)
        if isinstance(value, str) and (named := self._look_up_name(value)) is not None:
            example = f"{shorten(repr(value))} is the category id {named}"
            return _Match(named, "category named in place of its id", example)
        whole = read_whole(value)
        if whole is not None and whole in ids:
            return _Match(whole, "id of another type", f"{shorten(repr(value))} is read as {whole}")
        known = ", ".join(f"{each.id} {each.name}" for each in self._split.categories[:10])
        known += ", ..." if len(ids) > 10 else ""
        counted = all(isinstance(each, int) and 0 <= each <= len(ids) for each in all_values)
        perhaps = "; perhaps the file counts its classes from 0 or 1 and does not give ids" if counted else ""
        example = f"is {shorten(repr(value))}, not one of {self._split.source} ({known}){perhaps}"
        return _Match(None, "result of an unknown category", example)

    def _look_up_name(self, text: str) -> int | None:
        candidates = (self._names.get(name, set()) for name in (as_read(text), as_read(text).casefold()))
        return next((next(iter(ids)) for ids in candidates if len(ids) == 1), None)


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
    unlisted = sum(each.count for each in issues if each.kind == _UNLISTED)
    if not unlisted or unlisted < len(found.entries):
        return
    theirs = [entry[key] for entry in found.entries[:3] for key in _IMAGE_KEYS if not is_blank(entry.get(key))]
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
    shown = f"[{', '.join(f'{value:g}' for value in boxes[0])}] on {sizes[0, 0]:.0f}x{sizes[0, 1]:.0f} pixels"
    if boxes.max() <= 1:
        log.add(_PARTS, f"all are between 0 and 1, such as {shown}", len(boxes))
    elif reading or far >= _MOST * len(boxes):
        looks = f"; nearly all fit as {describe_reading(reading)}" if reading else ""
        example = f"{far:,} of {len(boxes):,} boxes leave their images, such as {shown}{looks}"
        log.add(_LEAVE, example, far)
