"""One reader of images, annotations and categories as COCO has them, whatever is wrong with the entries.

Classes come from the file: its own category ids, sorted, become labels 1 to K. Crowd boxes are kept for scoring and not
trained on; images without boxes are kept as negatives; boxes that mean nothing are skipped and counted; what can mean
one thing only is read as that and counted; all else that is wrong has to be repaired by its owner.
`nascli.data.issues` has the table.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.detection.dataset import LARGEST_AREA, AnnotatedImage, Category, DetectionSplit
from nascli.data.detection.formats.coco_boxes import BoxReader, BoxTable, check_boxes
from nascli.data.detection.formats.image_finder import ImageFinder
from nascli.data.detection.formats.raw import RawSplit
from nascli.data.detection.formats.values import IdTable, is_blank, read_whole
from nascli.data.images.decoding import read_size
from nascli.data.issues import IssueLog, select_refused
from nascli.errors import NascliError
from nascli.text import as_read
from nascli.units import shorten

_OTHER_NAME_KEYS = ("path", "filename", "file_path", "image_path", "coco_url", "url", "flickr_url")
"""Keys that name the file of an image where there is no `file_name`, the likeliest first."""


@dataclass
class _ImageEntry:
    """An image of the file; a side that is not known is 0."""

    id: int
    file_name: str
    width: int
    height: int
    path: Path = Path()


def parse_split(raw: RawSplit, name: str, own_name: str = "") -> DetectionSplit:
    """Read one split of any format; images are opened where their size is not given, and not there for anything else.

    Args:
        name: Its use, train or val.
        own_name: Its name in the data, where that is known.

    Returns:
        Everything that makes sense, with issues that name the file's ids.

    Raises:
        InputError: No such file, or it has not the lists that it must have.
        CorruptFileError: The file is damaged, for instance truncated.
    """
    log = IssueLog()
    lists = raw.read(log)
    category_ids = _read_ids(lists["categories"], "category", "name", log)
    categories = _parse_categories(lists["categories"], category_ids, log)
    image_ids = _read_ids(lists["images"], "image", "file_name", log)
    entries = _parse_images(lists["images"], image_ids, log)
    usable = [entry for entry in entries.values() if entry is not None]
    _find_files(usable, raw, own_name or name, log)

    places: dict[int, int | None] = {number: None for number, entry in entries.items() if entry is None}
    places.update({entry.id: place for place, entry in enumerate(usable)})
    labels = {category.id: label for label, category in enumerate(categories, 1)}
    reader = BoxReader(image_ids, places, category_ids, labels, log)
    table = reader.read(lists["annotations"])
    sizes = np.array([(entry.width or np.nan, entry.height or np.nan) for entry in usable]).reshape(-1, 2)

    def describe(number: int, place: int) -> str:
        return f"{reader.describe(number)} (image id {usable[place].id})"

    kept = check_boxes(table, sizes, describe, log)
    images = _join_boxes(usable, image_ids.texts, kept)
    if not select_refused(log.issues):  # else what has no box may have a refused one
        _note_without_boxes(images, set(table.places.tolist()), log)
        _note_unused_categories(lists["categories"], category_ids, categories, kept, log)
    return DetectionSplit(name, raw.source, categories, images, log.issues, own_name)


def _read_ids(entries: Sequence[Mapping[str, Any]], noun: str, name_key: str, log: IssueLog) -> IdTable:
    ids, names = ([entry.get(key) for entry in entries] for key in ("id", name_key))
    return IdTable(noun, ids, log.add, names)


def _number_entries(
    entries: Sequence[Mapping[str, Any]], ids: IdTable, noun: str, log: IssueLog
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The entries with an id that no earlier one has."""
    seen: set[int] = set()
    for position, (number, entry) in enumerate(zip(ids.numbers, entries, strict=True)):
        if number is None:
            example = f"the {noun} at position {position} has the id {shorten(repr(entry.get('id')))}"
            log.add(f"{noun} id not a whole number", example)
        elif number in seen:
            log.add(f"{noun} id given twice", f"the {noun} id {number} is given twice")
        else:
            seen.add(number)
            yield number, entry


def _parse_categories(entries: Sequence[Mapping[str, Any]], ids: IdTable, log: IssueLog) -> tuple[Category, ...]:
    """The categories by id; those of one name are told apart by their ids."""
    names: dict[int, str] = {}
    for number, entry in _number_entries(entries, ids, "category", log):
        name = entry.get("name")
        if isinstance(name, int | float) and not isinstance(name, bool) and not is_blank(name):
            log.add("category name as a number", f"category id {number} is called {name!r}")
            name = str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)
        if not isinstance(name, str) or not name.strip():
            log.add("category without name", f"category id {number} has no name")
            name = ""
        names[number] = name
    if 0 in names:
        log.add("category id 0", f"category id 0 ({names[0]})")
    alike = Counter(as_read(name) for name in names.values() if name)
    for number, name in names.items():
        if alike[as_read(name)] > 1:
            log.add("category of the name of another", f"category id {number} ({name}) is shown as {name} {number}")
            names[number] = f"{name} {number}"
    return tuple(Category(*item) for item in sorted(names.items()))


def _parse_images(entries: Sequence[Mapping[str, Any]], ids: IdTable, log: IssueLog) -> dict[int, _ImageEntry | None]:
    """The images by id; None for one that cannot be used, so that what refers to it is no issue besides."""
    images: dict[int, _ImageEntry | None] = {}
    for number, entry in _number_entries(entries, ids, "image", log):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name.strip():
            key = next((k for k in _OTHER_NAME_KEYS if isinstance(entry.get(k), str) and entry[k].strip()), None)
            if key is None:
                log.add("image without file_name", f"image id {number} has no file_name")
                images[number] = None
                continue
            name = entry[key]
            log.add("image named by another key", f"image id {number} has no file_name, its {key} is {name!r}")
        across = _read_side(entry.get("width"), f"image id {number} ({name}): width", log)
        down = _read_side(entry.get("height"), f"image id {number} ({name}): height", log)
        images[number] = None if across is None or down is None else _ImageEntry(number, name, across, down)
    return images


def _read_side(value: object, where: str, log: IssueLog) -> int | None:
    """Pixels of a side of an image, 0 where they are not given; None where the value cannot be one."""
    if type(value) is int and 0 < value <= LARGEST_AREA:
        return value
    pixels = 0 if is_blank(value) else read_whole(value)
    if pixels is None or not 0 <= pixels <= LARGEST_AREA:
        log.add("image size not a number of pixels", f"{where} is {shorten(repr(value))}, not a number of pixels")
        return None
    if pixels:
        log.add("number of another type", f"{where} is {value!r}")
    return pixels


def _find_files(images: Sequence[_ImageEntry], raw: RawSplit, own_name: str, log: IssueLog) -> None:
    """Fill in the path of each image, and its size where that is not given and the image can be opened."""
    finder = ImageFinder(raw.folders, own_name, log.add)
    entries_of: Counter[str] = Counter()
    for image, path in zip(images, finder.find(image.file_name for image in images), strict=True):
        image.path = path
        entries_of[str(path)] += 1
        if entries_of[str(path)] == 2:
            log.add("image listed twice", f"{path} (image id {image.id})")
        if not image.width or not image.height:
            log.add("image size not given", f"image id {image.id} ({image.file_name})")
            image.width = image.height = 0
            with contextlib.suppress(NascliError, ValueError):  # that it cannot be opened is an issue of its own
                image.width, image.height = read_size(path)


def _join_boxes(
    images: Sequence[_ImageEntry], written_ids: Mapping[int, str], table: BoxTable
) -> tuple[AnnotatedImage, ...]:
    """The images with their boxes, each in the order of the file."""
    table = table.take(np.argsort(table.places, kind="stable"))
    areas = np.where(np.isnan(table.areas), table.boxes[:, 2] * table.boxes[:, 3], table.areas)
    ends = np.searchsorted(table.places, np.arange(len(images)), side="right").tolist()
    joined: list[AnnotatedImage] = []
    for start, end, image in zip([0, *ends], ends, images, strict=False):
        joined.append(
            AnnotatedImage(
                id=image.id,
                path=image.path,
                width=image.width,
                height=image.height,
                boxes=table.boxes[start:end],
                labels=table.labels[start:end],
                areas=areas[start:end],
                crowd=table.crowd[start:end],
                written_id=written_ids.get(image.id, ""),
            )
        )
    return tuple(joined)


def _note_without_boxes(images: Sequence[AnnotatedImage], annotated: set[int], log: IssueLog) -> None:
    for place, image in enumerate(images):
        if not len(image.boxes):
            kind = "image that lost all its boxes" if place in annotated else "image without boxes"
            log.add(kind, f"image id {image.id} ({image.path.name})")


def _note_unused_categories(
    entries: Sequence[Mapping[str, Any]], ids: IdTable, categories: Sequence[Category], table: BoxTable, log: IssueLog
) -> None:
    """Categories without a box: perhaps the supercategory of others, which some programs list among them."""
    boxes = np.bincount(table.labels, minlength=len(categories) + 1)
    if not boxes.any():
        return
    above = {entry.get("supercategory") for entry in entries if isinstance(entry.get("supercategory"), str)}
    own = {number: entry.get("supercategory") for number, entry in zip(ids.numbers, entries, strict=True)}
    for label, category in enumerate(categories, 1):
        if not boxes[label]:
            is_above = category.name in above and own.get(category.id) != category.name
            kind = "supercategory as a class" if is_above else "category without boxes"
            log.add(kind, f"category id {category.id} ({category.name})")
