"""A split of a detection data set as its owner wrote it.

Every format is read to COCO's three lists, which `nascli.data.detection.formats.coco` then checks in one way; a format
has to know its own files alone.
"""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nascli.data.images.decoding import read_size
from nascli.data.images.walk import (
    NO_IMAGE,
    ImageWalk,
    describe_absence,
    is_service_name,
    leads_above,
    refuse_archive,
    refuse_system,
)
from nascli.data.issues import IssueLog
from nascli.errors import InputError, NascliError

CocoLists = dict[str, list[dict[str, Any]]]
"""COCO's `images`, `annotations` and `categories`, with whatever their author wrote in them."""

_DEEPEST = 100
"""Names at the end of a path that are looked for; a text of thousands is no path of anybody."""

OUTLINE_BOX = "box of the outline"
"""The key under which a reader gives an annotation without `bbox` the box around its outline."""

PLACE = "place"
"""The key under which a reader says where an annotation stands in a file of another format."""


@dataclass(frozen=True)
class RawSplit:
    """Files of one split, which are not read yet.

    Args:
        source: The annotation file or folder; messages name it.
        folders: Possible places of its images; a `file_name` is looked for below each.
        read: Reads the files; what is particular to the format goes into the log.
    """

    source: Path
    folders: tuple[Path, ...]
    read: Callable[[IssueLog], CocoLists]


class ListsBuilder:
    """Makes COCO's lists, with ids counted from 1.

    Args:
        names: The classes in the order of their ids.
    """

    def __init__(self, names: Iterable[str]) -> None:
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
        self.lists: CocoLists = {"images": [], "annotations": [], "categories": categories}

    def add_image(self, file_name: str, size: tuple[int, int] | None) -> int:
        """List an image; returns its id. Without a size (width, height) it is read from the file."""
        sides = {} if size is None else {"width": size[0], "height": size[1]}
        self.lists["images"].append({"id": len(self.lists["images"]) + 1, "file_name": file_name, **sides})
        return len(self.lists["images"])

    def add_box(self, image: int, category: int, bbox: Sequence[float], place: str, *, crowd: bool = False) -> None:
        """List a box x, y, width, height of the image and category of these ids; `place` says where it is written."""
        number = len(self.lists["annotations"]) + 1
        entry = {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), PLACE: place}
        self.lists["annotations"].append({**entry, "iscrowd": int(crowd)})


def find_below(name: str, folders: Sequence[Path], fewest: int = 1) -> tuple[Path, bool] | None:
    """Find a file or folder that a text, perhaps of another machine, names.

    Args:
        name: A path with either kind of slash, relative or not.
        folders: Its possible places, the likeliest first.
        fewest: Names at the end of the path that have to agree.

    Returns:
        The path, and whether it is where the text says; otherwise it is the longest end of it that lies in a folder.
    """
    text = name.strip().replace("\\", "/")
    for folder in folders:
        if text and _exists(folder / text):
            return folder / text, "\\" not in name
    parts = [part for part in text.split("/") if part not in ("", ".", "..") and not part.endswith(":")]
    del parts[:-_DEEPEST]
    for start in range(max(1, len(parts) - fewest + 1)):
        for folder in folders:
            if parts and _exists(found := folder.joinpath(*parts[start:])):
                return found, False
    return None


def _exists(path: Path) -> bool:
    try:
        return os.path.exists(path)
    except OSError:  # a name that is too long
        return False


def descend(folder: Path, is_data: Callable[[Path], bool]) -> Path:
    """The folder, or the one folder in it that holds the data: archives often unpack to one more level."""
    if is_data(folder) or not os.path.isdir(folder):
        return folder
    inside = [each for each in list_files(folder, "*") if os.path.isdir(each) and is_data(each)]
    return inside[0] if len(inside) == 1 else folder


def require_path(path: Path, what: str, hint: str) -> None:
    """InputError where nothing is at a path, an archive that has to be unpacked first, or the whole disk."""
    if not os.path.exists(path):
        raise InputError(f"{what} {path}: {describe_absence(path)}", hint)
    refuse_system(path)
    if os.path.isfile(path):
        refuse_archive(path)


def list_files(folder: Path, *patterns: str) -> list[Path]:
    """Files and folders below one by patterns, each sorted; none of an operating system, or behind a link upward."""

    @functools.cache
    def is_inside(place: Path) -> bool:
        return place == folder or (is_inside(place.parent) and not (place.is_symlink() and leads_above(place, folder)))

    found = ((pattern, each) for pattern in patterns for each in sorted(folder.glob(pattern)))
    own = [(pattern, each) for pattern, each in found if not any(map(is_service_name, each.relative_to(folder).parts))]
    return [each for pattern, each in own if is_inside(each if pattern == "*" else each.parent)]


def list_images(folder: Path, log: IssueLog | None = None) -> list[Path]:
    """The images in a folder and below it, sorted; what is passed over goes into the log, but for files of labels."""
    walk = ImageWalk(folder)
    found = walk.find_below(folder)
    for each in walk.issues:
        if log and each.kind != NO_IMAGE:
            log.join(each)
    return found


def measure_image(path: Path) -> tuple[int, int] | None:
    """Width and height of an upright image by its header; None where it cannot be read, which is said later."""
    try:
        return read_size(path, upright=True)
    except NascliError:
        return None


def to_size(width: float, height: float) -> tuple[int, int] | None:
    """The size of an image that a text gives; None where they are no numbers of pixels, perhaps NaN."""
    return (int(width), int(height)) if 1 <= width < 1e9 and 1 <= height < 1e9 else None


def name_below(image: Path, folders: Sequence[Path]) -> str:
    """The `file_name` of an image: below the first of these folders that it is in, else absolute."""
    folder = next((folder for folder in folders if image.is_relative_to(folder)), None)
    return str(image.relative_to(folder) if folder else image.absolute())
