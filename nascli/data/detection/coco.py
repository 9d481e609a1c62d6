"""COCO-format annotations: one JSON file per split, read whole, with every issue in it by kind.

Classes come from the file: its own category ids, sorted, become labels 1 to K. Crowd boxes are kept for scoring and not
trained on; images without boxes are kept as negatives; boxes that mean nothing are skipped and counted; all else that
is wrong has to be repaired by its owner. `nascli.data.issues` has the table.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, StrictBool, ValidationError

from nascli.config import Strict
from nascli.data.detection.dataset import MIN_BOX_SIDE, AnnotatedImage, Category, DetectionSplit
from nascli.data.detection.raw import CocoLists, RawSplit
from nascli.data.issues import IssueLog
from nascli.errors import CorruptFileError, InputError
from nascli.units import shorten

OVER_THE_EDGE = 1.0
"""Pixels by which a box may reach out of its image without an issue: annotators round."""

CocoId = Annotated[int, Field(gt=-(2**63), lt=2**63)]


class CocoRecord(Strict):
    """Any object in COCO's files; fields that are not needed are ignored."""

    model_config = ConfigDict(extra="ignore")


class _Entry(CocoRecord):
    id: CocoId


class _Category(_Entry):
    name: str = Field(min_length=1)


class _Image(_Entry):
    file_name: str = Field(min_length=1)
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class _Annotation(_Entry):
    """A box: `bbox` is x, y, width, height in pixels, finite or not."""

    image_id: CocoId
    category_id: CocoId
    bbox: Annotated[list[float | int], Field(min_length=4, max_length=4)]
    area: float = Field(math.nan, allow_inf_nan=False)
    iscrowd: Literal[0, 1] | StrictBool = 0


_SIZE = ("image size not a number of pixels", "image id {id} ({file_name}): {field} is {value}, not a number of pixels")
_MESSAGES = {
    "name": ("category without name", "category id {id} has no name"),
    "file_name": ("image without file_name", "image id {id} has no file_name"),
    "width": _SIZE,
    "height": _SIZE,
    "image_id": ("annotation of an unknown image", "annotation id {id}: image_id {value} is not among the images"),
    "category_id": (
        "annotation of an unknown category",
        "annotation id {id}: category_id {value} is not among the categories. Known: {known}",
    ),
    "bbox": ("box not four numbers", "annotation id {id}: bbox {value} is not four numbers x, y, width, height"),
    "area": ("area not a number", "annotation id {id}: area {value} is not a number"),
    "iscrowd": ("crowd flag not 0 or 1", "annotation id {id}: iscrowd {value} is not 0 or 1"),
}
"""Kind of issue and message by the field that is wrong."""

_Model = TypeVar("_Model", bound=_Entry)


def parse_split(raw: RawSplit, name: str) -> DetectionSplit:
    """Read one split of any format, whatever is wrong with its entries.

    Args:
        name: What the split is for: train, val.

    Returns:
        Everything that makes sense, with issues that name the file's ids.

    Raises:
        InputError: No such file, or it has not the lists that it must have.
        CorruptFileError: The file is damaged, for instance truncated.
    """
    log = IssueLog()
    lists = raw.read(log)
    categories = _parse_categories(lists["categories"], log)
    labels = {category.id: label for label, category in enumerate(categories, 1)}
    entries = dict(_parse_entries(_Image, lists["images"], "image", log))
    boxes = _parse_boxes(lists["annotations"], entries, labels, log)
    usable = [entry for entry in entries.values() if entry is not None]
    folder = next((each for each in raw.folders if usable and (each / usable[0].file_name).is_file()), None)
    images = tuple(_annotate(entry, folder or raw.folders[0], boxes.get(entry.id, []), labels) for entry in usable)
    for image in images:
        if not len(image.boxes):
            kind = "image that lost all its boxes" if image.id in boxes else "image without boxes"
            log.add(kind, f"image id {image.id} ({image.path.name})")
    return DetectionSplit(name, raw.source, categories, images, log.issues)


def read_coco_lists(path: Path, log: IssueLog) -> CocoLists:
    """COCO's three lists from a JSON file; raises as `parse_split`."""
    try:
        # outlines are by far the largest part of COCO's files and are not needed: drop each as soon as it is read
        values = json.loads(path.read_bytes(), object_hook=_drop_outline)
    except OSError as error:
        raise InputError(f"annotations {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"annotations {path} are not JSON: {error}", "The file is damaged; copy or unpack it again"
        ) from error
    lists = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(values, dict) or not isinstance(values.get(key), list):
            raise InputError(f"{path}: JSON, but not COCO annotations (there is no list {key!r})")
        for position, entry in enumerate(values[key]):
            if not isinstance(entry, dict):
                raise InputError(f"{path}: {key}[{position}] is {shorten(repr(entry))}, not an object")
        if not values[key] and key != "annotations":
            raise InputError(f"{path}: its list {key!r} is empty")
        lists[key] = values[key]
    return lists


def _drop_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _parse_entries(
    model: type[_Model], entries: Sequence[Mapping[str, Any]], noun: str, log: IssueLog, known: str = ""
) -> Iterator[tuple[int, _Model | None]]:
    """Ids with their entries; None for an entry that cannot be used, so that what refers to it is no issue besides."""
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        parsed, wrong = None, None
        try:
            parsed = model.model_validate(entry)
        except ValidationError as error:
            wrong = str(error.errors()[0]["loc"][0])
        number = entry.get("id")
        if wrong == "id":
            where = f"the {noun} at position {position}"
            log.add(f"{noun} id not a whole number", f"{where} has the id {shorten(repr(number))}")
            continue
        assert isinstance(number, int)
        if number in seen:
            log.add(f"{noun} id given twice", f"the {noun} id {number} is given twice")
            continue
        seen.add(number)
        if wrong:
            log.add(*_describe_wrong_field(wrong, entry, known))
        yield number, parsed


def _describe_wrong_field(field: str, entry: Mapping[str, Any], known: str) -> tuple[str, str]:
    """Kind of issue and message for a field of an entry that is absent, of another type, or out of its range."""
    kind, message = _MESSAGES[field]
    values = {"id": entry["id"], "file_name": entry.get("file_name"), "field": field, "known": known}
    return kind, message.format(value=shorten(repr(entry.get(field))), **values)


def _parse_categories(entries: list[dict[str, Any]], log: IssueLog) -> tuple[Category, ...]:
    parsed = dict(_parse_entries(_Category, entries, "category", log))
    names = {number: entry.name if entry else "" for number, entry in sorted(parsed.items())}
    if 0 in names:
        log.add("category id 0", f"category id 0 ({names[0]})")
    return tuple(Category(*item) for item in names.items())


def _parse_boxes(
    entries: list[dict[str, Any]], images: Mapping[int, _Image | None], labels: Mapping[int, int], log: IssueLog
) -> dict[int, list[_Annotation]]:
    """The annotations by image; an image whose boxes are all skipped has an empty list."""
    known = f"{', '.join(map(str, list(labels)[:20]))}{', ...' if len(labels) > 20 else ''}"
    boxes: dict[int, list[_Annotation]] = {}
    for _, entry in _parse_entries(_Annotation, entries, "annotation", log, known):
        if entry is None:
            continue
        if entry.image_id not in images:
            log.add(*_describe_wrong_field("image_id", entry.model_dump(), known))
        elif entry.category_id not in labels:
            log.add(*_describe_wrong_field("category_id", entry.model_dump(), known))
        elif (image := images[entry.image_id]) is not None:
            _add_box(boxes.setdefault(image.id, []), entry, image, log)
    return boxes


def _add_box(boxes: list[_Annotation], entry: _Annotation, image: _Image, log: IssueLog) -> None:
    where = f"annotation id {entry.id} (image id {image.id})"
    kind = _find_box_issue(entry.bbox, image.width, image.height)
    if kind is not None:
        log.add(kind, f"{where}: bbox {shorten(repr(entry.bbox))} on {image.width}x{image.height} pixels")
    elif entry.iscrowd:
        log.add("crowd box", where)
    if kind in (None, "box over the edge of its image"):
        boxes.append(entry)


def _find_box_issue(box: Sequence[float], width: int, height: int) -> str | None:
    """The kind of issue of a box on an image of that size, or None."""
    try:
        x, y, across, down = map(float, box)
    except OverflowError:  # an integer of hundreds of digits
        return "box not finite"
    if not all(map(math.isfinite, (x + across, y + down, across, down))):
        return "box not finite"
    if across <= 0 or down <= 0:
        return "box empty or inverted"
    inside = (
        min(max(x + across, 0.0), width) - min(max(x, 0.0), width),
        min(max(y + down, 0.0), height) - min(max(y, 0.0), height),
    )
    if min(inside) < MIN_BOX_SIDE:
        return "box outside its image"
    beyond = max(-x, -y, x + across - width, y + down - height)
    return "box over the edge of its image" if beyond > OVER_THE_EDGE else None


def _annotate(entry: _Image, folder: Path, boxes: Sequence[_Annotation], labels: Mapping[int, int]) -> AnnotatedImage:
    areas = [box.bbox[2] * box.bbox[3] if math.isnan(box.area) else box.area for box in boxes]
    return AnnotatedImage(
        id=entry.id,
        path=folder / entry.file_name,
        width=entry.width,
        height=entry.height,
        boxes=np.array([box.bbox for box in boxes], dtype=np.float64).reshape(-1, 4),
        labels=np.array([labels[box.category_id] for box in boxes], dtype=np.int64),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array([box.iscrowd for box in boxes], dtype=np.bool_),
    )
