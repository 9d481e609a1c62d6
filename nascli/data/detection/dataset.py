"""Images with boxes: the splits of a detection data set, and how one image is read.

Boxes are kept as COCO writes them, (x, y, width, height) in pixels with the origin at the top left corner; corners
(x1, y1, x2, y2) are made where a detector needs them. Labels are 1 to K; 0 is a detector's background.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from nascli.data.decoding import image_to_tensor, to_8_bits
from nascli.data.detection.issues import Issue, IssueOutcome
from nascli.errors import CorruptFileError, InputError

Boxes = NDArray[np.float64]

MIN_BOX_SIDE = 0.01
"""Pixels of a box that must lie inside its image, in width and in height, for the box to mean anything."""


@dataclass(frozen=True)
class Category:
    """A class with the id and name that its file gives it."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image that is not read yet, and its M boxes.

    `boxes` (M, 4) as COCO writes them; `labels` (M,) in 1 to K; `areas` (M,) in square pixels as the file gives them;
    `crowd` (M,) is true where a box is drawn around an uncounted group.
    """

    id: int
    path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionSplit:
    """The images of a split, in the order of their file, and the issues found in it."""

    name: str
    source: Path
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    issues: tuple[Issue, ...] = ()

    @property
    def boxes(self) -> int:
        """Number of boxes that can be learned from: all but crowds."""
        return sum(int((~image.crowd).sum()) for image in self.images)

    @property
    def skipped(self) -> tuple[Issue, ...]:
        """Issues for which boxes or images were skipped."""
        return tuple(each for each in self.issues if each.outcome is IssueOutcome.SKIPPED)

    @property
    def class_names(self) -> list[str]:
        """The names of labels 1 to K."""
        return [category.name for category in self.categories]

    @property
    def labels_by_id(self) -> dict[int, int]:
        """The label, 1 to K, of each category id."""
        return {category.id: label for label, category in enumerate(self.categories, 1)}

    def first(self, count: int) -> "DetectionSplit":
        """The split with its first `count` images; with all of them for 0."""
        return replace(self, images=self.images[:count]) if count else self


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


def clip_corners(corners: Boxes, width: int, height: int) -> Boxes:
    """Clip boxes to an image of that size."""
    return np.clip(corners, 0, np.array([width, height, width, height], dtype=np.float64))


def training_target(image: AnnotatedImage) -> dict[str, Tensor]:
    """The boxes to learn from: `boxes` (M, 4) float32 corners inside the image, `labels` (M,); no crowds."""
    kept = ~image.crowd
    corners = clip_corners(to_corners(image.boxes[kept]), image.width, image.height)
    return {
        "boxes": torch.from_numpy(corners.astype(np.float32)).reshape(-1, 4),
        "labels": torch.from_numpy(image.labels[kept]),
    }


def read_annotated_image(image: AnnotatedImage) -> Tensor:
    """Read the pixels of an annotated image, uint8 (3, H, W); raises what `open_annotated_image` does."""
    return image_to_tensor(open_annotated_image(image))


def open_annotated_image(image: AnnotatedImage) -> Image.Image:
    """Open an annotated image as RGB, at the size its annotations were made for.

    An image whose camera recorded a rotation is turned only if its annotations were made on the turned image.

    Raises:
        CorruptFileError: The file is damaged.
        InputError: Its size is not what the annotations say.
    """
    expected = (image.width, image.height)
    for upright in (False, True):
        opened = open_image(image.path, upright=upright)
        if opened.size == expected:
            return opened
    raise InputError(
        describe_size_mismatch(image, opened.size), "The image was resized or replaced after it was annotated"
    )


def describe_size_mismatch(image: AnnotatedImage, size: tuple[int, int]) -> str:
    """The message for an image whose file has another size, (width, height), than its annotations say."""
    return (
        f"{image.path} (image id {image.id}) has {size[0]}x{size[1]} pixels, its annotations say "
        f"{image.width}x{image.height}"
    )


def open_image(path: Path, *, upright: bool = True) -> Image.Image:
    """Open an image of any mode as RGB; transparent parts become white, 16 bit become 8.

    Args:
        path: A file of any format that Pillow reads.
        upright: Turn it the way the camera says it was held.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not an image, or damaged; the message names it.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened) if upright else opened.copy()
        return _to_rgb(image)
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise CorruptFileError(f"image {path} cannot be read: {error}", "Is it an image, and complete?") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    image = to_8_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
