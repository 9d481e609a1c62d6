"""Images in memory, and what is done to a whole batch of them at once.

Letters: N images, C = 3 colours, H rows, W columns. Images are uint8 until they are normalised. On a CPU all of it is
quickest where they lie in memory with the colours of a pixel side by side (channels last): a row of an image is then
one piece of 3 W numbers, and what is done to it needs no steps from colour to colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from nascli.config import DataConfig
from nascli.data.batch_rng import BatchRng
from nascli.data.color_jitter import distort_colours
from nascli.data.rand_augment import rand_augment

Batch = tuple[Tensor, Tensor]
"""Images uint8 (N, 3, H, W) and labels int64 (N,)."""

Colour = tuple[float, float, float]
"""A number for each of red, green and blue."""


class Split(Protocol):
    """Labelled images that a training or an evaluation reads batch by batch, in memory or streamed."""

    @property
    def labels(self) -> Tensor:
        """The class of each image: int64 (N,)."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the images in a batch."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the images are called that cannot be decoded, as far as they were met."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Self:
        """The part of the split at these positions, in this order."""

    def to(self, device: torch.device) -> Self:
        """The split with whatever it keeps in memory on `device`."""

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches for training: the images at positions `order`, varied by draws that follow from `seed`."""

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every image once, in order, never varied; the last batch may be smaller."""


_PART = 1 << 17
"""Numbers that are normalised at a time on a CPU: few enough to stay in its cache from one operation to the next."""

AnySplit = TypeVar("AnySplit", bound=Split)


@dataclass(frozen=True)
class ImageArray:
    """A split that lies in memory.

    Args:
        images: uint8 (N, 3, H, W) with H = W.
        labels: int64 (N,), each the position of a class name.
        left_out: What the images are called that could not be decoded when it was loaded; a part of it has none.
    """

    images: Tensor
    labels: Tensor
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[-1])

    def take(self, indices: Tensor) -> "ImageArray":
        """The images at these positions, in this order."""
        indices = indices.to(self.labels.device)
        return ImageArray(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "ImageArray":
        """The array on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches of the images at positions `order`; nothing is drawn here, so `seed` is not used."""
        rows = self.images.permute(0, 2, 3, 1)  # of which whole images are copied, where they are channels last
        for indices in torch.split(order.to(self.labels.device), batch_size):
            yield rows.index_select(0, indices).permute(0, 3, 1, 2), self.labels[indices]

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every image once, in order."""
        yield from zip(torch.split(self.images, batch_size), torch.split(self.labels, batch_size), strict=True)


@dataclass(frozen=True)
class Normalizer:
    """Bytes to numbers: (x / 255 - mean) / std, colour by colour.

    Args:
        mean: Of each colour over the training images, 0 to 1.
        std: Standard deviation of each colour, above 0.
    """

    mean: Colour
    std: Colour

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 or float32 (N, 3, H, W), 0 to 255, to float32 of the same shape, channels last in memory."""
        scale = 1 / (255 * torch.tensor(self.std, dtype=torch.float64))
        shift = -torch.tensor(self.mean, dtype=torch.float64) / torch.tensor(self.std, dtype=torch.float64)
        n, _, height, width = images.shape
        factors, terms = (each.float().repeat(width).to(images.device) for each in (scale, shift))  # (3 W,)
        rows = images.permute(0, 2, 3, 1).reshape(n * height, 3 * width)
        numbers = torch.empty_like(rows, dtype=torch.float32)
        at_once = max(1, _PART // len(factors)) if images.device.type == "cpu" else len(rows)
        for part, bytes_ in zip(torch.split(numbers, at_once), torch.split(rows, at_once), strict=True):
            part.copy_(bytes_).mul_(factors).add_(terms)
        return _from_rows(numbers, width, height)


def augment_batch(images: Tensor, augmentation: DataConfig, normalizer: Normalizer, draws: BatchRng) -> Tensor:
    """Crop, flip, RandAugment, distort colours, normalise and cut out, as `augmentation` says; in this order.

    Every image has draws of its own, taken in a fixed order.

    Args:
        images: uint8 (N, 3, H, W).
        augmentation: Its `crop_padding`, `flip`, `rand_augment`, `rand_augment_magnitude`, `color_jitter` and
            `cutout` are read; each but the magnitude is off at 0 or False.
        normalizer: From bytes to numbers.
        draws: For these images.

    Returns:
        float32 (N, 3, H, W), channels last in memory.
    """
    if augmentation.crop_padding:
        images = _crop(images, augmentation.crop_padding, draws)
    if augmentation.flip:
        images = _flip(images, draws)
    if augmentation.rand_augment:
        images = rand_augment(images, augmentation.rand_augment, augmentation.rand_augment_magnitude, draws)
    if augmentation.color_jitter:
        images = distort_colours(images, augmentation.color_jitter, draws)
    numbers = normalizer(images)
    if augmentation.cutout:
        numbers = _cut_out(numbers, augmentation.cutout, draws)
    return numbers


def measure_colours(images: Tensor) -> tuple[Colour, Colour]:
    """Mean and standard deviation of each colour, on a scale of 0 to 1; exact, since bytes are summed as integers.

    Args:
        images: uint8 (N, 3, H, W), N at least 1.

    Returns:
        (mean, std); a colour that never varies gets 1 as its standard deviation.
    """
    total, squares = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    for chunk in torch.split(images, 4096):
        numbers = chunk.to(torch.int32)
        total += numbers.sum(dim=(0, 2, 3), dtype=torch.int64)
        squares += numbers.square_().sum(dim=(0, 2, 3), dtype=torch.int64)
    pixels = images.shape[0] * images.shape[2] * images.shape[3]
    mean = total.double() / pixels
    std = (squares.double() / pixels - mean.square()).clamp_(min=0).sqrt()
    std[std == 0] = 255
    return _triple(mean / 255), _triple(std / 255)


def split_holdout(split: AnySplit, fraction: float, seed: int) -> tuple[AnySplit, AnySplit]:
    """Part of every class set aside, by a fixed draw.

    Args:
        split: What is divided.
        fraction: The part held out, in (0, 1); of each class at least one image, and at least one stays.
        seed: Another seed is another draw.

    Returns:
        (what stays for training, what is held out), each in the order of `split`. A class with one image keeps it.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = split.labels.cpu()
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().squeeze(1)
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.take((~held).nonzero().squeeze(1)), split.take(held.nonzero().squeeze(1))


def _crop(images: Tensor, padding: int, draws: BatchRng) -> Tensor:
    """Surround by `padding` zeros and take a window of the old size, at one of (2 padding + 1)^2 places."""
    n, _, height, width = images.shape
    top, left = draws.integers(2 * padding + 1, n, 2)[..., None]  # (N, 1) each
    high, wide = height + 2 * padding, width + 2 * padding
    padded = images.new_zeros((n, high, wide, 3))
    padded[:, padding:-padding, padding:-padding] = images.permute(0, 2, 3, 1)
    first = (torch.arange(n).view(n, 1) * high + top + torch.arange(height)) * wide + left  # (N, H), of each row
    runs = padded.flatten().unfold(0, 3 * width, 3)  # W pixels from each pixel on, a view
    return _from_rows(runs.index_select(0, first.flatten().to(images.device)), width, height)


def _flip(images: Tensor, draws: BatchRng) -> Tensor:
    """Mirror left and right, each image with probability one half."""
    n = len(images)
    chosen = draws.uniform(n) < 0.5
    places = torch.where(chosen, chosen.cumsum(0) + n - 1, torch.arange(n)).to(images.device)
    rows = images.permute(0, 2, 3, 1)
    mirrored = rows.index_select(0, chosen.nonzero().squeeze(1).to(images.device)).flip(2)
    return torch.cat([rows, mirrored]).index_select(0, places).permute(0, 3, 1, 2)


def _cut_out(numbers: Tensor, side: int, draws: BatchRng) -> Tensor:
    """Set a square to 0, which is the mean; its centre is anywhere, and what lies outside is clipped.

    References: DeVries and Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    n, _, height, width = numbers.shape
    kept = []
    for size in (height, width):
        first = draws.integers(size, n)[:, None] - side // 2
        places = torch.arange(size)
        kept.append(((places < first) | (places >= first + side)).float())  # (N, size)
    rows, columns = (each.to(numbers.device) for each in kept)
    outside = torch.maximum(rows[:, :, None], columns.repeat_interleave(3, dim=1)[:, None, :])  # (N, H, 3 W)
    numbers.permute(0, 2, 3, 1).flatten(2).mul_(outside)
    return numbers


def _from_rows(rows: Tensor, width: int, height: int) -> Tensor:
    """Rows of pixels, (N, H, 3 W) or (N H, 3 W), as (N, 3, H, W), channels last in memory."""
    return rows.reshape(-1, height, width, 3).permute(0, 3, 1, 2)


def _triple(values: Tensor) -> Colour:
    red, green, blue = values.tolist()
    return red, green, blue
