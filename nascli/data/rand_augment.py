"""RandAugment of a whole batch: images that drew the same operation go through it together.

Letters: N images, H rows, W columns.
"""

import functools
import math
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.data.changes import BatchRng, Change, apply_changes, copy_together

RAND_AUGMENT_MAX = 30
"""The greatest magnitude of RandAugment; at 0 an operation changes nothing or little."""


class _Operation(NamedTuple):
    """An operation on uint8 images and an amount, which is -1 to 1 where it is signed, else 0 to 1.

    `moves` are those that put pixels elsewhere.
    """

    signed: bool
    apply: Callable[[Tensor, float], Tensor]
    moves: bool = False


class _Group(NamedTuple):
    """Images that drew the same: the number of the operation, its direction (1 or -1), and how many they are."""

    kind: int
    sign: int
    size: int


def rand_augment(images: Tensor, operations: int, magnitude: int, rng: BatchRng) -> Tensor:
    """Apply `operations` operations per image, one after the other, each drawn uniformly from the 14.

    From uint8 (N, 3, H, W) to the same; black moves in from outside. `magnitude` is 0 to 30.

    References: Cubuk et al. 2020, "RandAugment"; operations and amounts are those of torchvision's RandAugment.
    """
    return apply_changes(images, [draw_rand_augment(len(images), operations, magnitude, rng)])


def draw_rand_augment(count: int, operations: int, magnitude: int, rng: BatchRng) -> Change:
    """Draw the operations of each of `count` images, as for `rand_augment`.

    For each operation in turn the images are put in the order of what they drew. Those that drew the same in the same
    direction are a slice then, which goes through it at once: at most 23 calls, since nine operations have two
    directions.
    """
    orders: list[Tensor] = []
    groups: list[list[_Group]] = []
    place = torch.arange(count)  # that of each image, as the images lie after the operation before
    for _ in range(operations):
        kinds = rng.integers(len(_operations()), count)
        negative = rng.uniform(count) < 0.5
        signed = torch.tensor([each.signed for each in _operations()])
        drawn = 2 * kinds + (signed[kinds] & negative)
        order = drawn.argsort(stable=True)
        orders.append(place[order])
        place = torch.empty_like(order).scatter_(0, order, torch.arange(count))
        sizes = drawn.bincount(minlength=2 * len(_operations())).tolist()
        groups.append([_Group(number // 2, 1 - 2 * (number % 2), size) for number, size in enumerate(sizes) if size])
    orders.append(place)

    def apply(images: Tensor, *orders: Tensor) -> Tensor:
        pixels = images.permute(0, 2, 3, 1)  # whole images are copied in one piece where they are channels last
        for order, drawn in zip(orders, groups, strict=False):
            pixels = _apply_groups(pixels.index_select(0, order), drawn, magnitude)
        return pixels.index_select(0, orders[-1]).permute(0, 3, 1, 2)

    return Change(tuple(orders) if operations else (), apply if operations else lambda images: images)


def _apply_groups(pixels: Tensor, groups: list[_Group], magnitude: int) -> Tensor:
    """Slices of a batch (N, H, W, 3), each through its operation."""
    changed = []
    ends = accumulate(group.size for group in groups)
    for (kind, sign, size), end in zip(groups, ends, strict=True):
        part = pixels[end - size : end]
        operation = _operations()[kind]
        if operation.moves:
            changed.append(_move(part, _find_sources(magnitude, *part.shape[1:3], part.device)[kind, sign]))
        else:
            amount = sign * magnitude / RAND_AUGMENT_MAX
            changed.append(operation.apply(part.permute(0, 3, 1, 2), amount).permute(0, 2, 3, 1))
    return torch.cat(changed)


def _move(pixels: Tensor, sources: Tensor) -> Tensor:
    """Images (n, H, W, 3) whose pixels are those at `sources`, int64 (H W,): 0 is black, k + 1 the pixel k."""
    n, height, width, _ = pixels.shape
    known = F.pad(pixels.reshape(n, height * width, 3), (0, 0, 1, 0))
    return known.index_select(1, sources).view(n, height, width, 3)


@functools.lru_cache(maxsize=8)
def _find_sources(magnitude: int, height: int, width: int, device: torch.device) -> dict[tuple[int, int], Tensor]:
    """For `_move`, by number and sign of each operation that moves pixels: those it takes them from, on the device.

    An image whose pixels are their own numbers says where torchvision's operation takes them from.
    """
    numbers = torch.arange(1.0, height * width + 1).view(1, 1, height, width)  # whole numbers up to 2^24 in float32
    moving = [(kind, sign) for kind, each in enumerate(_operations()) if each.moves for sign in (1, -1)]
    sources = [
        _operations()[kind].apply(numbers, sign * magnitude / RAND_AUGMENT_MAX).flatten().long()
        for kind, sign in moving
    ]
    return dict(zip(moving, copy_together(sources, device), strict=True))


def _sharpen(images: Tensor, factor: float) -> Tensor:
    """torchvision's adjust_sharpness of uint8 images, without the copy of a kernel: x + (1 - factor) (blurred - x).

    The blur weighs the pixel by 5 and its eight neighbors by 1; pixels at the border stay.
    """
    if min(images.shape[2:]) <= 2:
        return images
    sharp = images.float()
    inner = sharp[..., 1:-1, 1:-1]
    rows = sharp[..., :-2, :] + sharp[..., 1:-1, :] + sharp[..., 2:, :]
    blurred = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    blurred = blurred.add_(inner, alpha=4).div_(13).round_()
    inner.add_(blurred.sub_(inner), alpha=1 - factor)
    return sharp.clamp_(0, 255).to(images.dtype)


@functools.cache
def _operations() -> tuple[_Operation, ...]:
    """All operations; each at its greatest amount does what torchvision's does at the greatest magnitude."""
    from torchvision.transforms.v2 import functional as tv  # takes a second to import, and most runs do without

    def affine(images: Tensor, **changes: list[float] | list[int]) -> Tensor:
        unchanged = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        moved: Tensor = tv.affine(images, **{**unchanged, **changes})
        return moved

    def shear(amount: float) -> float:
        return math.degrees(math.atan(0.3 * amount))

    def translate(side: int, amount: float) -> int:
        return int(150 / 331 * side * amount)

    return (
        _Operation(False, lambda images, amount: images),
        _Operation(True, lambda images, amount: affine(images, shear=[shear(amount), 0.0], center=[0, 0]), moves=True),
        _Operation(True, lambda images, amount: affine(images, shear=[0.0, shear(amount)], center=[0, 0]), moves=True),
        _Operation(
            True, lambda images, amount: affine(images, translate=[translate(images.shape[3], amount), 0]), moves=True
        ),
        _Operation(
            True, lambda images, amount: affine(images, translate=[0, translate(images.shape[2], amount)]), moves=True
        ),
        _Operation(True, lambda images, amount: tv.rotate(images, 30 * amount), moves=True),
        _Operation(True, lambda images, amount: tv.adjust_brightness(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_saturation(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_contrast(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: _sharpen(images, 1 + 0.9 * amount)),
        _Operation(False, lambda images, amount: tv.posterize(images, 8 - round(4 * amount))),
        _Operation(False, lambda images, amount: tv.solarize(images, 255 * (1 - amount))),
        _Operation(False, lambda images, amount: tv.autocontrast(images)),
        _Operation(False, lambda images, amount: tv.equalize(images)),
    )
