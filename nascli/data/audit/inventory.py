"""Every image of a data set of either task, in all splits that it has, with its classes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nascli.config import DETECTION_DATASETS, MAX_MEGAPIXELS, DetectDataConfig, find_dataset
from nascli.data.detection.across import match_categories
from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit
from nascli.data.detection.formats.coco import parse_split
from nascli.data.detection.image_check import check_headers
from nascli.data.detection.recognize import explain_unread_boxes, recognize_format
from nascli.data.detection.registry import list_splits
from nascli.data.detection.registry import name_dataset as name_detection
from nascli.data.folders.folder import scan_folder
from nascli.data.folders.index import WHOLE, ImageIndex, SplitRequest
from nascli.data.folders.labels import scan_table
from nascli.data.folders.layout import UnsortedError
from nascli.data.folders.recognize import has_class_folders
from nascli.data.folders.split_names import find_role
from nascli.data.images.decoding import ImageSource
from nascli.data.issues import Issue
from nascli.data.pack.format import open_pack
from nascli.data.registry import name_dataset
from nascli.errors import InputError
from nascli.reading import expand_home

_CERTAIN = ("coco", "voc", "csv")
"""Formats that class folders cannot be taken for; YOLO's labels may be other texts beside images."""


@dataclass(frozen=True)
class LabeledImage:
    """An image with the classes of its boxes, or its own alone; `annotated` has the boxes.

    It is decoded where it has no more than so many millions of pixels.
    """

    source: ImageSource
    classes: tuple[str, ...]
    annotated: AnnotatedImage | None = None
    max_megapixels: int = MAX_MEGAPIXELS


@dataclass(frozen=True)
class LabeledSplit:
    """A split by the name that the data give it; `boxes` is the same split of a detector."""

    name: str
    source: str
    images: tuple[LabeledImage, ...]
    issues: tuple[Issue, ...]
    boxes: DetectionSplit | None = None

    def check_headers(self) -> tuple[Issue, ...]:
        """Its issues and, with boxes, those that the headers of its images show."""
        return (*self.issues, *(check_headers(self.boxes) if self.boxes else ()))


@dataclass(frozen=True)
class Inventory:
    """A data set by its full name."""

    dataset: str
    task: Literal["classify", "detect"]
    class_names: tuple[str, ...]
    splits: tuple[LabeledSplit, ...]


def take_inventory(dataset: str, data_dir: str, max_megapixels: int | None = None) -> Inventory:
    """List a data set, which may be given as a path alone; no image is decoded.

    Args:
        max_megapixels: Millions of pixels of the largest image that is decoded later; None is the default.

    Raises:
        InputError: It is unknown or not on disk, or comes in memory, as digits and cifar10 do.
        CorruptFileError: A file of it is damaged.
    """
    name, colon, location = dataset.partition(":")
    path = expand_home(location if colon else dataset)
    if name == "csv" and colon:
        is_detection = recognize_format(path) == "csv"
        if not is_detection and (error := explain_unread_boxes(path)):
            raise error
    else:
        is_detection = find_dataset(dataset, DETECTION_DATASETS) is not None
    if not is_detection and not colon and os.path.exists(path):
        found = recognize_format(path)
        is_detection = found in _CERTAIN or (found is not None and not has_class_folders(path))
    limit = max_megapixels or MAX_MEGAPIXELS
    if is_detection:
        return _list_detection(DetectDataConfig(dataset=dataset, data_dir=data_dir, max_megapixels=limit))
    return _list_classes(name_dataset(dataset), data_dir, limit)


def _list_detection(config: DetectDataConfig) -> Inventory:
    parsed = [
        (name, parse_split(raw, name).limit_size(config.max_megapixels)) for name, raw in list_splits(config)[1].items()
    ]
    train = next((split for name, split in parsed if find_role(name) == "train"), parsed[0][1])
    splits = []
    for name, split in parsed:
        matched = split if split is train else match_categories(split, train)
        names = ["", *matched.class_names]  # its own ones where they are refused, since the splits' differ
        images = tuple(
            LabeledImage(
                image.path, tuple(names[label] for label in image.labels.tolist()), image, config.max_megapixels
            )
            for image in matched.images
        )
        splits.append(LabeledSplit(name, str(split.source), images, matched.issues, matched))
    return Inventory(name_detection(config), "detect", tuple(train.class_names), tuple(splits))


def _list_classes(dataset: str, data_dir: str, max_megapixels: int) -> Inventory:
    kind, _, location = dataset.partition(":")
    path = expand_home(location) if location else expand_home(data_dir) / kind
    indexes: list[ImageIndex[ImageSource]]
    if kind == "pack":
        indexes = [open_pack(path).index()]
    elif kind in _SCANS:
        indexes = list(_scan_all(_SCANS[kind], path))
    else:
        raise InputError(f"data set {dataset} is none of your own files", "Give a folder, a table or a pack")
    first = indexes[0]
    groups = [("train", first.train)] if first.train and first.val_name != WHOLE else []
    groups += [(index.val_name, index.val) for index in indexes]
    owners = [first, *indexes][-len(groups) :]
    issues = [first.issues, *(() if index is first else index.issues for index in owners[1:])]
    splits = [
        LabeledSplit(
            name,
            str(path),
            tuple(LabeledImage(source, (index.class_names[label],), None, max_megapixels) for source, label in images),
            own,
        )
        for (name, images), index, own in zip(groups, owners, issues, strict=True)
    ]
    return Inventory(dataset, "classify", first.class_names, tuple(splits))


def _scan_all(scan: Callable[[Path, SplitRequest], ImageIndex[Path]], path: Path) -> Iterator[ImageIndex[Path]]:
    """An index of each split but the training split, which the first of them has, too, with its issues."""
    training = SplitRequest(measured=True, train_alone=True)
    try:
        first = scan(path, SplitRequest(measured=True))
    except InputError:
        first = scan(path, training)
    known = scan(path, training).issues if first.unused and first.train else ()
    others: list[ImageIndex[Path]] = []
    for name in first.unused:
        try:
            index = scan(path, SplitRequest(val_split=name, measured=True))
        except UnsortedError as error:
            if find_role(name) == "val":
                raise
            unsorted = Issue("image in no class folder", error.images, str(error.file))
            first = replace(first, issues=(*first.issues, unsorted))
        else:
            others.append(replace(index, issues=_subtract(index.issues, known)))
    yield first
    yield from others


def _subtract(issues: Sequence[Issue], known: Sequence[Issue]) -> tuple[Issue, ...]:
    """The issues of a further split: an index has those of the training split, too."""
    counts = {each.kind: each.count for each in known}
    left = (replace(each, count=each.count - counts.get(each.kind, 0)) for each in issues)
    return tuple(each for each in left if each.count > 0)


_SCANS: dict[str, Callable[[Path, SplitRequest], ImageIndex[Path]]] = {
    "folder": scan_folder,
    "imagenet": scan_folder,
    "csv": scan_table,
}
"""The function that lists the images of each data set for classification that is made of a user's files."""
