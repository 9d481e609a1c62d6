"""The formats of detection data by name, and which of them a path holds."""

import os
from collections.abc import Callable
from pathlib import Path

from nascli.data.detection.formats.coco_files import find_coco_splits
from nascli.data.detection.formats.csv_boxes import find_csv_splits
from nascli.data.detection.formats.foreign import EXPORT_HINT, describe_annotations, find_foreign, list_folders
from nascli.data.detection.formats.raw import RawSplit, list_files
from nascli.data.detection.formats.voc import find_voc_splits
from nascli.data.detection.formats.yolo import find_yolo_splits
from nascli.data.images.walk import is_folder
from nascli.errors import CorruptFileError, InputError
from nascli.reading import open_file

FORMATS: dict[str, Callable[[Path], dict[str, RawSplit]]] = {
    "coco": find_coco_splits,
    "yolo": find_yolo_splits,
    "voc": find_voc_splits,
    "csv": find_csv_splits,
}
"""The finder of a path's splits, by the names that the data give them, of each format; a data set is `FORMAT:PATH`."""

TITLES = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC", "csv": "a table of boxes"}
"""The formats as a text calls them."""

_ENDINGS = (".json", ".xml", ".csv", ".yaml")
_LOOKED_INTO = 20
"""Folders that may be data sets of their own."""


def find_splits(name: str, path: Path) -> dict[str, RawSplit]:
    """The splits that the format of this name finds at a path.

    Raises:
        InputError: None; where it is another format's data, the message says which.
    """
    found = recognize_format(path) if os.path.isfile(path) else name
    try:
        splits = FORMATS[name](path)
    except InputError as error:
        if found == name:
            found = recognize_format(path)
        if found in (None, name):
            raise _explain_foreign(path) or error from error
        splits = {}
    if found not in (None, name):
        raise InputError(f"{name}:{path} is not {TITLES[name]}: it looks like {TITLES[found]}", f"Give {found}:{path}")
    return splits


def recognize_format(path: Path) -> str | None:
    """The name of the first format that finds splits at a path; None where none does."""
    if not os.path.exists(path):
        return None
    names = list(FORMATS)
    if os.path.isfile(path):  # COCO takes any file for its own; a large JSON file is read by no other to be sure
        names = ["coco"] if _begins_json(path) else [name for name in names if name != "coco"]
    for name in names:
        try:
            if FORMATS[name](path):
                return name
        except CorruptFileError:
            if os.path.isdir(path):  # it has this format's files, and one of them is damaged
                return name
        except InputError:
            continue
    return None


def explain_unread_boxes(path: Path) -> InputError | None:
    """The error of a path in none of these formats: it is in another one, or several data sets; None for no sign of it.

    A folder of two data sets is none itself.
    """
    if os.path.isfile(path / "data.yaml"):
        try:
            find_yolo_splits(path)
        except InputError as error:
            return error
    if foreign := _explain_foreign(path):
        return foreign
    inside = [*list_folders(path)[:_LOOKED_INTO], *list_files(path, "*.csv")] if os.path.isdir(path) else []
    found = [(name, each) for each in inside if _may_hold_boxes(each) and (name := recognize_format(each))]
    if len(found) > 1:
        each = " or ".join(f"{name}:{inner}" for name, inner in found)
        return InputError(f"{path} holds several data sets with boxes", f"Give one, {each}", file=path)
    return None


def _may_hold_boxes(path: Path) -> bool:
    """Whether it is a file, or a folder with more than images: texts beside these may be about anything."""
    if os.path.isfile(path):
        return True
    with os.scandir(path) as inside:
        return any(is_folder(each) or Path(each.name).suffix.lower() in _ENDINGS for each in inside)


def _explain_foreign(path: Path) -> InputError | None:
    if os.path.isfile(path):
        known = describe_annotations(path)
        return InputError(f"{path}: it looks like {known}", EXPORT_HINT, file=path) if known else None
    found = find_foreign(path) if os.path.isdir(path) else None
    if found is None:
        return None
    return InputError(f"{path} holds annotations: {found[0]} looks like {found[1]}", EXPORT_HINT, file=found[0])


def _begins_json(path: Path) -> bool:
    with open_file(path) as file:
        return file.read(64).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] in (b"{", b"[")
