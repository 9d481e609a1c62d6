"""The annotation files and image folders of COCO-format data, in the layouts that tools export."""

import mmap
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nascli.data.detection.formats.coco_json import read_coco_lists
from nascli.data.detection.formats.raw import RawSplit, descend, list_files, require_path
from nascli.data.folders.split_names import find_role
from nascli.data.images.walk import is_folder, is_service_name, leads_above
from nascli.errors import InputError
from nascli.reading import open_file

_NO_SPLIT_WORDS = {"instances", "annotations", "annotation", "coco", "labels", "label", "result", "results", "boxes"}
"""Words in the names of annotation files that say nothing about a split."""

_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels")
_IMAGE_FOLDERS = ("images", "data", "image", "imgs", "img", "jpegimages")
_OTHER_TASKS = ("captions_", "stuff_", "panoptic_", "image_info_")
_MARKS = ('"images"', '"annotations"')
"""Keys that are in every COCO file and in few others."""


def find_coco_splits(path: Path) -> dict[str, RawSplit]:
    """The splits of a folder, or the one of a JSON file, by the name that the data give them.

    Raises:
        InputError: No such path, or no annotations in it.
    """
    hint = (
        f"Put instances_train2017.json and instances_val2017.json in {path / 'annotations'}, and their images in "
        f"{path / 'train2017'} and {path / 'val2017'}; or give --data-dir DIR, or --dataset coco:PATH"
    )
    require_path(path, "COCO-format data", hint)
    if os.path.isfile(path):
        is_inside = path.parent.name.lower() in _ANNOTATION_FOLDERS
        root, files = path.parent.parent if is_inside else path.parent, [path]
    else:
        root = descend(path, lambda folder: bool(_list_annotations(folder)))
        files = _list_annotations(root)
    if not files:
        raise InputError(f"COCO-format data {path}: no annotations of both splits", hint)
    splits: dict[str, RawSplit] = {}
    for file in files:
        name = _name_split(file, root)
        name = f"{name}/{file.stem}" if name in splits else name
        splits[name] = RawSplit(file, _list_image_folders(file, root, name), partial(read_coco_lists, file))
    return splits


def _list_annotations(folder: Path) -> list[Path]:
    """The annotation files of a data set: those of COCO's own names, else those that look like COCO's."""
    inside = [each for each in _list_folders(folder) if each.name.lower() in _ANNOTATION_FOLDERS]
    for place in inside:
        if found := list_files(place, "instances_*.json"):
            return found
    if found := list_files(folder, "_annotations.coco.json", "*/_annotations.coco.json"):
        return found
    for files in (
        [file for place in inside for file in list_files(place, "*.json")],
        list_files(folder, "*.json"),
        list_files(folder, "*/*.json"),
    ):
        own = [file for file in files if os.path.isfile(file) and not file.name.startswith(_OTHER_TASKS)]
        if found := [file for file in own if _looks_like_coco(file)] or [f for f in own if find_role(_clean(f.stem))]:
            return found
    return []


def _looks_like_coco(file: Path) -> bool:
    """Whether a file has COCO's keys somewhere."""
    try:
        with open_file(file) as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(
                all(content.find(mark.encode(encoding)) >= 0 for mark in _MARKS)
                for encoding in ("utf-8", "utf-16-le", "utf-16-be")
            )
    except (OSError, ValueError):  # it is empty
        return False


def _name_split(file: Path, root: Path) -> str:
    """The name that the data give the split of a file: by the file's name, or by its folder's."""
    name = _clean(file.stem)
    folder = "" if file.parent.name.lower() in _ANNOTATION_FOLDERS else file.parent.name
    if find_role(name) or (not find_role(folder) and (name or file.parent == root)):
        return name or "default"
    return folder or "default"


def _clean(stem: str) -> str:
    """The part of a file's name that says which split it is: `train2017` of `instances_train2017`."""
    words = [word for word in re.split(r"[_\-. ]+", stem) if word and word.lower() not in _NO_SPLIT_WORDS]
    start = next((position for position, word in enumerate(words) if find_role(word)), 0)
    return "_".join(words[start:])


def _list_image_folders(file: Path, root: Path, name: str) -> tuple[Path, ...]:
    """The folders in which the images of a split may lie, the likeliest first."""
    name = name.partition("/")[0]
    role = find_role(name)
    above = [root, *_find_inside(root, _IMAGE_FOLDERS), file.parent]
    named = [folder for place in above for folder in _find_inside(place, (name,))]
    if role:
        named += [each for place in above for each in _list_folders(place) if find_role(each.name) == role]
    inside = [folder for place in named for folder in _find_inside(place, _IMAGE_FOLDERS)]
    beside = [] if file.parent.name.lower() in _ANNOTATION_FOLDERS else [file.parent]
    beside += [folder for place in beside for folder in _find_inside(place, (*_IMAGE_FOLDERS, file.stem))]
    return tuple(dict.fromkeys((*named, *inside, *beside, *_find_inside(root, _IMAGE_FOLDERS), root)))


def _find_inside(place: Path, names: Sequence[str]) -> list[Path]:
    """The folders of these names, in any case, that lie in another."""
    order = {name.lower(): position for position, name in enumerate(names)}
    inside = [each for each in _list_folders(place) if each.name.lower() in order]
    return sorted(inside, key=lambda each: order[each.name.lower()])


def _list_folders(place: Path) -> list[Path]:
    """The folders in a folder, sorted; quick though there are as many files beside them as in COCO."""
    try:
        with os.scandir(place) as entries:
            inside = [place / each.name for each in entries if is_folder(each) and not is_service_name(each.name)]
    except OSError:  # it may not be read: then nothing in it is of use
        return []
    return sorted(each for each in inside if not (each.is_symlink() and leads_above(each, place)))
