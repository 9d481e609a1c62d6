"""Augmentation of images with boxes: flipped, and put into a square at a random scale.

A `BoxTransform` is sampled before its image is read, so that threads can read and transform images in any order.

Shapes: M boxes as corners (x1, y1, x2, y2) in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor

from nascli.data.detection.dataset import AnnotatedImage, open_annotated_image, training_target
from nascli.data.images.decoding import image_to_tensor

Target = dict[str, Tensor]
"""Training target of a detector for an image: `boxes` (M, 4) float32 and `labels` (M,)."""

MIN_LEARNED_SIDE = 1.0
"""Pixels of a box that must be left, in width and in height, for it to be learned."""


@dataclass(frozen=True)
class ScaleJitter:
    """The square of `side` pixels that every image is put into, and the range of scales.

    Args:
        scales: Lowest and highest; at 1 the longer side of the image is the side of the square.
        fill: Red, green and blue in 0 to 255 where no image covers the square.

    References: Ghiasi et al. 2021, "Simple Copy-Paste", section 3, large scale jittering: 0.1 to 2.
    """

    side: int
    scales: tuple[float, float]
    fill: tuple[int, int, int]


@dataclass(frozen=True)
class JitterPlacement:
    """Scale and position of one image in the square of a `ScaleJitter`.

    Args:
        across: Fraction of the width that does not fit which is cut off on the left, from 0 to below 1.
        down: The same of the height, at the top.
    """

    jitter: ScaleJitter
    scale: float
    across: float
    down: float


@dataclass(frozen=True)
class BoxTransform:
    """The transform of one image with its boxes: flipped first, then placed."""

    flip: bool = False
    placement: JitterPlacement | None = None

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """Transform an image and its boxes."""
        if self.flip:
            image, target = flip_horizontal(image, target)
        if self.placement is not None:
            image, target = place_in_square(image, target, self.placement)
        return image, target


def sample_transforms(
    count: int, generator: torch.Generator, *, flip: bool, jitter: ScaleJitter | None
) -> list[BoxTransform]:
    """Sample the transforms of the `count` images of a batch.

    Args:
        generator: Drawn from for what is switched on, nothing else.
        flip: Flip each with probability one half.
        jitter: Place each at a scale and a position that are drawn uniformly; None leaves them at their size.
    """
    flips: Sequence[bool] = [False] * count
    if flip:
        flips = (torch.rand(count, generator=generator) < 0.5).tolist()
    placements: Sequence[JitterPlacement | None] = [None] * count
    if jitter is not None:
        low, high = jitter.scales
        numbers = torch.rand(count, 3, generator=generator, dtype=torch.float64).tolist()
        placements = [
            JitterPlacement(jitter, low + (high - low) * each, across, down) for each, across, down in numbers
        ]
    return [BoxTransform(*each) for each in zip(flips, placements, strict=True)]


def read_transformed(image: AnnotatedImage, transform: BoxTransform) -> tuple[Tensor, Target]:
    """Read the pixels (3, H, W) uint8 of an annotated image and the boxes to learn from, both transformed.

    Raises:
        CorruptFileError: The file is damaged.
        InputError: Its size is not what the annotations say.
    """
    transformed, target = transform(open_annotated_image(image), training_target(image))
    return image_to_tensor(transformed), target


def flip_horizontal(image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """Mirror an image of width W and its boxes left and right: x becomes W - x."""
    boxes, width = target["boxes"], image.width
    mirrored = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    return ImageOps.mirror(image), {**target, "boxes": mirrored}


def place_in_square(image: Image.Image, target: Target, placement: JitterPlacement) -> tuple[Image.Image, Target]:
    """Enlarge or reduce an image, and put it at the top left of a square; what goes beyond the square is cut off.

    Boxes are cut with it, and dropped where less than a pixel of them remains: an image may lose them all, and is then
    one without anything to find.
    """
    jitter = placement.jitter
    fit = placement.scale * jitter.side / max(image.size)
    whole = tuple(max(1, round(side * fit)) for side in image.size)
    shown = tuple(min(side, jitter.side) for side in whole)
    fractions = (placement.across, placement.down)
    start = tuple(int(part * (side - seen + 1)) for part, side, seen in zip(fractions, whole, shown, strict=True))
    square = Image.new("RGB", (jitter.side, jitter.side), jitter.fill)
    square.paste(_resize_part(image, whole, start, shown), (0, 0))

    factors = torch.tensor([new / old for new, old in zip(whole, image.size, strict=True)] * 2)
    boxes = target["boxes"] * factors - torch.tensor(start * 2)
    boxes = boxes.clamp(min=torch.zeros(4), max=torch.tensor(shown * 2, dtype=torch.float32))
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_LEARNED_SIDE).all(1)
    return square, {**target, "boxes": boxes[kept], "labels": target["labels"][kept]}


def _resize_part(image: Image.Image, whole: Sequence[int], start: Sequence[int], shown: Sequence[int]) -> Image.Image:
    """The part of size `shown` at `start`, left and top, of an image resized to `whole`; the rest is not computed."""
    left, top, right, bottom = (
        min(edge * old / new, old)  # rounding must not lead out of the image
        for edge, old, new in zip(
            (*start, start[0] + shown[0], start[1] + shown[1]), image.size * 2, (*whole, *whole), strict=True
        )
    )
    return image.resize((shown[0], shown[1]), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
