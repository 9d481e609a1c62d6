"""Images with boxes: the splits of a detection data set, and the reading of one image.

Boxes are kept as COCO writes them, (x, y, width, height) in pixels with the origin at the top left corner; corners
(x1, y1, x2, y2) are made where a detector needs them. Labels are 1 to K; 0 is a detector's background.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nascli.config import MAX_MEGAPIXELS
from nascli.data.images.decoding import decode_image, image_to_tensor
from nascli.data.images.pixels import Note, ignore_note
from nascli.data.issues import Issue, IssueOutcome
from nascli.errors import CorruptFileError, InputError

Boxes = NDArray[np.float64]

MIN_BOX_SIDE = 0.01
"""Pixels of a box that must lie inside its image, in width and in height, for the box to mean anything."""

LARGEST_AREA = 1e10
"""Square pixels of the largest box that COCO scores; without a word it leaves out what is larger, or below 0."""


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
        describe_size_mismatch(image, opened.size), "The image was resized or replaced after it was annotated"
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


def describe_size_mismatch(image: AnnotatedImage, size: tuple[int, int]) -> str:
    """An image of this size (width, height), and not of the one that it was annotated at, in words."""
    return (
        f"{image.path} (image id {image.id}) has {size[0]}x{size[1]} pixels, its annotations say "
        f"{image.width}x{image.height}"
        + (": width and height changed places" if size == (image.height, image.width) else "")
    )
