"""Random changes of a whole batch of training images: crop, flip, RandAugment, color jitter, cutout, mixup, CutMix.

Random numbers are drawn per image, on the CPU and in a fixed order, so that a batch is the same on every device and for
any number of processes; they are copied to the device at once. Images are uint8 until they are normalized. On a CPU all
of it is fastest where images are channels last in memory: a row of an image is then one run of 3 W numbers.

Letters: N images, H rows, W columns.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import DataConfig
from nascli.data.changes import BatchRng, Change, apply_changes
from nascli.data.color_jitter import draw_color_jitter
from nascli.data.dataset import ByteBatch, Color
from nascli.data.rand_augment import draw_rand_augment

_CHUNK = 1 << 17
"""Numbers that are normalized at a time on a CPU: few enough to stay in its cache from one operation to the next."""

FloatBatch = tuple[Tensor, Tensor]
"""Images float32 (N, 3, H, W), normalized, and labels int64 (N,) or probabilities float32 (N, classes)."""


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
        n, _, height, width = images.shape
        factors, terms = _row_factors(self, width, images.device)
        rows = images.permute(0, 2, 3, 1).reshape(n * height, 3 * width)
        numbers = torch.empty_like(rows, dtype=torch.float32)
        at_once = max(1, _CHUNK // len(factors)) if images.device.type == "cpu" else len(rows)
        for chunk, bytes_ in zip(torch.split(numbers, at_once), torch.split(rows, at_once), strict=True):
            chunk.copy_(bytes_).mul_(factors).add_(terms)
        return _from_rows(numbers, width, height)


@functools.lru_cache(maxsize=64)
def _row_factors(normalizer: Normalizer, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factor and the term of each number in a row of pixels, (3 W,) each, on the device."""
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (normalizer.mean, normalizer.std))
    factors, terms = (each.float().repeat(width).to(device) for each in (1 / (255 * std), -mean / std))
    return factors, terms


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


def resize(images: Tensor, side: int) -> Tensor:
    """Images float32 (N, 3, H, W) at another size, channels last in memory; bilinear with antialiasing."""
    if images.shape[2:] == (side, side):
        return images
    resized = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)


def augment_batch(images: Tensor, config: DataConfig, normalizer: Normalizer, rng: BatchRng) -> Tensor:
    """Crop, flip, RandAugment, jitter colors, normalize and cut out, in this order; each is off at 0 or False.

    From uint8 (N, 3, H, W) to float32 of the same shape, channels last in memory.
    """
    n, _, height, width = images.shape
    changes: list[Change] = []
    if config.crop_padding:
        changes.append(_draw_crop(n, height, width, config.crop_padding, rng))
    if config.flip:
        changes.append(_draw_flip(n, rng))
    if config.rand_augment:
        changes.append(draw_rand_augment(n, config.rand_augment, config.rand_augment_magnitude, rng))
    if config.color_jitter:
        changes.append(draw_color_jitter(n, config.color_jitter, rng))
    changes.append(Change((), normalizer))
    if config.cutout:
        changes.append(_draw_cutout(n, height, width, config.cutout, rng))
    return apply_changes(images, changes)


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


def _draw_crop(n: int, height: int, width: int, padding: int, rng: BatchRng) -> Change:
    """Surround by `padding` zeros and take a window of the old size, at one of (2 padding + 1)^2 places."""
    top, left = rng.integers(2 * padding + 1, n, 2)[..., None]  # (N, 1) each
    high, wide = height + 2 * padding, width + 2 * padding
    first = (torch.arange(n).view(n, 1) * high + top + torch.arange(height)) * wide + left  # (N, H), of each row

    def apply(images: Tensor, first: Tensor) -> Tensor:
        padded = images.new_zeros((n, high, wide, 3))
        padded[:, padding:-padding, padding:-padding] = images.permute(0, 2, 3, 1)
        runs = padded.flatten().unfold(0, 3 * width, 3)  # W pixels from each pixel on, a view
        return _from_rows(runs.index_select(0, first), width, height)

    return Change((first.flatten(),), apply)


def _draw_flip(n: int, rng: BatchRng) -> Change:
    """Mirror left and right, each image with probability one half."""
    chosen = rng.uniform(n) < 0.5
    places = torch.where(chosen, chosen.cumsum(0) + n - 1, torch.arange(n))

    def apply(images: Tensor, mirrored: Tensor, places: Tensor) -> Tensor:
        rows = images.permute(0, 2, 3, 1)
        both = torch.cat([rows, rows.index_select(0, mirrored).flip(2)])
        return both.index_select(0, places).permute(0, 3, 1, 2)

    return Change((chosen.nonzero().squeeze(1), places), apply)


def _draw_cutout(n: int, height: int, width: int, side: int, rng: BatchRng) -> Change:
    """Set a square to 0, which is the mean; its center is anywhere, and what lies outside is clipped.

    References: DeVries and Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    kept = []
    for size in (height, width):
        first = rng.integers(size, n)[:, None] - side // 2
        places = torch.arange(size)
        kept.append(((places < first) | (places >= first + side)).float())  # (N, size)

    def apply(numbers: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        wide = columns[:, None, :, None].expand(-1, 1, -1, 3).flatten(2)
        numbers.permute(0, 2, 3, 1).flatten(2).mul_(torch.maximum(rows[:, :, None], wide))  # (N, H, 3 W)
        return numbers

    return Change(tuple(kept), apply)


def _from_rows(rows: Tensor, width: int, height: int) -> Tensor:
    """Rows of pixels, (N, H, 3 W) or (N H, 3 W), as (N, 3, H, W), channels last in memory."""
    return rows.reshape(-1, height, width, 3).permute(0, 3, 1, 2)
