"""COCO-format annotations: one JSON file per split, in four steps.

`locate_splits` finds the files, `parse_coco` reads one of them and logs every issue by its kind, `parse_splits` adds
the limits of a recipe and a check of the images, `load_splits` refuses what has to be repaired.

Classes come from the file: its own category ids, sorted, become labels 1 to K. Crowd boxes are kept for scoring and not
trained on; images without boxes are kept as negatives; boxes that mean nothing are skipped and counted; all else that
is wrong has to be repaired by its owner. `nascli.data.detection.issues` has the table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nascli.config import DetectDataConfig
from nascli.data.detection.coco_entries import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    describe_wrong_field,
    parse_entries,
    read_lists,
)
from nascli.data.detection.dataset import MIN_BOX_SIDE, AnnotatedImage, Category, DetectionSplit
from nascli.data.detection.image_check import check_headers
from nascli.data.detection.issues import Issue, IssueLog, raise_if_refused
from nascli.errors import InputError
from nascli.units import shorten

ImageCheck = Callable[[DetectionSplit], tuple[Issue, ...]]
"""Compares images with their annotations: `check_headers` or `check_pixels`."""

OVER_THE_EDGE = 1.0
"""Pixels by which a box may reach out of its image without an issue: annotators round."""


class SplitFiles(NamedTuple):
    """The annotation file of a split, and the folders in which its images may lie: the first that has the first one."""

    annotations: Path
    folders: tuple[Path, ...]


def locate_splits(path: Path) -> tuple[SplitFiles, SplitFiles]:
    """Find the files of the training and of the validation split; a single file stands for both.

    Args:
        path: A folder with `annotations/instances_train*.json` and `instances_val*.json` (images in `train*/` and
            `val*/`), or with `train/` and `val/` (or `valid/`) that each hold `_annotations.coco.json` beside the
            images; or one JSON file beside its images.

    Raises:
        InputError: Neither is there, or more than one file per split.
    """
    if path.is_file():
        beside = (path.parent, path.parent / "images", path.parent / path.stem, path.parent.parent / path.stem)
        return SplitFiles(path, beside), SplitFiles(path, beside)
    train, val = _locate_split(path, ("train",)), _locate_split(path, ("val", "valid"))
    if train is not None and val is not None:
        return train, val
    raise InputError(
        f"COCO-format data {path}: " + ("no such folder" if not path.is_dir() else "no annotations of both splits"),
        f"Put instances_train2017.json and instances_val2017.json in {path / 'annotations'}, and their images in "
        f"{path / 'train2017'} and {path / 'val2017'}; or give --data-dir DIR, or --dataset coco:PATH",
    )


def parse_coco(files: SplitFiles, name: str) -> DetectionSplit:
    """Read one split from its JSON file, whatever is wrong with its entries; no image is opened.

    Args:
        files: A COCO `instances` file, with lists `images`, `annotations` and `categories`, and the folders.
        name: Name of the split: train, val.

    Returns:
        Everything that makes sense, with issues that name the file's ids.

    Raises:
        InputError: No such file, or it has not these lists.
        CorruptFileError: The file is not JSON, for instance truncated.
    """
    lists, log = read_lists(files.annotations), IssueLog()
    categories = _parse_categories(lists["categories"], log)
    labels = {category.id: label for label, category in enumerate(categories, 1)}
    entries = dict(parse_entries(CocoImage, lists["images"], "image", log))
    boxes = _parse_boxes(lists["annotations"], entries, labels, log)
    usable = [entry for entry in entries.values() if entry is not None]
    folder = next((each for each in files.folders if usable and (each / usable[0].file_name).is_file()), None)
    images = tuple(_annotate(entry, folder or files.folders[0], boxes.get(entry.id, []), labels) for entry in usable)
    for image in images:
        if not len(image.boxes):
            kind = "image that lost all its boxes" if image.id in boxes else "image without boxes"
            log.add(kind, f"image id {image.id} ({image.path.name})")
    return DetectionSplit(name, files.annotations, categories, images, log.issues)


def parse_splits(path: Path, config: DetectDataConfig, check: ImageCheck) -> tuple[DetectionSplit, ...]:
    """Read the training split and, where it has a file of its own, the validation split, with all their issues.

    Args:
        path: See `locate_splits`.
        config: How many images are used, and the limit of boxes per training image.
        check: Compares the images with their annotations.

    Raises:
        InputError: Nothing there, or a file without the lists that COCO's have.
        CorruptFileError: A file is not JSON.
    """
    train_files, val_files = locate_splits(path)
    train = parse_coco(train_files, "train").first(config.max_train_images)
    splits = [_select_training(train, config.max_boxes)]
    if val_files != train_files:
        val = parse_coco(val_files, "val").first(config.max_val_images)
        if val.categories != train.categories:
            log = IssueLog()
            log.add("categories of the splits differ", f"its categories are not those of {train.source}")
            val = replace(val, issues=val.issues + log.issues)
        splits.append(val)
    return tuple(replace(split, issues=split.issues + check(split)) for split in splits)


def load_splits(path: Path, config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """The same splits, fit for use; headers of images are checked, pixels are not decoded.

    Raises:
        InputError: Nothing there, an issue in a file, an image that is not on disk or of another size, or two splits of
            different classes.
        CorruptFileError: A file is not JSON, or an image is cut off.
    """
    splits = parse_splits(path, config, check_headers)
    for split in splits:
        raise_if_refused(split.source, split.issues)
    return splits


def _locate_split(path: Path, words: tuple[str, ...]) -> SplitFiles | None:
    files = [file for word in words for file in sorted((path / "annotations").glob(f"instances_{word}*.json"))]
    if len(files) > 1:
        raise InputError(
            f"{path / 'annotations'} holds {' and '.join(file.name for file in files)}",
            "Keep one file per split there, or give one JSON file by --dataset coco:FILE",
        )
    if files:
        split = files[0].stem.removeprefix("instances_")
        return SplitFiles(files[0], (path / split, path / "images" / split, path / "images", path))
    beside = (path / word / "_annotations.coco.json" for word in words)
    return next((SplitFiles(file, (file.parent,)) for file in beside if file.is_file()), None)


def _parse_categories(entries: list[dict[str, Any]], log: IssueLog) -> tuple[Category, ...]:
    names: dict[int, str] = {}
    for number, entry in parse_entries(CocoCategory, entries, "category", log):
        names[number] = entry.name if entry else ""
        if number == 0:
            log.add("category id 0", f"category id 0 ({names[0]})")
    return tuple(Category(number, names[number]) for number in sorted(names))


def _parse_boxes(
    entries: list[dict[str, Any]], images: Mapping[int, CocoImage | None], labels: Mapping[int, int], log: IssueLog
) -> dict[int, list[CocoAnnotation]]:
    """The annotations by image; an image whose boxes are all skipped has an empty list."""
    known = f"{', '.join(map(str, list(labels)[:20]))}{', ...' if len(labels) > 20 else ''}"
    boxes: dict[int, list[CocoAnnotation]] = {}
    for _, entry in parse_entries(CocoAnnotation, entries, "annotation", log, known):
        if entry is None:
            continue
        if entry.image_id not in images:
            log.add(*describe_wrong_field("image_id", entry.model_dump(), known))
        elif entry.category_id not in labels:
            log.add(*describe_wrong_field("category_id", entry.model_dump(), known))
        elif (image := images[entry.image_id]) is not None:
            _add_box(boxes.setdefault(image.id, []), entry, image, log)
    return boxes


def _add_box(boxes: list[CocoAnnotation], entry: CocoAnnotation, image: CocoImage, log: IssueLog) -> None:
    where = f"annotation id {entry.id} (image id {image.id})"
    kind = _find_box_issue(entry.bbox, image.width, image.height)
    if kind is not None:
        log.add(kind, f"{where}: bbox {shorten(repr(entry.bbox))} on {image.width}x{image.height} pixels")
    elif entry.iscrowd:
        log.add("crowd box", where)
    if kind in (None, "box over the edge of its image"):
        boxes.append(entry)


def _find_box_issue(box: Sequence[float], width: int, height: int) -> str | None:
    """The kind of issue of a box on an image of that size, or None."""
    try:
        x, y, across, down = map(float, box)
    except OverflowError:  # an integer of hundreds of digits
        return "box not finite"
    if not all(map(math.isfinite, (x + across, y + down, across, down))):
        return "box not finite"
    if across <= 0 or down <= 0:
        return "box empty or inverted"
    inside = (
        min(max(x + across, 0.0), width) - min(max(x, 0.0), width),
        min(max(y + down, 0.0), height) - min(max(y, 0.0), height),
    )
    if min(inside) < MIN_BOX_SIDE:
        return "box outside its image"
    beyond = max(-x, -y, x + across - width, y + down - height)
    return "box over the edge of its image" if beyond > OVER_THE_EDGE else None


def _annotate(
    entry: CocoImage, folder: Path, boxes: Sequence[CocoAnnotation], labels: Mapping[int, int]
) -> AnnotatedImage:
    areas = [box.bbox[2] * box.bbox[3] if math.isnan(box.area) else box.area for box in boxes]
    return AnnotatedImage(
        id=entry.id,
        path=folder / entry.file_name,
        width=entry.width,
        height=entry.height,
        boxes=np.array([box.bbox for box in boxes], dtype=np.float64).reshape(-1, 4),
        labels=np.array([labels[box.category_id] for box in boxes], dtype=np.int64),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array([box.iscrowd for box in boxes], dtype=np.bool_),
    )


def _select_training(split: DetectionSplit, max_boxes: int) -> DetectionSplit:
    """The split without images that have more boxes than that: a step on one would need more memory than there is."""
    log = IssueLog()
    kept: list[AnnotatedImage] = []
    for image in split.images:
        count = int((~image.crowd).sum())
        if max_boxes and count > max_boxes:
            log.add(
                "image with too many boxes",
                f"image id {image.id} ({image.path.name}) has {count:,} boxes, data.max_boxes is {max_boxes:,}",
            )
        else:
            kept.append(image)
    selected = replace(split, images=tuple(kept))
    if selected.boxes == 0:
        log.add("no box to learn from", f"there is no box to learn from in {len(kept)} training images")
    return replace(selected, issues=split.issues + log.issues)
