"""COCO-format annotations: one JSON file a split, read without opening a picture, every fault named.

Classes come from the file: its own category ids, sorted, become labels 1 to K. Crowd boxes are kept for scoring and not
trained on; pictures without boxes are kept as negatives; boxes that mean nothing are dropped and counted.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.annotated import (
    SMALLEST_SIDE,
    AnnotatedImage,
    Category,
    DetectionData,
    DetectionSplit,
    DroppedBox,
    clip_corners,
    to_corners,
)
from nascli.errors import CorruptFileError, InputError

Entry = dict[str, Any]


def read_coco(annotations: Path, folders: tuple[Path, ...], name: str) -> DetectionSplit:
    """One split from its JSON file.

    Args:
        annotations: A COCO `instances` file: lists `images`, `annotations` and `categories`.
        folders: Where its pictures may lie; the first folder that holds the first picture is taken.
        name: What to call the split: train, val.

    Raises:
        InputError: No such file, or a field that is absent, repeated, unknown or of the wrong kind; the message names
            the file and the id.
        CorruptFileError: The file is not JSON, for instance truncated.
    """
    lists = _read_lists(annotations)
    categories = _read_categories(lists["categories"], annotations)
    labels = {category.id: k for k, category in enumerate(categories, 1)}
    sizes = _read_sizes(lists["images"], annotations)
    boxes, dropped = _read_boxes(lists["annotations"], sizes, labels, annotations)
    folder = _image_folder(folders, str(lists["images"][0]["file_name"]))
    images = (_annotated(entry, folder, boxes.get(entry["id"], [])) for entry in lists["images"])
    return DetectionSplit(name, annotations, categories, tuple(images), tuple(dropped))


def check_files(split: DetectionSplit) -> None:
    """InputError that names the first picture of a split that is not on disk; folders are listed, no file is opened."""
    listed: dict[Path, frozenset[str]] = {}
    for image in split.images:
        folder = image.path.parent
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        if image.path.name not in listed[folder]:
            raise InputError(
                f"{split.source}: image id {image.id} is not on disk: {image.path}",
                f"Put the pictures of this file in {folder}",
            )


def load_coco(path: Path, name: str, *, train_images: int = 0, val_images: int = 0) -> DetectionData:
    """Both splits of a COCO-format data set; without a validation file, the training split stands for both.

    Args:
        path: A folder with `annotations/instances_train*.json` and `instances_val*.json` (pictures in `train*/` and
            `val*/`), or with `train/` and `val/` (or `valid/`) that each hold `_annotations.coco.json` beside the
            pictures; or one JSON file beside its pictures.
        name: What to call the data set.
        train_images: Use only the first so many training pictures; 0 is all.
        val_images: The same for validation.

    Raises:
        InputError: Nothing there, a fault in a file, a picture that is not on disk, or two splits of different classes.
        CorruptFileError: A file is not JSON.
    """
    (train_file, train_folders), (val_file, val_folders) = locate_splits(path)
    train = read_coco(train_file, train_folders, "train")
    val = train if val_file == train_file else read_coco(val_file, val_folders, "val")
    if val.categories != train.categories:
        raise InputError(f"{val_file}: its categories are not those of {train_file}", "Both need equal ids and names")
    data = DetectionData(name, train.first(train_images), val.first(val_images))
    check_files(data.train)
    check_files(data.val)
    if data.train.boxes == 0:
        raise InputError(f"{train_file}: there is no box to learn from in {len(data.train.images)} training images")
    return data


def locate_splits(path: Path) -> tuple[tuple[Path, tuple[Path, ...]], tuple[Path, tuple[Path, ...]]]:
    """The annotation file and the possible picture folders of the training and of the validation split."""
    if path.is_file():
        beside = (path.parent, path.parent / "images", path.parent / path.stem, path.parent.parent / path.stem)
        return (path, beside), (path, beside)
    splits = [_instances(path, ("train",)), _instances(path, ("val", "valid"))]
    found = [split for split in splits if split is not None]
    if len(found) == 2:
        return found[0], found[1]
    raise InputError(
        f"COCO-format data {path}: " + ("no such folder" if not path.is_dir() else "no annotations of both splits"),
        f"Put instances_train2017.json and instances_val2017.json in {path / 'annotations'}, and their pictures in "
        f"{path / 'train2017'} and {path / 'val2017'}; or give --data-dir DIR, or --dataset coco:PATH",
    )


def _instances(path: Path, words: tuple[str, ...]) -> tuple[Path, tuple[Path, ...]] | None:
    files = [file for word in words for file in sorted((path / "annotations").glob(f"instances_{word}*.json"))]
    if len(files) > 1:
        raise InputError(
            f"{path / 'annotations'} holds {' and '.join(file.name for file in files)}",
            "Keep one file a split there, or give one JSON file by --dataset coco:FILE",
        )
    if files:
        split = files[0].stem.removeprefix("instances_")
        return files[0], (path / split, path / "images" / split, path / "images", path)
    beside = [path / word / "_annotations.coco.json" for word in words]
    return next(((file, (file.parent,)) for file in beside if file.is_file()), None)


def _read_lists(path: Path) -> dict[str, list[Entry]]:
    try:
        # outlines are by far the largest part of COCO's files and are not needed: let each go as soon as it is read
        values = json.loads(path.read_bytes(), object_hook=_without_outline)
    except OSError as error:
        raise InputError(f"annotations {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"annotations {path} are not JSON: {error}", "The file is damaged; copy or unpack it again"
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(values, dict) or not isinstance(values.get(key), list):
            raise InputError(f"{path}: JSON, but not COCO annotations (there is no list {key!r})")
        for position, entry in enumerate(values[key]):
            if not isinstance(entry, dict):
                raise InputError(f"{path}: {key}[{position}] is {_short(entry)}, not an object")
    for key in ("images", "categories"):
        if not values[key]:
            raise InputError(f"{path}: its list {key!r} is empty")
    return {key: values[key] for key in ("images", "annotations", "categories")}


def _without_outline(entry: Entry) -> Entry:
    entry.pop("segmentation", None)
    return entry


def _read_categories(entries: list[Entry], path: Path) -> tuple[Category, ...]:
    names: dict[int, str] = {}
    for number, entry in _identified(entries, "category", path):
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise InputError(f"{path}: category id {number} has no name")
        names[number] = entry["name"]
    return tuple(Category(number, names[number]) for number in sorted(names))


def _read_sizes(entries: list[Entry], path: Path) -> dict[int, tuple[int, int]]:
    sizes: dict[int, tuple[int, int]] = {}
    for number, entry in _identified(entries, "image", path):
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise InputError(f"{path}: image id {number} has no file_name")
        for key in ("width", "height"):
            if not _whole(entry.get(key)) or entry[key] < 1:
                raise InputError(
                    f"{path}: image id {number} ({entry['file_name']}): {key} is {_short(entry.get(key))}, not a "
                    "number of pixels"
                )
        sizes[number] = (entry["width"], entry["height"])
    return sizes


def _read_boxes(
    entries: list[Entry], sizes: dict[int, tuple[int, int]], labels: dict[int, int], path: Path
) -> tuple[dict[int, list[Entry]], list[DroppedBox]]:
    boxes: dict[int, list[Entry]] = {}
    dropped: list[DroppedBox] = []
    for number, entry in _identified(entries, "annotation", path):
        image, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        if not _whole(image) or image not in sizes:
            raise InputError(f"{path}: annotation id {number}: image_id {_short(image)} is not among the images")
        if not _whole(category) or category not in labels:
            raise InputError(
                f"{path}: annotation id {number}: category_id {_short(category)} is not among the categories",
                f"Known: {', '.join(map(str, list(labels)[:20]))}{', ...' if len(labels) > 20 else ''}",
            )
        if not isinstance(box, list) or len(box) != 4 or not all(_number(side) for side in box):
            raise InputError(
                f"{path}: annotation id {number}: bbox {_short(box)} is not four numbers x, y, width, height"
            )
        reason = _fault(box, sizes[image])
        if reason:
            dropped.append(DroppedBox(number, reason))
            continue
        area = entry.get("area", box[2] * box[3])
        if not _number(area) or not math.isfinite(_float(area)):
            raise InputError(f"{path}: annotation id {number}: area {_short(area)} is not a number")
        crowd = bool(entry.get("iscrowd", 0))
        boxes.setdefault(image, []).append({"box": box, "label": labels[category], "area": area, "crowd": crowd})
    return boxes, dropped


def _fault(box: list[float], size: tuple[int, int]) -> str | None:
    """Why a box means nothing, or None."""
    x, y, width, height = map(_float, box)
    if not all(map(math.isfinite, (x + width, y + height, width, height))):
        return "not finite"
    if width <= 0 or height <= 0:
        return "empty or inverted"
    inside = clip_corners(to_corners(np.array([[x, y, width, height]])), *size)[0]
    return "outside its image" if min(inside[2:] - inside[:2]) < SMALLEST_SIDE else None


def _annotated(entry: Entry, folder: Path, boxes: list[Entry]) -> AnnotatedImage:
    return AnnotatedImage(
        id=entry["id"],
        path=folder / entry["file_name"],
        width=entry["width"],
        height=entry["height"],
        boxes=np.array([box["box"] for box in boxes], dtype=np.float64).reshape(-1, 4),
        labels=np.array([box["label"] for box in boxes], dtype=np.int64),
        areas=np.array([box["area"] for box in boxes], dtype=np.float64),
        crowd=np.array([box["crowd"] for box in boxes], dtype=np.bool_),
    )


def _image_folder(folders: tuple[Path, ...], file_name: str) -> Path:
    return next((folder for folder in folders if (folder / file_name).is_file()), folders[0])


def _identified(entries: list[Entry], kind: str, path: Path) -> Iterator[tuple[int, Entry]]:
    """The entries with their ids; InputError for an id that is absent, not a whole number, or given twice."""
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        number = entry.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(
                f"{path}: the {kind} at position {position} has the id {_short(number)}", "Ids are whole numbers"
            )
        if number in seen:
            raise InputError(f"{path}: the {kind} id {number} is given twice", "Ids must differ")
        seen.add(number)
        yield number, entry


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
