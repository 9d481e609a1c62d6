"""Results files as programs write them: what stands in the file, before its entries are held against a data set.

COCO's format is a JSON list of objects with image_id, category_id, bbox and score. Read too are such a list inside an
object, one object per line, and what `nascli detect predict` writes.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nascli.content import describe_content
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.issues import IssueLog
from nascli.detect.coco_eval import Detection
from nascli.errors import CorruptFileError, InputError
from nascli.reading import read_file
from nascli.records import read_record, take_checksum
from nascli.text_files import decode_text
from nascli.units import count_of, shorten

RESULTS_HINT = (
    "A COCO results file is a list of objects with image_id, category_id, bbox (x, y, width, height) and score"
)
_LISTS = ("annotations", "predictions", "results", "detections")
"""Keys of an object under which a list of results stands."""

DETECTION_FILE = "detection.json"
RESULTS_FILE = "results.json"
"""The scores of a detector, and its detections in COCO's format, in the folder of its run."""

_SHA256 = "results_sha256"

SCORE_KEYS = ("score", "confidence", "conf", "probability")
"""Keys that say the score, COCO's own first."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class ResultEntries:
    """The entries of a results file.

    Args:
        image_names: The file name of each image id, where the file has a list of images of its own.
        category_names: The name of each category id, where it has a list of categories.
    """

    entries: list[Entry]
    image_names: Mapping[object, str] = field(default_factory=dict)
    category_names: Mapping[object, str] = field(default_factory=dict)


def format_results(split: DetectionSplit, detections: Sequence[Detection]) -> str:
    """Detections on a split as the text of a file in COCO's format, with the ids that stand in its own files."""
    written = {image.id: image.written_id for image in split.images if image.written_id}
    results = [
        {**each, "image_id": written.get(each["image_id"], each["image_id"])}
        for each in detections
        if each["category_id"] not in split.absent_ids
    ]
    return json.dumps(results) + "\n"


def hash_results(text: str) -> dict[str, str]:
    """The entry of `detection.json` that its results file is held against."""
    return {_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def read_result_entries(path: Path, log: IssueLog) -> ResultEntries:
    """Read the entries of a file, in whichever of the known forms.

    Raises:
        InputError: No such file, or its content is something else, which is named.
        CorruptFileError: It is not JSON, for instance cut off.
    """
    if os.path.isdir(path):
        inside = sorted(each.name for each in path.glob("*.json"))
        hint = f"Give one of {', '.join(inside)}, or a run" if inside else RESULTS_HINT
        raise InputError(f"results {path} are a folder", hint, file=path)
    try:
        text = decode_text(read_file(path), f"results {path}")
    except OSError as error:
        raise InputError(f"results {path}: {error.strerror or error}", RESULTS_HINT) from error
    except CorruptFileError as error:
        kind = describe_content(path)
        raise (error if "JSON" in kind else InputError(f"results {path}: it is {kind}", RESULTS_HINT)) from error
    values = _parse(text, path, log)
    _hold_against_record(path, text, values)
    found = _find_entries(values, path, log)
    for position, entry in enumerate(found.entries):
        if not isinstance(entry, dict):
            raise InputError(f"results {path}: entry {position} is {shorten(repr(entry))}, not an object", RESULTS_HINT)
    return found


def _parse(text: str, path: Path, log: IssueLog) -> object:
    if not text.lstrip().startswith(("{", "[")):
        kind = describe_content(path)
        table = " Save the table as such a list" if path.suffix.lower() in (".csv", ".tsv", ".txt") else ""
        raise InputError(f"results {path} are not JSON: it is {kind}", f"{RESULTS_HINT}.{table}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            values = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise CorruptFileError(f"results {path} are not JSON: {error}", "Write them again") from error
        log.add("results as JSON Lines", f"{count_of(len(lines), 'line')} with an object each", len(lines))
        return values


def _hold_against_record(path: Path, text: str, values: object) -> None:
    """CorruptFileError where nascli's own file was changed, by its checksum or that in `detection.json` beside."""
    if isinstance(values, dict):
        take_checksum(values, path)
    beside = path.parent / DETECTION_FILE
    if path.name != RESULTS_FILE or not os.path.isfile(beside):
        return
    written = read_record(beside).get(_SHA256)
    if written is not None and hash_results(text) != {_SHA256: written}:
        raise CorruptFileError(
            f"results {path} were changed or damaged: {beside} has another checksum of them",
            "Copy them again from where they were written; if the change is meant, score a copy in another folder",
            file=path,
        )


def _find_entries(values: object, path: Path, log: IssueLog) -> ResultEntries:
    if isinstance(values, list):
        return ResultEntries(values)
    assert isinstance(values, dict)
    held = ", ".join(map(repr, list(values)[:6])) or "nothing"
    images = values.get("images")
    if isinstance(images, list) and images and all(isinstance(each, dict) and "detections" in each for each in images):
        return _flatten(images, log)
    key = next((key for key in _LISTS if isinstance(values.get(key), list)), None)
    if key is None:
        raise InputError(f"results {path}: JSON, but not a list (an object with {held})", RESULTS_HINT)
    entries = values[key]
    if entries and all(isinstance(each, dict) and not {*SCORE_KEYS} & {*each} for each in entries):
        raise InputError(
            f"results {path}: COCO annotations, not results: no entry of {key!r} has a score",
            "Give what a detector found, and the annotations by --dataset coco:FILE",
        )
    log.add("results inside an object", f"the list {key!r} is read, of {held}")
    return ResultEntries(entries, _names(images, "file_name"), _names(values.get("categories"), "name"))


def _flatten(images: list[Entry], log: IssueLog) -> ResultEntries:
    """The content of `predictions.json`, whose images are named by their files."""
    entries = [
        {**found, "image_id": str(image.get("file", ""))}
        for image in images
        for found in image["detections"]
        if isinstance(found, dict)
    ]
    log.add("results as predictions.json", f"{count_of(len(images), 'image')} with {count_of(len(entries), 'box')}")
    return ResultEntries(entries)


def _names(entries: object, key: str) -> dict[object, str]:
    """The names in a list of objects, by id."""
    found = entries if isinstance(entries, list) else []
    return {
        each["id"]: each[key]
        for each in found
        if isinstance(each, dict) and isinstance(each.get(key), str) and isinstance(each.get("id"), int | str)
    }
