"""Boxes in a table: a row per box, or an empty row for an image without any.

Columns are known by the names that tools give them: corners (`xmin`, `ymin`, `xmax`, `ymax`) or a corner and sides
(`x`, `y`, `w`, `h`) in pixels; OpenImages' corners (`ImageID`, `LabelName`, `XMin` ...) in fractions; or, without any
names, `path`, four corners, `class`. A column `split` divides a file; `train.csv` and `val.csv` in a folder are splits.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nascli.data.detection.formats.raw import (
    CocoLists,
    ListsBuilder,
    RawSplit,
    find_below,
    list_files,
    list_images,
    measure_image,
    name_below,
    require_path,
    to_size,
)
from nascli.data.folders.split_names import find_role
from nascli.data.folders.table import find_delimiter, normalize_column, parse_csv
from nascli.data.images.walk import is_system
from nascli.data.issues import IssueLog
from nascli.errors import CorruptFileError, InputError
from nascli.text_files import read_text
from nascli.units import shorten

_COLUMNS = {
    "image": "filename file_name image_path img_path path filepath image image_name img file",
    "id": "image_id imageid img_id",
    "class": "class label class_name labelname category name label_name category_name classname",
    "x1": "xmin x_min x1 left bbox_x1",
    "y1": "ymin y_min y1 top bbox_y1",
    "x2": "xmax x_max x2 right bbox_x2",
    "y2": "ymax y_max y2 bottom bbox_y2",
    "x": "x bbox_x",
    "y": "y bbox_y",
    "w": "w bbox_w bbox_width box_width",
    "h": "h bbox_h bbox_height box_height",
    "box": "bbox box",
    "width": "width image_width img_width",
    "height": "height image_height img_height",
    "split": "split set subset dataset partition",
    "crowd": "isgroupof iscrowd",
}
"""Names of columns in small letters, by what they hold."""

_CORNERS, _SIDES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")
_HEADERLESS_BOXES = ("image", *_CORNERS, "class", "width", "height")
_HEADERLESS_MAKESENSE = ("class", *_SIDES, "image", "width", "height")
"""The columns of tables without a header."""
_NUMBER = re.compile(r"-?\d+(\.\d*)?")
OBJECT = "object"
"""Name of the one class of a table without a column of classes."""
_NO_BOXES = "Give it to nascli train; for detection a CSV needs xmin, ymin, xmax, ymax"
_HINT = (
    "Give csv:PATH of a file with a line of column names: filename, class, xmin, ymin, xmax, ymax, and perhaps width, "
    "height, split"
)


@dataclass(frozen=True)
class _Table:
    """The rows of a file with their line numbers, and the position of each column that is known.

    Args:
        comma: A comma in a number is a decimal point, since it divides no columns.
        fractions: Boxes are in fractions of the image.
    """

    path: Path
    columns: Mapping[str, int]
    rows: Sequence[tuple[int, list[str]]]
    comma: bool
    fractions: bool

    def text(self, row: Sequence[str], column: str) -> str:
        """The text in a column of a row, empty where it is not there."""
        place = self.columns.get(column, len(row))
        return row[place].strip() if place < len(row) else ""

    def number(self, row: Sequence[str], column: str) -> float:
        """The number in a column; NaN where there is none."""
        text = self.text(row, column)
        try:
            return float(text.replace(",", ".") if self.comma else text)
        except ValueError:
            return math.nan

    def image(self, row: Sequence[str]) -> str:
        """Name or id of the row's image."""
        return self.text(row, "image") or self.text(row, "id")


def find_csv_splits(path: Path) -> dict[str, RawSplit]:
    """The splits of a table of boxes: of its column, or one called train; or of the tables in a folder.

    Raises:
        InputError: There is no such file, or it holds no boxes.
    """
    require_path(path, "boxes as CSV", _HINT)
    if os.path.isdir(path):
        files = _choose_tables(path)
    else:
        files = {"": path}
    if not files:
        raise InputError(f"boxes as CSV {path}: no .csv file in this folder", _HINT)
    tables = {name: read_table(file) for name, file in sorted(files.items())}
    rows: dict[str, tuple[_Table, list[tuple[int, list[str]]]]] = {}
    for name, table in tables.items():
        for numbered in table.rows:
            split = name or table.text(numbered[1], "split") or "train"
            rows.setdefault(split, (table, []))[1].append(numbered)
    classes = sorted({text for table in tables.values() for _, row in table.rows if (text := table.text(row, "class"))})
    if not any("class" in table.columns for table in tables.values()):
        classes = [OBJECT]
    made = {}
    for name, (table, inside) in rows.items():
        parent = table.path.parent
        places = (parent / name, parent / "images" / name, parent / table.path.stem, parent / "images", parent)
        folders = tuple(each for each in places if os.path.isdir(each) and not is_system(each))
        made[name] = RawSplit(table.path, folders, partial(_read_rows, table, inside, classes, folders))
    return made


def _choose_tables(folder: Path) -> dict[str, Path]:
    """The table of each split in a folder; the name is empty where there is one for all.

    Raises:
        InputError: Several are for the same.
    """
    found: dict[str, list[Path]] = {}
    for file in list_files(folder, "*.csv", "*/*.csv"):
        if name := _name_split(file):
            found.setdefault(name, []).append(file)
    if not found and (alone := list_files(folder, "*.csv")):
        found = {"": alone}
    chosen = {
        name: (len(files) > 1 and [file for file in files if _holds_boxes(file)]) or files
        for name, files in found.items()
    }
    for files in chosen.values():
        if len(files) > 1:
            names = " and ".join(str(file.relative_to(folder)) for file in files)
            raise InputError(f"boxes as CSV {folder}: {names} are for the same", f"Give one: csv:{files[0]}")
    return {name: files[0] for name, files in chosen.items()}


def _holds_boxes(file: Path) -> bool:
    try:
        return bool(read_table(file).rows)
    except (InputError, CorruptFileError):
        return False


def _name_split(file: Path) -> str | None:
    """The split of a file by its name, `train_labels.csv`, or by its folder's, `train/_annotations.csv`."""
    return next((name for name in (file.stem, file.parent.name) if find_role(name)), None)


def read_table(path: Path) -> _Table:
    """Read a table of boxes.

    Raises:
        InputError: There is no such file, or it holds no boxes; labels without boxes are named as that.
        CorruptFileError: It is no text.
    """
    try:
        text = read_text(path, largest=None)
    except OSError as error:
        raise InputError(f"boxes as CSV {path}: {error.strerror or error}", _HINT) from error
    first = text.lstrip().partition("\n")[0].rstrip()
    delimiter = find_delimiter(first)
    rows = list(parse_csv(text, str(path), delimiter))
    names = [normalize_column(name) for name in rows[0][1]] if rows else []
    columns = _find_columns(names)
    if {"image", "id"} & {*columns} and any({*wanted} <= {*columns} for wanted in (_CORNERS, _SIDES, ("box",))):
        return _Table(path, columns, rows[1:], comma=delimiter != ",", fractions="labelname" in names)
    if {"image", "id"} & {*columns} and "class" in columns:
        raise InputError(f"{path} holds classes of images and no boxes: labels for classification", _NO_BOXES)
    known = _HEADERLESS_BOXES if rows and _is_headerless(rows[0][1]) else ()
    if rows and _is_of_makesense(rows[0][1]):
        known = _HEADERLESS_MAKESENSE
    if known:
        columns = dict(zip(known, range(len(rows[0][1])), strict=False))
        return _Table(path, columns, rows, comma=delimiter != ",", fractions=False)
    raise InputError(f"{path}: no table of boxes; its first line is {shorten(repr(first))}", _HINT)


def _find_columns(names: Sequence[str]) -> dict[str, int]:
    """The positions of columns by what they hold; sides are called width and height, too, where x and y are there."""
    places = {kind: [names.index(name) for name in known.split() if name in names] for kind, known in _COLUMNS.items()}
    found = {kind: each[0] for kind, each in places.items() if each}
    if {*_SIDES, "width", "height"} & {*found} == {"x", "y", "width", "height"} and "x1" not in found:
        found |= {"w": found.pop("width"), "h": found.pop("height")}
    return found


def _is_headerless(row: Sequence[str]) -> bool:
    numbers = [text.strip() for text in row[1:5]]
    has_sizes = len(row) == 8 and bool(Path(row[0]).suffix) and all(text.strip().isdecimal() for text in row[6:])
    return (len(row) == 6 or has_sizes) and (
        all(map(_NUMBER.fullmatch, numbers)) or not any((*numbers, row[5].strip()))
    )


def _is_of_makesense(row: Sequence[str]) -> bool:
    """Whether a row begins with the class, and ends with the image's name and size, as makesense.ai writes it."""
    numbers = [*row[1:5], *row[6:]]
    return (
        len(row) == 8 and all(map(_NUMBER.fullmatch, numbers)) and bool(Path(row[5]).suffix and not Path(row[0]).suffix)
    )


def _read_rows(
    table: _Table, rows: Sequence[tuple[int, list[str]]], classes: Sequence[str], folders: Sequence[Path], log: IssueLog
) -> CocoLists:
    if "class" not in table.columns:
        log.add("table without classes", f"{table.path} has no column of them")
    builder, categories = ListsBuilder(classes), {name: number for number, name in enumerate(classes, 1)}
    files = _index_images(folders, log) if table.fractions or "id" in table.columns else {}
    images: dict[str, tuple[int, tuple[int, int] | None]] = {}
    for line, row in rows:
        name, place = table.image(row), f"{table.path} line {line}"
        if name not in images:
            found = find_below(name, folders)
            file = files.get(name) or (found[0] if found else None)
            size = to_size(table.number(row, "width"), table.number(row, "height"))
            if size is None and file:
                size = measure_image(file)
                if "width" in table.columns:
                    log.add("image size not given", place)
            images[name] = builder.add_image(name_below(files[name], folders) if name in files else name, size), size
        number, size = images[name]
        box, word = _read_box(table, row), table.text(row, "class") or ("" if "class" in table.columns else OBJECT)
        if table.comma and any("," in text for text in row):
            log.add("number with a decimal comma", place)
        if table.fractions and size:
            box = [value * side for value, side in zip(box, size * 2, strict=True)]
        if all(map(math.isnan, box)) and (not word or word == OBJECT):
            continue  # an image without boxes
        if not word or any(map(math.isnan, box)):
            log.add("row without class or box", f"{place}: {shorten(repr(row))}")
        else:
            crowd = table.text(row, "crowd").lower() in ("1", "true")
            builder.add_box(number, categories[word], box, place, crowd=crowd)
    return builder.lists


def _read_box(table: _Table, row: Sequence[str]) -> list[float]:
    """x, y, width, height as far as they are there, else NaN."""
    if {*_CORNERS} <= {*table.columns}:
        x1, y1, x2, y2 = (table.number(row, each) for each in _CORNERS)
        return [x1, y1, x2 - x1, y2 - y1]
    if "box" in table.columns:
        found = [float(each) for each in re.findall(r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", table.text(row, "box"))]
        return found if len(found) == 4 else [math.nan] * 4
    return [table.number(row, each) for each in _SIDES]


def _index_images(folders: Sequence[Path], log: IssueLog) -> dict[str, Path]:
    """The images of the first folder that has some, by name and without their ending."""
    for folder in folders:
        if found := list_images(folder, log):
            return {name: image for image in found for name in (image.name, image.stem)}
    return {}
