"""Two forms of a detector compared: what an exported file finds, and what the detector finds.

Shapes: H and W of an image, M boxes of it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.config import DetectorConfig
from nascli.errors import NascliError

Answer = Callable[[Tensor], Sequence[Tensor]]
"""From an image (3, H, W) in [0, 1] to boxes (M, 4), labels (M,) and scores (M,)."""

SCORE_TOLERANCE = 1e-3
"""The largest difference of a score."""

SHIFT_TOLERANCE = 1e-4
"""The largest distance of a side of a box, relative to the longer side of the image."""

_DRAWS = 3
"""Images of each kind at most: of boxes that overlap just as much as is allowed, rounding decides which are dropped."""

_GRAIN = 8
"""Pixels from one random color to the next."""


class Compared(NamedTuple):
    """Boxes found on each image; the largest difference of a score; the largest relative distance of a side."""

    found: tuple[int, ...]
    difference: float
    shift: float


@torch.no_grad()
def compare_detectors(run: Answer, detector: nn.Module, config: DetectorConfig, path: Path) -> Compared:
    """Compare on an image without objects, with one, with many, and on other sizes.

    Args:
        run: Answers for the file.
        detector: In evaluation mode, on the CPU.
        path: Names the file in an error.

    Raises:
        NascliError: Other boxes are found, on each of several images of a kind.
    """
    found, differences = list[int](), [(0.0, 0.0)]
    for images in draw_images(config):
        for image in images:
            (output,) = detector([image])
            expected = output["boxes"], output["labels"], output["scores"]
            difference = measure_difference(run(image), expected, max(image.shape))
            if difference is not None:
                found.append(len(expected[0]))
                differences.append(difference)
                break
        else:
            height, width = image.shape[1:]
            raise NascliError(
                f"{path} would give other boxes than the detector on images of {width}x{height} pixels",
                "Nothing was written. Other versions of torch, torchvision, onnxruntime and openvino may do better",
            )
    scores, shifts = zip(*differences, strict=True)
    return Compared(tuple(found), max(scores), max(shifts))


def draw_images(config: DetectorConfig) -> Iterator[Iterator[Tensor]]:
    """Images (3, H, W) of five kinds, of each kind several: noise with squares in it."""
    side = config.min_size
    wide, high = (side * 5 // 8, side), (side * 3 // 2 + 1, side + 3)
    for height, width, squares in ((side, side, 0), (side, side, 1), (side, side, 12), (*wide, 3), (*high, 5)):
        yield (_draw(height, width, squares, seed) for seed in range(_DRAWS))


def measure_difference(given: Sequence[Tensor], expected: Sequence[Tensor], side: int) -> tuple[float, float] | None:
    """The largest differences between boxes, labels and scores of two answers, in whichever order they come.

    Args:
        side: The longer side of the image.

    Returns:
        That of a score and that of a side of a box, relative to the image; None where the boxes are others.
    """
    if len(given[0]) != len(expected[0]):
        return None
    boxes, labels, scores = given
    left = torch.ones(len(boxes), dtype=torch.bool)
    differences = [(0.0, 0.0)]
    for box, label, score in zip(*expected, strict=True):
        shifts, other = (boxes - box).abs().amax(1) / side, (scores - score).abs()
        fits = left & (labels == label) & (shifts <= SHIFT_TOLERANCE) & (other <= SCORE_TOLERANCE)
        if not fits.any():
            return None
        nearest = int(torch.where(fits, shifts + other, torch.inf).argmin())
        left[nearest] = False
        differences.append((float(other[nearest]), float(shifts[nearest])))
    first, second = zip(*differences, strict=True)
    return max(first), max(second)


def _draw(height: int, width: int, squares: int, seed: int) -> Tensor:
    """Soft noise with squares of one color each.

    No two places are equal, or their order would be a matter of rounding; and what is resized changes slowly, as in a
    photo, or rounding in a place would be a difference in color.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // _GRAIN + 2, width // _GRAIN + 2, generator=generator)
    image: Tensor = F.interpolate(coarse, (height, width), mode="bilinear")[0] * (0.5 if squares else 0.1)
    image += 0.01 * torch.rand(3, height, width, generator=generator)
    length = max(2, min(height, width) // 5)
    for k in range(squares):
        top, left = (int(torch.randint(end - length, (), generator=generator)) for end in (height, width))
        image[k % 3, top : top + length, left : left + length] += 0.4
    return image
