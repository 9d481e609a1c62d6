"""Images in memory, and what is done to a whole batch of them at once.

Letters: N images, C = 3 colours, H rows, W columns. Images are uint8 until they are normalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import DataConfig

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

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Self:
        """The part of the split at these positions, in this order."""

    def to(self, device: torch.device) -> Self:
        """The split with whatever it keeps in memory on `device`."""

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches for training: the images at positions `order`, varied by draws that follow from `seed`."""

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every image once, in order, never varied; the last batch may be smaller."""


AnySplit = TypeVar("AnySplit", bound=Split)


@dataclass(frozen=True)
class ImageArray:
    """A split that lies in memory.

    Args:
        images: uint8 (N, 3, H, W) with H = W.
        labels: int64 (N,), each the position of a class name.
    """

    images: Tensor
    labels: Tensor

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
        return ImageArray(self.images.to(device), self.labels.to(device))

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches of the images at positions `order`; nothing is drawn here, so `seed` is not used."""
        for indices in torch.split(order.to(self.labels.device), batch_size):
            yield self.images[indices], self.labels[indices]

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
        """uint8 (N, 3, H, W) to float32 of the same shape, channels last in memory."""
        scale = 1 / (255 * torch.tensor(self.std, dtype=torch.float64))
        shift = -torch.tensor(self.mean, dtype=torch.float64) / torch.tensor(self.std, dtype=torch.float64)
        numbers = images.to(torch.float32, memory_format=torch.channels_last)
        return numbers.mul_(_by_colour(scale, images)).add_(_by_colour(shift, images))


def augment_batch(
    images: Tensor, augmentation: DataConfig, normalizer: Normalizer, generator: torch.Generator
) -> Tensor:
    """Crop, flip, normalise and cut out, as `augmentation` says, every image by its own draws.

    All draws come from `generator`, on the CPU and in a fixed order, so they are the same on every device.

    Args:
        images: uint8 (N, 3, H, W).
        augmentation: Its `crop_padding`, `flip` and `cutout` are read; each is off at 0 or False.
        normalizer: From bytes to numbers.
        generator: A CPU generator.

    Returns:
        float32 (N, 3, H, W), channels last in memory.
    """
    if augmentation.crop_padding:
        images = _crop(images, augmentation.crop_padding, generator)
    if augmentation.flip:
        images = _flip(images, generator)
    numbers = normalizer(images)
    if augmentation.cutout:
        numbers = _cut_out(numbers, augmentation.cutout, generator)
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


def _crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Surround by `padding` zeros and take a window of the old size, at one of (2 padding + 1)^2 places."""
    n, _, height, width = images.shape
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator).to(images.device)
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # (N, 3, 2p+1, 2p+1, H, W), a view
    return windows[torch.arange(n, device=images.device), :, top, left]  # (N, 3, H, W)


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left and right, each image with probability one half."""
    chosen = (torch.rand(images.shape[0], generator=generator) < 0.5).to(images.device)
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def _cut_out(numbers: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square to 0, which is the mean; its centre is anywhere, and what lies outside is clipped.

    References: DeVries and Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    n, _, height, width = numbers.shape
    kept = []
    for size in (height, width):
        first = torch.randint(size, (n, 1), generator=generator) - side // 2
        places = torch.arange(size)
        kept.append((places < first) | (places >= first + side))  # (N, size)
    rows, columns = (each.to(numbers.device) for each in kept)
    outside = rows[:, None, :, None] | columns[:, None, None, :]  # (N, 1, H, W)
    return numbers.mul_(outside)


def _by_colour(values: Tensor, images: Tensor) -> Tensor:
    return values.to(torch.float32).view(1, 3, 1, 1).to(images.device)


def _triple(values: Tensor) -> Colour:
    red, green, blue = values.tolist()
    return red, green, blue
