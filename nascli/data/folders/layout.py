"""The layout of an image folder: where its splits are, found below the folder that a user names."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nascli.data.folders.index import SplitRequest, list_names
from nascli.data.folders.split_names import find_role
from nascli.data.folders.table import TABLE_ENDINGS
from nascli.data.images.walk import ImageWalk, Listing, describe_absence, describe_rest, refuse_archive, refuse_system
from nascli.data.issues import IssueLog
from nascli.errors import InputError
from nascli.text import quote

LAYOUT = "It must hold train/<class>/*.jpg and val/<class>/*.jpg (or test/<class>/*.jpg)"

_DEEPEST = 4
"""Levels from the named folder on in which splits are looked for."""
_WIDEST = 1000
"""Folders of a level up to which the next one is looked into."""
_FILES = {".csv": "csv", ".tsv": "csv", ".jsonl": "csv", ".h5": "pack", ".hdf5": "pack"}
"""Data sets that are one file, by ending."""


@dataclass(frozen=True)
class Layout:
    """An image folder as it is laid out: the folder of each split by name; none where it holds class folders itself."""

    root: Path
    splits: dict[str, Path]


def check_folder(folder: Path) -> None:
    """InputError, with the way on, where a path is no folder."""
    if os.path.isdir(folder):
        refuse_system(folder)
        return
    if not os.path.exists(folder):
        raise InputError(f"data set folder {folder}: {describe_absence(folder, 'folder')}", LAYOUT)
    refuse_archive(folder)
    known = _FILES.get(folder.suffix.lower())
    hint = f"Is it what --dataset {known}:{folder} reads?" if known else LAYOUT
    raise InputError(f"data set folder {folder} is a file, not a folder", hint)


def find_layout(walk: ImageWalk, folder: Path, request: SplitRequest, log: IssueLog) -> Layout:
    """Find the folders of the splits: in the folder itself, or deeper where one folder only can be meant.

    Raises:
        InputError: Several folders in it could be the data set.
    """
    level = [folder]
    for _ in range(_DEEPEST):
        found = {place: splits for place in level if (splits := _find_splits(walk, place, request))}
        if len(found) > 1:
            if not any(walk.look_into(split).folders for splits in found.values() for split in splits.values()):
                place, (split, *_) = next(iter(found.items()))
                raise InputError(
                    f"data set {folder}: its class folders hold the splits, as in {place / split}",
                    f"Turn them round: {folder / split / place.name}",
                )
            names = list_names([str(place) for place in found])
            raise InputError(f"data set {folder} holds several with splits: {names}", "Give one of them")
        for place, splits in found.items():
            _refuse_classes_beside(walk, folder, place)
            _note_beside(walk, place, splits, log)
            return Layout(_note_depth(folder, place, log), splits)
        level = [inner for place in level for inner in walk.look_into(place).folders]
        if len(level) > _WIDEST:
            break
    return Layout(_note_depth(folder, folder if request.measured else _find_classes(walk, folder), log), {})


def skip_level(walk: ImageWalk, split: Path, classes: set[str], log: IssueLog) -> Listing:
    """The class folders of a split; where its only folder holds nothing but folders, and is no class, those in it."""
    listing = walk.look_into(split)
    if len(listing.folders) == 1 and not listing.images and listing.folders[0].name not in classes:
        inner = walk.look_into(listing.folders[0])
        if len(inner.folders) > 1 and not inner.images:
            walk.select_new(listing.folders)
            log.add("class folders one level deeper", str(listing.folders[0]))
            return inner
    return listing


class UnsortedError(InputError):
    """Images of a split lie in no class folder; its `file` is the folder of the split, `images` their number."""

    images = 0


def refuse_unsorted(place: Path, images: int, way: str = "") -> None:
    """InputError for a folder without class folders: how many images lie in it, or what does instead."""
    if images:
        lie = f"1 image lies in {place} itself" if images == 1 else f"{images:,} images lie in {place} itself"
        if any("\\" in name for name in os.listdir(place)):
            raise InputError(
                f"{lie}, with the names of folders and backslashes in theirs",
                "An archive made on Windows was unpacked so: unpack it again by another program, such as 7z",
            )
        hint = f"Sort them into {place}/<class>/{way}{_name_table(place)}"
        error = UnsortedError(f"{lie}; they have to be in class folders", hint, file=place)
        error.images = images
        raise error
    raise InputError(f"data set folder {place}: there are no images in it{describe_content_of(place)}", LAYOUT + way)


def _name_table(place: Path) -> str:
    """The end of a hint, where a table lies beside the images or beside their folder: what reads it."""
    tables = [each for folder in (place, place.parent) for each in sorted(folder.iterdir())]
    named = [each for each in tables if each.suffix.lower() in TABLE_ENDINGS]
    first = min(named, key=lambda each: each.stem != place.name, default=None)
    return f"; or, if {first} has a row per image with its class: --dataset {quote(f'csv:{first}')}" if first else ""


def describe_content_of(folder: Path) -> str:
    """The end of a message about a folder without images: what lies in it instead."""
    walk = ImageWalk(folder)
    walk.find_below(folder)
    return describe_rest(walk.issues)


def _find_splits(walk: ImageWalk, place: Path, request: SplitRequest) -> dict[str, Path]:
    """The folders that are splits by their names, unless they look like classes among others (train, bus, car)."""
    folders, asked = walk.look_into(place).folders, (request.val_split or "").lower()
    found = {each.name: each for each in folders if _may_be_split(walk, each) or each.name.lower() == asked}
    roles = {find_role(name) for name in found}
    with_classes = [each for each in found.values() if walk.look_into(each).folders]
    return found if with_classes or len(roles) > 1 or len(found) == len(folders) else {}


def _may_be_split(walk: ImageWalk, folder: Path) -> bool:
    """Whether a folder is a split by its name; one that only ends in such a word (`crash_test`) has to hold classes."""
    begins = find_role(re.split("[^a-zA-Z]", folder.name)[0])
    return begins is not None or (find_role(folder.name) is not None and bool(walk.look_into(folder).folders))


def _refuse_classes_beside(walk: ImageWalk, folder: Path, place: Path) -> None:
    """InputError where a folder that holds a data set holds images in other folders, too."""
    others = [each for each in walk.look_into(folder).folders if place != folder and not place.is_relative_to(each)]
    if beside := [each.name for each in others if walk.look_into(each).images]:
        raise InputError(
            f"data set {folder} holds images in {list_names(beside)}, and a data set with splits in {place}",
            f"Give the one, folder:{place}; or take it away from the other",
        )


def _note_beside(walk: ImageWalk, place: Path, splits: dict[str, Path], log: IssueLog) -> None:
    """Count the folders that are no splits and the images that lie beside these."""
    listing = walk.look_into(place)
    for each in (*listing.folders, *listing.images):
        if each.name not in splits:
            log.add("folder or image beside the splits", str(each))


def _find_classes(walk: ImageWalk, folder: Path) -> Path:
    """The folder that holds class folders: a single folder of folders is none, since one class is nothing to learn."""
    for _ in range(_DEEPEST):
        listing = walk.look_into(folder)
        if len(listing.folders) != 1 or listing.images:
            break
        inner = walk.look_into(listing.folders[0])
        if not inner.folders or inner.images:
            break
        folder = listing.folders[0]
    return folder


def _note_depth(given: Path, found: Path, log: IssueLog) -> Path:
    if found != given:
        log.add("data set in a folder of the one given", str(found))
    return found
