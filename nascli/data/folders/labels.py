"""Images whose classes stand in a table: a CSV of labels, or Hugging Face's metadata beside the images."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from nascli.data.detection.formats.image_finder import ImageFinder
from nascli.data.folders.index import (
    ImageIndex,
    Named,
    SplitRequest,
    build_index,
    choose_splits,
    list_names,
    name_class,
)
from nascli.data.folders.split_names import find_role
from nascli.data.folders.table import FILE_COLUMNS, LABEL_COLUMNS, TABLE_ENDINGS, Row, read_header, read_rows
from nascli.data.images.walk import describe_absence
from nascli.data.issues import IssueLog
from nascli.errors import InputError, NascliError

METADATA = tuple(f"metadata{ending}" for ending in TABLE_ENDINGS)
"""Names of the table in an image folder of Hugging Face's `datasets`."""


def scan_table(file: Path, request: SplitRequest | None = None) -> ImageIndex[Path]:
    """List the images of a table; their paths are relative to it, or to a folder beside it.

    A column `split`, or paths that begin with the name of a split, say to which split an image belongs.

    Raises:
        InputError: It is not there, its columns are not known, images are missing, or a class has none to train on.
        CorruptFileError: It is no table.
    """
    if not os.path.isfile(file):
        is_folder = os.path.isdir(file)
        what = "it is a folder" if is_folder else describe_absence(file)
        raise InputError(f"table {file}: {what}", f"Is it what --dataset folder:{file} reads?" if is_folder else "")
    return scan_tables(file, [file], request)


def scan_tables(source: Path, tables: Sequence[Path], request: SplitRequest | None = None) -> ImageIndex[Path]:
    """List the images of tables as those of one data set, named `source`; raises the same as `scan_table`."""
    request, log = request or SplitRequest(), IssueLog()
    rows = [(file, row) for file in tables for row in read_rows(file, log)]
    splits = _name_splits(source, rows, log)
    names = list(dict.fromkeys(splits))
    try:
        choice = choose_splits(source, [] if names == [""] else names, request)
    except InputError as error:
        unknown = sorted({row.split for _, row in rows if row.split}) if names == [""] else []
        if not unknown:
            raise
        hint = f"{error.hint}; or write train, val and test into its column of splits, which has {list_names(unknown)}"
        raise error.reword(error.message, hint) from error
    listed: dict[str, dict[Path, str]] = defaultdict(dict)
    missing: list[str] = []
    for name in dict.fromkeys(each for each in (choice.train, choice.val) if each is not None):
        wanted = [each for split, each in zip(splits, rows, strict=True) if split == name]
        missing += _find_images(name, wanted, listed[name], log)
    _check_missing(source, missing, len(rows), request.missing, log)
    train = _sort(listed[choice.train]) if choice.train is not None else []
    val = None if choice.val is None else _sort(listed[choice.val])
    for path, _ in set(train) & set(val or ()) if choice.train != choice.val else ():
        log.add("image of both splits", str(path))
    if val == []:
        raise InputError(f"data set {source}: split {choice.val} has no images", "Choose another by --val-split")
    return build_index(source, train, val, choice, request, log.issues)


def find_metadata(folder: Path) -> list[Path]:
    """The tables of labels in an image folder or in its splits, as Hugging Face's `datasets` wants them; often none."""
    places = [folder, *(each for each in folder.iterdir() if find_role(each.name) and os.path.isdir(each))]
    found = [
        file for place in places for name in METADATA if os.path.isfile(file := place / name) and _has_labels(file)
    ]
    return [file for file in found if file.parent == folder] or sorted(found)


def _has_labels(file: Path) -> bool:
    try:
        columns = set(read_header(file))
    except (OSError, NascliError):
        return False
    return bool(columns & set(FILE_COLUMNS)) and bool(columns & set(LABEL_COLUMNS))


def _sort(images: Mapping[Path, str]) -> list[Named]:
    """Class by class, as in an image folder."""
    return sorted(images.items(), key=lambda each: (each[1], each[0]))


def _find_images(split: str, rows: Sequence[tuple[Path, Row]], images: dict[Path, str], log: IssueLog) -> list[str]:
    """Add the images of a split to `images` with their classes; returns the places of those that are not on disk."""
    missing = []
    for table in dict.fromkeys(file for file, _ in rows):
        own = [row for file, row in rows if file == table]
        labeled = [row for row in own if row.label]
        for row in own:
            if not row.label:
                log.add("image without a label", f"{table.name}, line {row.line}: {row.file}")
        folders = (table.parent, *(table.parent / name for name in ("images", "img", "imgs", table.stem)))
        paths = ImageFinder(folders, split, log.add).find([row.file for row in labeled])
        for row, path in zip(labeled, paths, strict=True):
            place = f"{table}, line {row.line}: {row.file}"
            if os.path.isfile(path):
                _add_image(images, path, name_class(row.label), place, log)
            else:
                missing.append(place)
    return missing


def _add_image(images: dict[Path, str], path: Path, name: str, place: str, log: IssueLog) -> None:
    if path not in images:
        images[path] = name
    elif images[path] == name:
        log.add("image in several rows", place)
    else:
        raise InputError(
            f"{place} is of class {name!r}, and of {images[path]!r} in another line",
            "A network of nascli gives an image one class: keep one of the lines",
        )


def _name_splits(source: Path, rows: Sequence[tuple[Path, Row]], log: IssueLog) -> list[str]:
    """The split of each row, "" where the tables have none: a column, the folder of the table, or that of the image."""
    by_column = [row.split or "" for _, row in rows]
    if any(map(find_role, by_column)) and "" in by_column:
        file, row = rows[by_column.index("")]
        raise InputError(f"table {file}, line {row.line}: no split for {row.file}, and others have one", "Add it")
    by_table = ["" if file.parent == source or file == source else file.parent.name for file, _ in rows]
    by_path = [_split_of(row.file) for _, row in rows]
    for names in (by_column, by_table, by_path):
        if all(names) and any(map(find_role, names)):
            return names
    for file, row in rows:
        if row.split:
            log.add("split of an unknown name", f"{file.name}, line {row.line}: {row.split!r}")
    return [""] * len(rows)


def _split_of(file: str) -> str:
    parts = PurePosixPath(file.replace("\\", "/")).parts[:-1]
    return next((part for part in parts if find_role(part)), "")


def _check_missing(source: Path, missing: Sequence[str], rows: int, allowed: int, log: IssueLog) -> None:
    if len(missing) > allowed:
        raise InputError(
            f"data set {source}: {len(missing):,} of {rows:,} images are not on disk (first: {missing[0]})",
            "Put them beside the table or in images/ there, as it names them; or go on without them by --set "
            f"data.max_unreadable_images={len(missing)} (evaluate and pack: --max-unreadable {len(missing)})",
        )
    for each in missing:
        log.add("image of the table that is not on disk", each)
