"""The formats of detection data by name, and which of them a path holds."""

from collections.abc import Callable
from pathlib import Path

from nascli.data.detection.formats.coco_files import find_coco_splits
from nascli.data.detection.formats.csv_boxes import find_csv_splits
from nascli.data.detection.formats.raw import RawSplit
from nascli.data.detection.formats.voc import find_voc_splits
from nascli.data.detection.formats.yolo import find_yolo_splits
from nascli.errors import CorruptFileError, InputError

FORMATS: dict[str, Callable[[Path], dict[str, RawSplit]]] = {
    "coco": find_coco_splits,
    "yolo": find_yolo_splits,
    "voc": find_voc_splits,
    "csv": find_csv_splits,
}
"""The finder of a path's splits, by the names that the data give them, of each format; a data set is `FORMAT:PATH`."""

TITLES = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC", "csv": "a table of boxes"}
"""The formats as a text calls them."""


def find_splits(name: str, path: Path) -> dict[str, RawSplit]:
    """The splits that the format of this name finds at a path.

    Raises:
        InputError: None; where it is another format's data, the message says which.
    """
    found = recognize_format(path) if path.is_file() else name
    try:
        splits = FORMATS[name](path)
    except InputError:
        if found == name:
            found = recognize_format(path)
        if found in (None, name):
            raise
        splits = {}
    if found not in (None, name):
        raise InputError(f"{name}:{path} is not {TITLES[name]}: it looks like {TITLES[found]}", f"Give {found}:{path}")
    return splits


def recognize_format(path: Path) -> str | None:
    """The name of the first format that finds splits at a path; None where none does."""
    if not path.exists():
        return None
    for name in sorted(FORMATS, key=lambda name: name == "coco" and path.is_file()):  # COCO takes any file for its own
        try:
            if (name != "coco" or path.is_dir() or _begins_json(path)) and FORMATS[name](path):
                return name
        except CorruptFileError:
            if path.is_dir():  # it has this format's files, and one of them is damaged
                return name
        except InputError:
            continue
    return None


def _begins_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] in (b"{", b"[")
