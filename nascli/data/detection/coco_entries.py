"""Entries of COCO's three lists: images, annotations, categories; one that is wrong becomes an issue."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, StrictBool, ValidationError

from nascli.config import Strict
from nascli.data.detection.issues import IssueLog
from nascli.errors import CorruptFileError, InputError
from nascli.units import shorten

CocoId = Annotated[int, Field(gt=-(2**63), lt=2**63)]


class CocoRecord(Strict):
    """Any object in COCO's files; fields that are not needed are ignored."""

    model_config = ConfigDict(extra="ignore")


class CocoEntry(CocoRecord):
    """Any entry of the three lists."""

    id: CocoId


class CocoCategory(CocoEntry):
    """An entry of `categories`."""

    name: str = Field(min_length=1)


class CocoImage(CocoEntry):
    """An entry of `images`."""

    file_name: str = Field(min_length=1)
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class CocoAnnotation(CocoEntry):
    """An entry of `annotations`; `bbox` is x, y, width, height in pixels, finite or not."""

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

Model = TypeVar("Model", bound=CocoEntry)


def read_lists(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the three lists of a COCO file, entries without their outlines.

    Raises:
        InputError: No such file, or it has not these lists.
        CorruptFileError: The file is not JSON, for instance truncated.
    """
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


def parse_entries(
    model: type[Model], entries: Sequence[Mapping[str, Any]], noun: str, log: IssueLog, known: str = ""
) -> Iterator[tuple[int, Model | None]]:
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
            log.add(
                f"{noun} id not a whole number", f"the {noun} at position {position} has the id {shorten(repr(number))}"
            )
            continue
        assert isinstance(number, int)
        if number in seen:
            log.add(f"{noun} id given twice", f"the {noun} id {number} is given twice")
            continue
        seen.add(number)
        if wrong:
            log.add(*describe_wrong_field(wrong, entry, known))
        yield number, parsed


def describe_wrong_field(field: str, entry: Mapping[str, Any], known: str = "") -> tuple[str, str]:
    """Kind of issue and message for a field of an entry that is absent, of another type, or out of its range."""
    kind, message = _MESSAGES[field]
    values = {"id": entry["id"], "file_name": entry.get("file_name"), "field": field, "known": known}
    return kind, message.format(value=shorten(repr(entry.get(field))), **values)
