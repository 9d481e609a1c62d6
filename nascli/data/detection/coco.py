"""COCO-format annotations: one JSON file a split, read whole, every fault counted by its kind.

Classes come from the file: its own category ids, sorted, become labels 1 to K. Crowd boxes are kept for scoring and not
trained on; pictures without boxes are kept as negatives; boxes that mean nothing are left out and counted; all else
that is wrong is to be repaired by its owner. `nascli.data.detection.issues` has the table.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.detection.dataset import SMALLEST_SIDE, AnnotatedImage, Category, DetectionData, DetectionSplit
from nascli.data.detection.image_check import check_headers
from nascli.data.detection.issues import Faults, Finding, refuse
from nascli.data.detection.json_types import brief, is_box, is_id, is_number, is_whole, to_float
from nascli.errors import CorruptFileError, InputError

Entry = dict[str, Any]
Look = Callable[[DetectionSplit], tuple[Finding, ...]]
"""How pictures are held against their annotations: `check_headers` or `check_pixels`."""

OVER_THE_EDGE = 1.0
"""Pixels by which a box may reach out of its image without a word: annotators round."""


def scan_coco(annotations: Path, folders: tuple[Path, ...], name: str) -> DetectionSplit:
    """One split from its JSON file, whatever is wrong with its entries; no picture is opened.

    Args:
        annotations: A COCO `instances` file: lists `images`, `annotations` and `categories`.
        folders: Where its pictures may lie; the first folder that holds the first picture is taken.
        name: What to call the split: train, val.

    Returns:
        What makes sense, with findings that name the file's ids.

    Raises:
        InputError: No such file, or it has not these lists.
        CorruptFileError: The file is not JSON, for instance truncated.
    """
    lists = _read_lists(annotations)
    faults = Faults()
    categories = _read_categories(lists["categories"], faults)
    labels = {category.id: k for k, category in enumerate(categories, 1)}
    entries = _read_images(lists["images"], faults)
    boxes = _read_boxes(lists["annotations"], entries, labels, faults)
    usable = {number: entry for number, entry in entries.items() if entry is not None}
    files = [str(entry["file_name"]) for entry in usable.values()]
    folder = next((each for each in folders if files and (each / files[0]).is_file()), folders[0])
    images = tuple(_annotated(number, entry, folder, boxes.get(number, [])) for number, entry in usable.items())
    for image in images:
        if not len(image.boxes):
            kind = "image that lost all its boxes" if image.id in boxes else "image without boxes"
            faults.add(kind, f"image id {image.id} ({image.path.name})")
    return DetectionSplit(name, annotations, categories, images, faults.findings)


def read_coco(annotations: Path, folders: tuple[Path, ...], name: str) -> DetectionSplit:
    """The same, where nothing in the file has to be repaired.

    Raises:
        InputError: No such file, or a field that is absent, repeated, unknown or of the wrong kind; the message names
            the file and the id.
        CorruptFileError: The file is not JSON, for instance truncated.
    """
    split = scan_coco(annotations, folders, name)
    refuse(annotations, split.findings)
    return split


def survey_coco(
    path: Path, look: Look, *, max_train_images: int = 0, max_val_images: int = 0, max_boxes: int = 0
) -> tuple[DetectionSplit, ...]:
    """The training split of a data set and, where it has one of its own, the validation split, faults and all.

    Args:
        path: As for `load_coco`.
        look: How to look at the pictures.
        max_train_images: Use only the first so many training pictures; 0 is all.
        max_val_images: The same for validation.
        max_boxes: Leave out training pictures with more boxes; 0 is none.

    Raises:
        InputError: Nothing there, or a file without the lists that COCO's have.
        CorruptFileError: A file is not JSON.
    """
    (train_file, train_folders), (val_file, val_folders) = locate_splits(path)
    train = scan_coco(train_file, train_folders, "train").first(max_train_images)
    splits = [_to_train_on(train, max_boxes)]
    if val_file != train_file:
        splits.append(_of_same_classes(scan_coco(val_file, val_folders, "val").first(max_val_images), train))
    return tuple(replace(split, findings=split.findings + look(split)) for split in splits)


def load_splits(
    path: Path, *, max_train_images: int = 0, max_val_images: int = 0, max_boxes: int = 0
) -> tuple[DetectionSplit, ...]:
    """The same splits, fit for use: pictures are looked at, not decoded.

    Raises:
        InputError: Nothing there, a fault in a file, a picture that is not on disk or of another size, or two splits of
            different classes.
        CorruptFileError: A file is not JSON, or a picture is cut off.
    """
    splits = survey_coco(
        path, check_headers, max_train_images=max_train_images, max_val_images=max_val_images, max_boxes=max_boxes
    )
    for split in splits:
        refuse(split.source, split.findings)
    return splits


def load_coco(
    path: Path, name: str, *, max_train_images: int = 0, max_val_images: int = 0, max_boxes: int = 0
) -> DetectionData:
    """Both splits of a COCO-format data set; without a validation file, the training split stands for both.

    Args:
        path: A folder with `annotations/instances_train*.json` and `instances_val*.json` (pictures in `train*/` and
            `val*/`), or with `train/` and `val/` (or `valid/`) that each hold `_annotations.coco.json` beside the
            pictures; or one JSON file beside its pictures.
        name: What to call the data set.
        max_train_images: Use only the first so many training pictures; 0 is all.
        max_val_images: The same for validation.
        max_boxes: Leave out training pictures with more boxes; 0 is none.

    Raises:
        InputError: As `load_splits`.
        CorruptFileError: As `load_splits`.
    """
    splits = load_splits(path, max_train_images=max_train_images, max_val_images=max_val_images, max_boxes=max_boxes)
    return DetectionData(name, splits[0], splits[-1])


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
                raise InputError(f"{path}: {key}[{position}] is {brief(entry)}, not an object")
    for key in ("images", "categories"):
        if not values[key]:
            raise InputError(f"{path}: its list {key!r} is empty")
    return {key: values[key] for key in ("images", "annotations", "categories")}


def _without_outline(entry: Entry) -> Entry:
    entry.pop("segmentation", None)
    return entry


def _read_categories(entries: list[Entry], faults: Faults) -> tuple[Category, ...]:
    names: dict[int, str] = {}
    for number, entry in _identified(entries, "category", faults):
        names[number] = str(entry.get("name"))
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            faults.add("category without name", f"category id {number} has no name")
        if number == 0:
            faults.add("category id 0", f"category id 0 ({names[0]})")
    return tuple(Category(number, names[number]) for number in sorted(names))


def _read_images(entries: list[Entry], faults: Faults) -> dict[int, Entry | None]:
    """The images by id; None for one that cannot be used, so that its annotations are not faults besides."""
    images: dict[int, Entry | None] = {}
    for number, entry in _identified(entries, "image", faults):
        images[number] = None
        name = entry.get("file_name")
        wrong = [side for side in ("width", "height") if not is_whole(entry.get(side)) or entry[side] < 1]
        if not isinstance(name, str) or not name:
            faults.add("image without file_name", f"image id {number} has no file_name")
        elif wrong:
            faults.add(
                "image size not a number of pixels",
                f"image id {number} ({name}): {wrong[0]} is {brief(entry.get(wrong[0]))}, not a number of pixels",
            )
        else:
            images[number] = entry
    return images


def _read_boxes(
    entries: list[Entry], images: Mapping[int, Entry | None], labels: dict[int, int], faults: Faults
) -> dict[int, list[Entry]]:
    """The boxes by image; an image whose boxes are all left out has an empty list."""
    known = f"Known: {', '.join(map(str, list(labels)[:20]))}{', ...' if len(labels) > 20 else ''}"
    boxes: dict[int, list[Entry]] = {}
    for number, entry in _identified(entries, "annotation", faults):
        image, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        area, crowd = entry.get("area", 0), entry.get("iscrowd", 0)
        where = f"annotation id {number}"
        if not is_id(image) or image not in images:
            faults.add("annotation of an unknown image", f"{where}: image_id {brief(image)} is not among the images")
        elif not is_id(category) or category not in labels:
            faults.add(
                "annotation of an unknown category",
                f"{where}: category_id {brief(category)} is not among the categories. {known}",
            )
        elif not is_box(box):
            faults.add("box not four numbers", f"{where}: bbox {brief(box)} is not four numbers x, y, width, height")
        elif not is_number(area) or not math.isfinite(to_float(area)):
            faults.add("area not a number", f"{where}: area {brief(area)} is not a number")
        elif crowd not in (0, 1):
            faults.add("crowd flag not 0 or 1", f"{where}: iscrowd {brief(crowd)} is not 0 or 1")
        elif (holder := images[image]) is not None:
            kept = boxes.setdefault(image, [])
            fault = _fault_of_box(box, holder["width"], holder["height"])
            if fault:
                faults.add(fault, f"{where} (image id {image}): bbox {brief(box)} on {_size(holder)}")
            if fault in (None, "box over the edge of its image"):
                own = entry.get("area", box[2] * box[3])
                kept.append({"box": box, "label": labels[category], "area": own, "crowd": bool(crowd)})
            if crowd and not fault:
                faults.add("crowd box", f"{where} (image id {image})")
    return boxes


def _fault_of_box(box: list[float], width: int, height: int) -> str | None:
    """The kind of fault of a box on a picture of that size, or None."""
    x, y, across, down = map(to_float, box)
    if not all(map(math.isfinite, (x + across, y + down, across, down))):
        return "box not finite"
    if across <= 0 or down <= 0:
        return "box empty or inverted"
    inside = (
        min(max(x + across, 0.0), width) - min(max(x, 0.0), width),
        min(max(y + down, 0.0), height) - min(max(y, 0.0), height),
    )
    if min(inside) < SMALLEST_SIDE:
        return "box outside its image"
    beyond = max(-x, -y, x + across - width, y + down - height)
    return "box over the edge of its image" if beyond > OVER_THE_EDGE else None


def _annotated(number: int, entry: Entry, folder: Path, boxes: list[Entry]) -> AnnotatedImage:
    return AnnotatedImage(
        id=number,
        path=folder / entry["file_name"],
        width=entry["width"],
        height=entry["height"],
        boxes=np.array([box["box"] for box in boxes], dtype=np.float64).reshape(-1, 4),
        labels=np.array([box["label"] for box in boxes], dtype=np.int64),
        areas=np.array([box["area"] for box in boxes], dtype=np.float64),
        crowd=np.array([box["crowd"] for box in boxes], dtype=np.bool_),
    )


def _to_train_on(split: DetectionSplit, max_boxes: int) -> DetectionSplit:
    """Without the images that have more boxes than that: a step on one would need more memory than there is."""
    faults = Faults()
    kept: list[AnnotatedImage] = []
    for image in split.images:
        count = int((~image.crowd).sum())
        if max_boxes and count > max_boxes:
            faults.add(
                "image with too many boxes",
                f"image id {image.id} ({image.path.name}) has {count:,} boxes, data.max_boxes is {max_boxes:,}",
            )
        else:
            kept.append(image)
    left = replace(split, images=tuple(kept))
    if left.boxes == 0:
        faults.add("no box to learn from", f"there is no box to learn from in {len(kept)} training images")
    return replace(left, findings=split.findings + faults.findings)


def _of_same_classes(val: DetectionSplit, train: DetectionSplit) -> DetectionSplit:
    if val.categories == train.categories:
        return val
    faults = Faults()
    faults.add("categories of the splits differ", f"its categories are not those of {train.source}")
    return replace(val, findings=val.findings + faults.findings)


def _identified(entries: list[Entry], kind: str, faults: Faults) -> Iterator[tuple[int, Entry]]:
    """The entries with their ids, but for ids that are absent, not whole numbers, or given twice."""
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        number: Any = entry.get("id")
        if not is_id(number):
            faults.add(f"{kind} id not a whole number", f"the {kind} at position {position} has the id {brief(number)}")
        elif number in seen:
            faults.add(f"{kind} id given twice", f"the {kind} id {number} is given twice")
        else:
            seen.add(number)
            yield number, entry


def _size(entry: Entry) -> str:
    return f"{entry['width']}x{entry['height']} pixels"
