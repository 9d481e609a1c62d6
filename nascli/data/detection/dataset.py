"""Pictures with boxes: what every detection data set is made of, and how one picture is read.

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

from nascli.data.decoding import to_8_bits
from nascli.data.detection.issues import Finding, Outcome
from nascli.errors import CorruptFileError, InputError

Boxes = NDArray[np.float64]

SMALLEST_SIDE = 0.01
"""Pixels of a box that must lie inside its picture, in width and in height, for the box to mean anything."""


@dataclass(frozen=True)
class Category:
    """A class as its file has it."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One picture, not yet read, and its M boxes.

    `boxes` (M, 4) as COCO writes them; `labels` (M,) in 1 to K; `areas` (M,) in square pixels as the file gives them;
    `crowd` (M,) is true where a box is drawn around a group that nobody counted.
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
    """The pictures of one split, in the order of the file they were read from, and what was found at fault in it."""

    name: str
    source: Path
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def boxes(self) -> int:
        """Number of boxes that can be learned from: all but crowds."""
        return sum(int((~image.crowd).sum()) for image in self.images)

    @property
    def skipped(self) -> tuple[Finding, ...]:
        """What was left out."""
        return tuple(each for each in self.findings if each.outcome is Outcome.SKIPPED)

    def first(self, count: int) -> "DetectionSplit":
        """The first so many pictures; all for 0."""
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
    """(x, y, width, height) to (x1, y1, x2, y2), both (M, 4)."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)


def to_sides(corners: Boxes) -> Boxes:
    """(x1, y1, x2, y2) to (x, y, width, height), both (M, 4)."""
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1)


def clip_corners(corners: Boxes, width: int, height: int) -> Boxes:
    """The part of each box that lies inside a picture of that size."""
    return np.clip(corners, 0, np.array([width, height, width, height], dtype=np.float64))


def training_target(image: AnnotatedImage) -> dict[str, Tensor]:
    """The boxes to learn from: `boxes` (M, 4) float32 corners inside the picture, `labels` (M,); no crowds."""
    kept = ~image.crowd
    corners = clip_corners(to_corners(image.boxes[kept]), image.width, image.height)
    return {
        "boxes": torch.from_numpy(corners.astype(np.float32)).reshape(-1, 4),
        "labels": torch.from_numpy(image.labels[kept]),
    }


def read_annotated(image: AnnotatedImage) -> Tensor:
    """The pixels of an annotated picture, (3, H, W) uint8; what is raised is that of `open_annotated`."""
    return picture_tensor(open_annotated(image))


def open_annotated(image: AnnotatedImage) -> Image.Image:
    """An annotated picture as RGB, at the size its annotations were made for.

    A photo whose camera wrote down a rotation is turned only if its annotations were made on the turned picture.

    Raises:
        CorruptFileError: The file is damaged.
        InputError: Its size is not what the annotations say.
    """
    wanted = (image.width, image.height)
    for upright in (False, True):
        picture = open_picture(image.path, upright=upright)
        if picture.size == wanted:
            return picture
    raise InputError(wrong_size(image, picture.size), "The picture was resized or replaced after it was annotated")


def wrong_size(image: AnnotatedImage, size: tuple[int, int]) -> str:
    """In words that a picture's file has another size, (width, height), than its annotations say."""
    return (
        f"{image.path} (image id {image.id}) has {size[0]}x{size[1]} pixels, its annotations say "
        f"{image.width}x{image.height}"
    )


def open_picture(path: Path, *, upright: bool = True) -> Image.Image:
    """A picture of any mode as RGB; transparent parts become white, 16 bit become 8.

    Args:
        path: A file of any format that Pillow reads.
        upright: Turn it the way the camera says it was held.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not a picture, or damaged; the message names it.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            picture = ImageOps.exif_transpose(opened) if upright else opened.copy()
        return _as_rgb(picture)
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise CorruptFileError(f"image {path} cannot be read: {error}", "Is it a picture, and complete?") from error


def picture_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as (3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _as_rgb(picture: Image.Image) -> Image.Image:
    picture = to_8_bits(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")
