"""Random changes of a whole batch of training images: crop, flip, RandAugment, color jitter, cutout, mixup, CutMix.

Random numbers are drawn per image, on the CPU and in a fixed order, so that a batch is the same on every device and for
any number of processes. Images are uint8 until they are normalized. On a CPU all of it is fastest where images are
channels last in memory: a row of an image is then one run of 3 W numbers.

Letters: N images, H rows, W columns. A color is a row of three numbers from 0 to 255.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import DataConfig
from nascli.data.dataset import ByteBatch, Color

RAND_AUGMENT_MAX = 30
"""The greatest magnitude of RandAugment; at 0 an operation changes nothing or little."""

_CHUNK = 1 << 17
"""Numbers that are normalized at a time on a CPU: few enough to stay in its cache from one operation to the next."""

_JITTER_BRIGHTNESS = 32.0
_JITTER_CONTRAST = 0.5
_JITTER_SATURATION = 0.5
_JITTER_HUE = 0.2
"""The greatest change at strength 1: of every color; of the factor 1; of the factor 1; in turns."""

_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luma, and two numbers whose plane is that of hue and saturation, of red, green and blue."""

FloatBatch = tuple[Tensor, Tensor]
"""Images float32 (N, 3, H, W), normalized, and labels int64 (N,) or probabilities float32 (N, classes)."""


@dataclass(frozen=True)
class BatchRng:
    """Random numbers per image of a batch.

    Where several processes share a batch, each samples for the whole of it and takes the numbers of its own images. So
    an image is augmented in the same way whichever process has it, and whatever else that process has.

    Args:
        generator: A CPU generator.
        share: None for a whole batch; else its number of images, and the positions of those there are, int64 (n,).
    """

    generator: torch.Generator
    share: tuple[int, Tensor] | None = None

    def uniform(self, images: int, *rows: int) -> Tensor:
        """Numbers in [0, 1): float32 (*rows, images)."""
        return self._slice(torch.rand((*rows, self._batch_size(images)), generator=self.generator))

    def integers(self, end: int, images: int, *rows: int) -> Tensor:
        """Integers from 0 to `end` - 1: int64 (*rows, images)."""
        return self._slice(torch.randint(end, (*rows, self._batch_size(images)), generator=self.generator))

    def _batch_size(self, images: int) -> int:
        return images if self.share is None else self.share[0]

    def _slice(self, numbers: Tensor) -> Tensor:
        return numbers if self.share is None else numbers[..., self.share[1]]


@dataclass(frozen=True)
class Normalizer:
    """Bytes to numbers: (x / 255 - mean) / std, color by color.

    Args:
        mean: Of each color over the training images, 0 to 1.
        std: Above 0.
    """

    mean: Color
    std: Color

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 or float32 (N, 3, H, W), 0 to 255, to float32 of the same shape, channels last in memory."""
        scale = 1 / (255 * torch.tensor(self.std, dtype=torch.float64))
        shift = -torch.tensor(self.mean, dtype=torch.float64) / torch.tensor(self.std, dtype=torch.float64)
        n, _, height, width = images.shape
        factors, terms = (each.float().repeat(width).to(images.device) for each in (scale, shift))  # (3 W,)
        rows = images.permute(0, 2, 3, 1).reshape(n * height, 3 * width)
        numbers = torch.empty_like(rows, dtype=torch.float32)
        at_once = max(1, _CHUNK // len(factors)) if images.device.type == "cpu" else len(rows)
        for chunk, bytes_ in zip(torch.split(numbers, at_once), torch.split(rows, at_once), strict=True):
            chunk.copy_(bytes_).mul_(factors).add_(terms)
        return _from_rows(numbers, width, height)


def vary_batch(
    batch: ByteBatch, classes: int, config: DataConfig, normalizer: Normalizer, rng: BatchRng, mix_seed: int
) -> FloatBatch:
    """Augment and mix a batch.

    Args:
        rng: For augmentation, image by image.
        mix_seed: For mixup and CutMix, once per batch, from torch's global generator.

    Returns:
        Images, float32 (N, 3, H, W), normalized; labels, int64 (N,), or probabilities, (N, classes).
    """
    images, labels = batch
    numbers = augment_batch(images, config, normalizer, rng)
    torch.default_generator.manual_seed(mix_seed)
    return mix_batch(numbers, labels, classes, config)


def augment_batch(images: Tensor, config: DataConfig, normalizer: Normalizer, rng: BatchRng) -> Tensor:
    """Crop, flip, RandAugment, jitter colors, normalize and cut out, in this order; each is off at 0 or False.

    From uint8 (N, 3, H, W) to float32 of the same shape, channels last in memory.
    """
    if config.crop_padding:
        images = _random_crop(images, config.crop_padding, rng)
    if config.flip:
        images = _random_flip(images, rng)
    if config.rand_augment:
        images = rand_augment(images, config.rand_augment, config.rand_augment_magnitude, rng)
    if config.color_jitter:
        images = color_jitter(images, config.color_jitter, rng)
    numbers = normalizer(images)
    if config.cutout:
        numbers = _cutout(numbers, config.cutout, rng)
    return numbers


def mix_batch(images: Tensor, labels: Tensor, classes: int, config: DataConfig) -> FloatBatch:
    """Mixup or CutMix; with both, one of them by a fair coin per batch. Random numbers: torch's global generator.

    Mixup: l x + (1 - l) x', where x' is the batch rolled by one image and l is drawn from Beta(alpha, alpha) once per
    batch. CutMix pastes a rectangle of x' instead, whose part of the area is 1 - l before it is clipped at the border.
    Labels are mixed in the same proportion.

    Args:
        images: float32 (N, 3, H, W), normalized.
        config: Its `mixup` and `cutmix` are the alphas; 0 is off.

    Returns:
        The images, channels last in memory, and the labels: as they came where both are off, else probabilities,
        float32 (N, classes).

    References: Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix"; computed by torchvision.
    """
    if not config.mixup and not config.cutmix:
        return images, labels
    from torchvision.transforms import v2  # takes a second to import, and most runs do not mix

    kinds = ((config.mixup, v2.MixUp), (config.cutmix, v2.CutMix))
    mixes = [kind(alpha=alpha, num_classes=classes) for alpha, kind in kinds if alpha]
    if len(images) < 2:
        return images, F.one_hot(labels, classes).to(images.dtype)
    chosen = mixes[int(torch.randint(len(mixes), ()))]
    mixed, probabilities = chosen(images, labels)
    return mixed.contiguous(memory_format=torch.channels_last), probabilities.to(images.dtype)


class _Operation(NamedTuple):
    """An operation of RandAugment on images and an amount, which is -1 to 1 where it is signed, else 0 to 1."""

    signed: bool
    apply: Callable[[Tensor, float], Tensor]


def rand_augment(images: Tensor, operations: int, magnitude: int, rng: BatchRng) -> Tensor:
    """Apply `operations` operations per image, one after the other, each drawn uniformly from the 14.

    From uint8 (N, 3, H, W) to the same; black moves in from outside. Images that drew the same operation in the same
    direction go through it together, by torchvision's functions, which take batches: at most 23 calls per round for a
    batch of any size, since nine operations have two directions, one of which is drawn. `magnitude` is 0 to 30.

    References: Cubuk et al. 2020, "RandAugment"; operations and amounts are those of torchvision's RandAugment.
    """
    for _ in range(operations):
        kinds = rng.integers(len(_operations()), len(images))
        negative = rng.uniform(len(images)) < 0.5
        pixels = images.permute(0, 2, 3, 1)  # whole images are copied in one piece where they are channels last
        places: list[Tensor] = []
        changed: list[Tensor] = []
        for kind, (signed, apply) in enumerate(_operations()):
            for sign in (1, -1) if signed else (1,):
                chosen = (kinds == kind) & (negative == (sign < 0)) if signed else kinds == kind
                places.append(chosen.nonzero().squeeze(1))
                if len(places[-1]):
                    group = pixels.index_select(0, places[-1].to(images.device)).permute(0, 3, 1, 2)
                    changed.append(apply(group, sign * magnitude / RAND_AUGMENT_MAX).permute(0, 2, 3, 1))
        order = torch.cat(places).argsort().to(images.device)
        images = torch.cat(changed).index_select(0, order).permute(0, 3, 1, 2)
    return images


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
        _Operation(True, lambda images, amount: affine(images, shear=[shear(amount), 0.0], center=[0, 0])),
        _Operation(True, lambda images, amount: affine(images, shear=[0.0, shear(amount)], center=[0, 0])),
        _Operation(True, lambda images, amount: affine(images, translate=[translate(images.shape[3], amount), 0])),
        _Operation(True, lambda images, amount: affine(images, translate=[0, translate(images.shape[2], amount)])),
        _Operation(True, lambda images, amount: tv.rotate(images, 30 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_brightness(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_saturation(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_contrast(images, 1 + 0.9 * amount)),
        _Operation(True, lambda images, amount: tv.adjust_sharpness(images, 1 + 0.9 * amount)),
        _Operation(False, lambda images, amount: tv.posterize(images, 8 - round(4 * amount))),
        _Operation(False, lambda images, amount: tv.solarize(images, 255 * (1 - amount))),
        _Operation(False, lambda images, amount: tv.autocontrast(images)),
        _Operation(False, lambda images, amount: tv.equalize(images)),
    )


def color_jitter(images: Tensor, strength: float, rng: BatchRng) -> Tensor:
    """Change brightness, contrast, saturation and hue of every image.

    With m the mean color of the image, s the strength and all random numbers uniform, a color x becomes
        (m + f (x - m)) T + d,        f in 1 +- s / 2, d in +-32 s, then clipped to 0 to 255.
    T leaves the luma as it is; in the plane of I and Q (of YIQ) it turns by up to 0.2 s of a circle and multiplies by
    1 +- s / 2: hue and saturation. Each of the four is an affine map of colors, so a batch is one product of matrices;
    they commute, so that no order is drawn.

    From uint8 (N, 3, H, W) to float32 of the same shape, channels last in memory.

    References: Szegedy et al. 2015; the amounts are those of the preprocessing that TensorFlow's models released.
    Deviation: that changes hue and saturation in HSV, which is no affine map.
    """
    n, _, height, width = images.shape
    amounts = strength * (2 * rng.uniform(n, 4)[..., None, None] - 1)
    brightness, contrast, saturation, hue = amounts  # (N, 1, 1) each
    angle = (2 * math.pi * _JITTER_HUE * hue).flatten()
    turn = torch.eye(3).repeat(n, 1, 1)  # of rows (Y, I, Q) about Y
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = angle.sin(), -angle.sin()
    turn = (1 + _JITTER_SATURATION * saturation) * turn
    turn[:, 0, 0] = 1
    to_yiq = torch.tensor(_YIQ).T
    tint = (to_yiq @ turn @ to_yiq.inverse()).to(images.device)  # T (N, 3, 3)
    factor = (1 + _JITTER_CONTRAST * contrast).to(images.device)
    shift = (_JITTER_BRIGHTNESS * brightness).to(images.device)
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2).float()  # (N, H W, 3)
    offset = (1 - factor) * pixels.mean(dim=1, keepdim=True) @ tint + shift  # (N, 1, 3)
    changed = torch.baddbmm(offset, pixels, factor * tint).clamp_(0, 255)
    return changed.view(n, height, width, 3).permute(0, 3, 1, 2)


def _random_crop(images: Tensor, padding: int, rng: BatchRng) -> Tensor:
    """Surround by `padding` zeros and take a window of the old size, at one of (2 padding + 1)^2 places."""
    n, _, height, width = images.shape
    top, left = rng.integers(2 * padding + 1, n, 2)[..., None]  # (N, 1) each
    high, wide = height + 2 * padding, width + 2 * padding
    padded = images.new_zeros((n, high, wide, 3))
    padded[:, padding:-padding, padding:-padding] = images.permute(0, 2, 3, 1)
    first = (torch.arange(n).view(n, 1) * high + top + torch.arange(height)) * wide + left  # (N, H), of each row
    runs = padded.flatten().unfold(0, 3 * width, 3)  # W pixels from each pixel on, a view
    return _from_rows(runs.index_select(0, first.flatten().to(images.device)), width, height)


def _random_flip(images: Tensor, rng: BatchRng) -> Tensor:
    """Mirror left and right, each image with probability one half."""
    n = len(images)
    chosen = rng.uniform(n) < 0.5
    places = torch.where(chosen, chosen.cumsum(0) + n - 1, torch.arange(n)).to(images.device)
    rows = images.permute(0, 2, 3, 1)
    mirrored = rows.index_select(0, chosen.nonzero().squeeze(1).to(images.device)).flip(2)
    return torch.cat([rows, mirrored]).index_select(0, places).permute(0, 3, 1, 2)


def _cutout(numbers: Tensor, side: int, rng: BatchRng) -> Tensor:
    """Set a square to 0, which is the mean; its center is anywhere, and what lies outside is clipped.

    References: DeVries and Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    n, _, height, width = numbers.shape
    kept = []
    for size in (height, width):
        first = rng.integers(size, n)[:, None] - side // 2
        places = torch.arange(size)
        kept.append(((places < first) | (places >= first + side)).float())  # (N, size)
    rows, columns = (each.to(numbers.device) for each in kept)
    outside = torch.maximum(rows[:, :, None], columns.repeat_interleave(3, dim=1)[:, None, :])  # (N, H, 3 W)
    numbers.permute(0, 2, 3, 1).flatten(2).mul_(outside)
    return numbers


def _from_rows(rows: Tensor, width: int, height: int) -> Tensor:
    """Rows of pixels, (N, H, 3 W) or (N H, 3 W), as (N, 3, H, W), channels last in memory."""
    return rows.reshape(-1, height, width, 3).permute(0, 3, 1, 2)
