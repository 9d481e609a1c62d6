"""Images in memory.

Letters: N images, C = 3 colors, H rows, W columns. On a CPU a batch is augmented fastest where the colors of a pixel
lie side by side (channels last): a row of an image is then one run of 3 W numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import Preprocessing
from nascli.data.dataset import ByteBatch, Color

_CHUNK = 4096
"""Images that are measured or resized at a time."""

_RESIZE_WHOLE = Preprocessing(resize="both_sides", crop=1, interpolation="bilinear")


@dataclass(frozen=True)
class ImageArray:
    """A split in memory.

    Args:
        images: uint8 (N, 3, H, W) with H = W.
        labels: int64 (N,), each the position of a class name.
        skipped: Names of the images that could not be decoded when it was loaded; a part of it has none.
    """

    images: Tensor
    labels: Tensor
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[-1])

    @property
    def preprocessing(self) -> Preprocessing:
        """Images of another size were resized whole when they were loaded."""
        return _RESIZE_WHOLE

    def take(self, indices: Tensor) -> Self:
        """The images at these positions, in this order."""
        indices = indices.to(self.labels.device)
        return replace(self, images=self.images[indices], labels=self.labels[indices], skipped=())

    def relabel(self, labels: Tensor) -> Self:
        """The same images with other labels."""
        return replace(self, labels=labels)

    def to(self, device: torch.device) -> Self:
        """The array on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def channels_last(self) -> Self:
        """The same images, laid out as they are augmented fastest."""
        return replace(self, images=self.images.contiguous(memory_format=torch.channels_last))

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[ByteBatch]:
        """Batches of the images at positions `order`; nothing is random here, so `seed` is not used."""
        rows = self.images.permute(0, 2, 3, 1)  # whole images are copied in one piece where they are channels last
        for indices in torch.split(order.to(self.labels.device), batch_size):
            yield rows.index_select(0, indices).permute(0, 3, 1, 2), self.labels[indices]

    def evaluation_batches(self, batch_size: int) -> Iterator[ByteBatch]:
        """Every image once, in order."""
        yield from zip(torch.split(self.images, batch_size), torch.split(self.labels, batch_size), strict=True)


def measure_colors(images: Tensor) -> tuple[Color, Color]:
    """Mean and standard deviation of each color, on a scale of 0 to 1; exact, since bytes are summed as integers.

    Args:
        images: uint8 (N, 3, H, W), N at least 1.

    Returns:
        (mean, std); a color that never varies gets 1 as its standard deviation.
    """
    total, squares = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    for chunk in torch.split(images, _CHUNK):
        numbers = chunk.to(torch.int32)
        total += numbers.sum(dim=(0, 2, 3), dtype=torch.int64)
        squares += numbers.square_().sum(dim=(0, 2, 3), dtype=torch.int64)
    pixels = images.shape[0] * images.shape[2] * images.shape[3]
    mean = total.double() / pixels
    std = (squares.double() / pixels - mean.square()).clamp_(min=0).sqrt()
    std[std == 0] = 255
    return _to_color(mean / 255), _to_color(std / 255)


def resize_images(images: Tensor, side: int) -> Tensor:
    """Resize (N, C, H, W), bytes or numbers from 0 to 255, to bytes (N, C, side, side), bilinear with antialiasing."""
    chunks = [
        F.interpolate(chunk.float(), size=(side, side), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for chunk in torch.split(images, _CHUNK)
    ]
    return torch.cat(chunks)


def _to_color(values: Tensor) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue
