"""Images with boxes: the splits of a detection data set, how one image is read, and how all of a split are checked.

Boxes are kept as COCO writes them, (x, y, width, height) in pixels with the origin at the top left corner; corners
(x1, y1, x2, y2) are made where a detector needs them. Labels are 1 to K; 0 is a detector's background.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nascli.config import MAX_MEGAPIXELS
from nascli.data.images import exif
from nascli.data.images.damage import has_end
from nascli.data.images.decoding import decode_image, explain, image_to_tensor, note_header, open_header
from nascli.data.images.pixels import Note, ignore_note
from nascli.data.issues import ISSUE_KINDS, Issue, IssueLog, IssueOutcome
from nascli.errors import CorruptFileError, InputError, TooLargeError

Boxes = NDArray[np.float64]

MIN_BOX_SIDE = 0.01
"""Pixels of a box that must lie inside its image, in width and in height, for the box to mean anything."""

SKIPPED_INSTEAD = {
    "image not on disk": "image missing",
    "image cannot be read": "image unreadable",
    "image too large": "image over the limit of size",
}
"""Kinds of issue of an image that cannot be used, with the kind that it is where such images are skipped."""

_CHUNK = 64
"""Images per task of a thread that checks them."""
_MAX_READERS = 8


@dataclass(frozen=True)
class Category:
    """A class with the id and name that its file gives it."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image that is not read yet, and its M boxes, as COCO writes them.

    `boxes` (M, 4); `labels` (M,) in 1 to K; `areas` (M,) in square pixels as the file gives them; `crowd` (M,) is true
    where a box is around an uncounted group. `width` and `height` are 0 where the annotations do not say them and the
    image could not be opened. `written_id` is the id as the file has it, where that is no number.
    """

    id: int
    path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    written_id: str = ""
    max_megapixels: int = MAX_MEGAPIXELS

    @property
    def learned_boxes(self) -> int:
        """Number of boxes to learn from: all but crowds."""
        return int((~self.crowd).sum())


@dataclass(frozen=True)
class DetectionSplit:
    """The images of a split, in the order of their file, and the issues found in it.

    `name` is what it is for, train or val; `own_name` what the data call it, where that is known.
    `absent_ids` are categories that the training split alone has: results for this one's file cannot name them.
    """

    name: str
    source: Path
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    issues: tuple[Issue, ...] = ()
    own_name: str = ""
    absent_ids: frozenset[int] = frozenset()

    @property
    def boxes(self) -> int:
        """Number of boxes to learn from: all but crowds."""
        return sum(image.learned_boxes for image in self.images)

    @property
    def skipped(self) -> tuple[Issue, ...]:
        """Issues for which boxes or images were skipped."""
        return tuple(each for each in self.issues if each.outcome is IssueOutcome.SKIPPED)

    @property
    def class_names(self) -> list[str]:
        """The names of labels 1 to K."""
        return [category.name for category in self.categories]

    def to_dict(self) -> dict[str, Any]:
        """Its counts and issues as JSON values."""
        return {
            "file": str(self.source),
            "split": self.name,
            "own_name": self.own_name,
            "images": len(self.images),
            "boxes": self.boxes,
            "classes": len(self.categories),
            "issues": [each.to_dict() for each in self.issues],
        }

    @property
    def labels_by_id(self) -> dict[int, int]:
        """The label, 1 to K, of each category id."""
        return {category.id: label for label, category in enumerate(self.categories, 1)}

    def first(self, count: int) -> "DetectionSplit":
        """The split with its first `count` images; with all of them for 0."""
        return replace(self, images=self.images[:count]) if count else self

    def limit_size(self, max_megapixels: int) -> "DetectionSplit":
        """The split whose images are decoded up to so many millions of pixels."""
        return replace(self, images=tuple(replace(each, max_megapixels=max_megapixels) for each in self.images))


@dataclass(frozen=True)
class DetectionData:
    """A data set for detection: two splits of the same classes."""

    name: str
    train: DetectionSplit
    val: DetectionSplit

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes; label k is the k-th, counted from 1."""
        return self.train.categories


def to_corners(boxes: Boxes) -> Boxes:
    """Convert (x, y, width, height) to (x1, y1, x2, y2), both (M, 4)."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)


def to_sides(corners: Boxes) -> Boxes:
    """Convert (x1, y1, x2, y2) to (x, y, width, height), both (M, 4)."""
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1)


def training_target(image: AnnotatedImage) -> dict[str, Tensor]:
    """The boxes to learn from: `boxes` (M, 4) float32 corners inside the image, `labels` (M,); no crowds."""
    kept = ~image.crowd
    corners = to_corners(image.boxes[kept]).clip(0, [image.width, image.height] * 2)
    return {"boxes": torch.from_numpy(corners.astype(np.float32)), "labels": torch.from_numpy(image.labels[kept])}


def read_annotated_image(image: AnnotatedImage) -> Tensor:
    """Read the pixels of an annotated image, uint8 (3, H, W); raises what `open_annotated_image` does."""
    return image_to_tensor(open_annotated_image(image))


def open_annotated_image(image: AnnotatedImage, note: Note = ignore_note) -> Image.Image:
    """Open an annotated image as RGB, at the size its annotations were made for.

    An image whose camera recorded a rotation is turned only if its annotations were made on the turned image, as far as
    sizes can tell.

    Raises:
        CorruptFileError: The file is damaged, or too large.
        InputError: It is not there, or its size is not what the annotations say.
    """
    expected = (image.width, image.height)
    opened = _open(image.path, image.max_megapixels, expected, note)
    if opened.size == expected:
        return opened
    raise InputError(
        _describe_size_mismatch(image, opened.size), "The image was resized or replaced after it was annotated"
    )


def open_image(path: Path, max_megapixels: int = MAX_MEGAPIXELS, note: Note = ignore_note) -> Image.Image:
    """Open a user's own image as RGB, upright, as `decode_image` does.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not an image, damaged, or too large; the message names it.
    """
    return _open(path, max_megapixels, note=note)


def _open(
    path: Path, max_megapixels: int, annotated_size: tuple[int, int] | None = None, note: Note = ignore_note
) -> Image.Image:
    try:
        return decode_image(path, max_megapixels=max_megapixels, annotated_size=annotated_size, note=note)
    except CorruptFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise InputError(f"image {path}: no such file") from error
        raise


def check_headers(split: DetectionSplit) -> tuple[Issue, ...]:
    """Check that images are there and fit their annotations, without decoding: seconds for ten thousands of files.

    A file is opened for its size, and its end is looked at; where that seems cut off, it is decoded to be sure.
    """
    return check_images(split, decode=False)[0]


def check_images(split: DetectionSplit, *, decode: bool) -> tuple[tuple[Issue, ...], frozenset[int]]:
    """The issues of a split's images, by header or by decoding, and the ids of those that cannot be used at all."""
    find_issues = _find_pixel_issues if decode else _find_header_issues
    log = IssueLog()
    unusable: set[int] = set()
    present: list[AnnotatedImage] = []
    listed: dict[Path, frozenset[str]] = {}  # one listing per folder is much faster than a stat per file
    for image in split.images:
        folder = image.path.parent
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        if image.path.name in listed[folder]:
            present.append(image)
        else:
            log.add("image not on disk", f"image id {image.id} is not on disk: {image.path}")
            unusable.add(image.id)

    def check_chunk(chunk: Sequence[AnnotatedImage]) -> list[tuple[int, str, str]]:
        return [(image.id, *issue) for image in chunk for issue in find_issues(image)]

    chunks = [present[start : start + _CHUNK] for start in range(0, len(present), _CHUNK)]
    with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as readers:
        for found in readers.map(check_chunk, chunks):
            for number, kind, example in found:
                log.add(kind, example)
                if kind in SKIPPED_INSTEAD:
                    unusable.add(number)
    return log.issues, frozenset(unusable)


def _find_header_issues(image: AnnotatedImage) -> list[tuple[str, str]]:
    """Kind and example of each issue of an image, as far as its header and its end tell."""
    expected = (image.width, image.height)
    issues: list[tuple[str, str]] = []
    try:
        with image.path.open("rb") as file, open_header(file, image.max_megapixels) as opened:
            note_header(opened, _collect(image, issues), expected)
            size = opened.size
            if size != expected and exif.read_orientation(opened) in exif.ON_ITS_SIDE:
                size = size[::-1]
            complete = has_end(file, opened.format)
        if not complete:
            decode_image(image.path, max_megapixels=image.max_megapixels)
    except Exception as error:  # decoders raise whatever their format makes them raise
        return [_classify(image, explain(image.path, error))]
    if size != expected:
        issues.append(("image of another size", _describe_size_mismatch(image, size)))
    return issues


def _find_pixel_issues(image: AnnotatedImage) -> list[tuple[str, str]]:
    """The same, and what shows when it is decoded."""
    issues = _find_header_issues(image)
    if any(ISSUE_KINDS[kind][0] is IssueOutcome.REFUSED for kind, _ in issues):
        return issues
    try:
        open_annotated_image(image, _collect(image, issues))
    except CorruptFileError as error:
        issues.append(_classify(image, error))
    return issues


def _collect(image: AnnotatedImage, issues: list[tuple[str, str]]) -> Note:
    """A note that adds to these issues of an image."""
    return lambda kind, example: issues.append((kind, f"image id {image.id} ({image.path.name}): {example}"))


def _classify(image: AnnotatedImage, error: CorruptFileError) -> tuple[str, str]:
    kind = "image too large" if isinstance(error, TooLargeError) else "image cannot be read"
    return kind, f"image id {image.id}: {error.message}"


def _describe_size_mismatch(image: AnnotatedImage, size: tuple[int, int]) -> str:
    return (
        f"{image.path} (image id {image.id}) has {size[0]}x{size[1]} pixels, its annotations say "
        f"{image.width}x{image.height}"
        + (": width and height changed places" if size == (image.height, image.width) else "")
    )
