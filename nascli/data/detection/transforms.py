"""Training pictures varied together with their boxes: mirrored, and put into a square at a random scale.

What is drawn and what is done with it are apart: a `Variation` is drawn before its picture is read, so that pictures
can be read and varied by several threads in any order.

Shapes: M boxes as corners (x1, y1, x2, y2) in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor

from nascli.data.detection.dataset import AnnotatedImage, open_annotated, picture_tensor, training_target

Target = dict[str, Tensor]
"""What a picture teaches: `boxes` (M, 4) float32 and `labels` (M,)."""

LEAST_SIDE = 1.0
"""Pixels of a box that must be left, in width and in height, for it to be learned."""


@dataclass(frozen=True)
class Frame:
    """The square that every picture is put into, and between which scales.

    Args:
        side: Pixels.
        scales: Lowest and highest; at 1 the longer side of the picture is the side of the square.
        fill: The colour, red, green and blue in 0 to 255, of what no picture covers.

    References: Ghiasi et al. 2021, "Simple Copy-Paste", section 3, large scale jittering: 0.1 to 2.
    """

    side: int
    scales: tuple[float, float]
    fill: tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """How one picture is put into a frame.

    Args:
        frame: The square.
        scale: Within the frame's.
        across: Of the part that is too wide, how much is cut off on the left; from 0 to below 1.
        down: The same at the top, of the part that is too high.
    """

    frame: Frame
    scale: float
    across: float
    down: float


@dataclass(frozen=True)
class Variation:
    """What is done to one picture: mirrored first, then placed."""

    mirrored: bool = False
    placement: Placement | None = None


def draw_variations(count: int, generator: torch.Generator, *, flip: bool, frame: Frame | None) -> list[Variation]:
    """Variations of the pictures of a batch.

    Args:
        count: Pictures.
        generator: Drawn from for what is switched on, nothing else.
        flip: Mirror each with probability one half.
        frame: Place each at a scale and a spot that are drawn evenly; None leaves them at their size.
    """
    mirrored: Sequence[bool] = [False] * count
    if flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).tolist()
    placements: Sequence[Placement | None] = [None] * count
    if frame is not None:
        low, high = frame.scales
        drawn = torch.rand(count, 3, generator=generator, dtype=torch.float64).tolist()
        placements = [Placement(frame, low + (high - low) * place, across, down) for place, across, down in drawn]
    return [Variation(*each) for each in zip(mirrored, placements, strict=True)]


def read_varied(image: AnnotatedImage, variation: Variation) -> tuple[Tensor, Target]:
    """The pixels (3, H, W) uint8 of an annotated picture, and the boxes to learn from, both varied.

    Raises:
        CorruptFileError: The file is damaged.
        InputError: Its size is not what the annotations say.
    """
    picture, target = vary(open_annotated(image), training_target(image), variation)
    return picture_tensor(picture), target


def vary(picture: Image.Image, target: Target, variation: Variation) -> tuple[Image.Image, Target]:
    """A picture and its boxes, varied."""
    if variation.mirrored:
        picture, target = mirror(picture, target)
    if variation.placement is not None:
        picture, target = place(picture, target, variation.placement)
    return picture, target


def mirror(picture: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """A picture of width W and its boxes mirrored left and right: x becomes W - x."""
    boxes, width = target["boxes"], picture.width
    mirrored = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    return ImageOps.mirror(picture), {**target, "boxes": mirrored}


def place(picture: Image.Image, target: Target, placement: Placement) -> tuple[Image.Image, Target]:
    """A picture enlarged or reduced, at the top left of a square; what goes beyond the square is cut off.

    Boxes are cut with it, and left out where less than a pixel of them remains: a picture may lose them all, and is
    then one without anything to find.

    Args:
        picture: RGB, any size.
        target: Its boxes.
        placement: Where and how large.
    """
    frame = placement.frame
    fit = placement.scale * frame.side / max(picture.size)
    whole = tuple(max(1, round(side * fit)) for side in picture.size)
    seen = tuple(min(side, frame.side) for side in whole)
    parts = (placement.across, placement.down)
    start = tuple(int(part * (side - shown + 1)) for part, side, shown in zip(parts, whole, seen, strict=True))
    square = Image.new("RGB", (frame.side, frame.side), frame.fill)
    square.paste(_enlarged_part(picture, whole, start, seen), (0, 0))

    factors = torch.tensor([new / old for new, old in zip(whole, picture.size, strict=True)] * 2)
    boxes = target["boxes"] * factors - torch.tensor(start * 2)
    boxes = boxes.clamp(min=torch.zeros(4), max=torch.tensor(seen * 2, dtype=torch.float32))
    kept = (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(1)
    return square, {**target, "boxes": boxes[kept], "labels": target["labels"][kept]}


def _enlarged_part(
    picture: Image.Image, whole: Sequence[int], start: Sequence[int], seen: Sequence[int]
) -> Image.Image:
    """A part of what the picture would be if it had the size `whole`, without making all of that.

    Args:
        picture: Any size.
        whole: Width and height that it is enlarged or reduced to.
        start: Left and top of the part, in pixels of `whole`.
        seen: Width and height of the part.
    """
    left, top, right, bottom = (
        min(edge * old / new, old)  # rounding must not lead out of the picture
        for edge, old, new in zip(
            (*start, start[0] + seen[0], start[1] + seen[1]), picture.size * 2, (*whole, *whole), strict=True
        )
    )
    return picture.resize((seen[0], seen[1]), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
