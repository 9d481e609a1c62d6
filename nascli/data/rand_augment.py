"""RandAugment of a whole batch: each image goes through operations of its own draws.

The images of a batch that drew the same operation in the same direction go through it together, by torchvision's
functions, which take batches. So one operation an image is at most 23 calls for a batch of any size: nine operations
have two directions, five have none.

Letters: N images, H rows, W columns.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nascli.data.batch_rng import BatchRng

LEVELS = 30
"""The greatest magnitude; at 0 an operation changes nothing or little."""


class _Operation(NamedTuple):
    """One way to change images.

    Args:
        signed: Whether its amount has a direction.
        change: From uint8 (N, 3, H, W) and an amount, -1 to 1 where it has a direction, else 0 to 1, to as many images.
    """

    signed: bool
    change: Callable[[Tensor, float], Tensor]


def rand_augment(images: Tensor, operations: int, magnitude: int, draws: BatchRng) -> Tensor:
    """Change every image by so many operations, each drawn from the 14 with equal probability.

    Args:
        images: uint8 (N, 3, H, W); left as they are.
        operations: How many each image goes through, one after the other; 0 or more.
        magnitude: Of all operations, 0 to 30; the direction of those that have one is drawn.
        draws: For these images.

    Returns:
        uint8 (N, 3, H, W). What moves in from outside is black.

    References: Cubuk et al. 2020, "RandAugment"; operations and amounts are those of torchvision's RandAugment.
    """
    for _ in range(operations):
        kinds = draws.integers(len(_operations()), len(images))
        backwards = draws.uniform(len(images)) < 0.5
        pixels = images.permute(0, 2, 3, 1)  # of which whole images are copied, where they are channels last
        places: list[Tensor] = []
        changed: list[Tensor] = []
        for kind, (signed, change) in enumerate(_operations()):
            for sign in (1, -1) if signed else (1,):
                chosen = (kinds == kind) & (backwards == (sign < 0)) if signed else kinds == kind
                places.append(chosen.nonzero().squeeze(1))
                if len(places[-1]):
                    group = pixels.index_select(0, places[-1].to(images.device)).permute(0, 3, 1, 2)
                    changed.append(change(group, sign * magnitude / LEVELS).permute(0, 2, 3, 1))
        back = torch.cat(places).argsort().to(images.device)
        images = torch.cat(changed).index_select(0, back).permute(0, 3, 1, 2)
    return images


@functools.cache
def _operations() -> tuple[_Operation, ...]:
    """All of them, with what they do at the greatest amount."""
    from torchvision.transforms.v2 import functional as by  # takes a second to import, and most runs do without

    def move(images: Tensor, **how: list[float] | list[int]) -> Tensor:
        moved: Tensor = by.affine(
            images, **{"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **how}
        )
        return moved

    def slant(amount: float) -> float:
        return math.degrees(math.atan(0.3 * amount))

    def steps(side: int, amount: float) -> int:
        return int(150 / 331 * side * amount)

    return (
        _Operation(False, lambda images, amount: images),
        _Operation(True, lambda images, amount: move(images, shear=[slant(amount), 0.0], center=[0, 0])),
        _Operation(True, lambda images, amount: move(images, shear=[0.0, slant(amount)], center=[0, 0])),
        _Operation(True, lambda images, amount: move(images, translate=[steps(images.shape[3], amount), 0])),
        _Operation(True, lambda images, amount: move(images, translate=[0, steps(images.shape[2], amount)])),
        _Operation(True, lambda images, amount: by.rotate(images, 30 * amount)),
        _Operation(True, lambda images, amount: by.adjust_brightness(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: by.adjust_saturation(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: by.adjust_contrast(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: by.adjust_sharpness(images, 1 + 0.9 * amount)),
        _Operation(False, lambda images, amount: by.posterize(images, 8 - round(4 * amount))),
        _Operation(False, lambda images, amount: by.solarize(images, 255 * (1 - amount))),
        _Operation(False, lambda images, amount: by.autocontrast(images)),
        _Operation(False, lambda images, amount: by.equalize(images)),
    )
