"""Random numbers for the images of a batch: for all of them, or for some as if all were there."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchRng:
    """What each image of a batch draws for itself, on the CPU, so that it is the same on every device.

    Of a batch that several processes share, each draws for the whole, and takes what its own images drew. So an image
    is varied in the same way whichever process has it, and whatever else that process has.

    Args:
        generator: A CPU generator.
        share: Where there are but some images of a batch: how many the whole has, and which these are, int64 (n,).
    """

    generator: torch.Generator
    share: tuple[int, Tensor] | None = None

    def uniform(self, images: int, *rows: int) -> Tensor:
        """For each of so many images, rows of numbers from 0 to 1, without 1: float32 (*rows, images)."""
        return self._own(torch.rand((*rows, self._whole(images)), generator=self.generator))

    def integers(self, end: int, images: int, *rows: int) -> Tensor:
        """For each of so many images, rows of integers from 0 to `end` - 1: int64 (*rows, images)."""
        return self._own(torch.randint(end, (*rows, self._whole(images)), generator=self.generator))

    def _whole(self, images: int) -> int:
        return images if self.share is None else self.share[0]

    def _own(self, numbers: Tensor) -> Tensor:
        return numbers if self.share is None else numbers[..., self.share[1]]
