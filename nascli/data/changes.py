"""Random changes of a batch: what is drawn for each image on the CPU, and one copy of it to the images' device.

A change is drawn before any image is touched. So the numbers of all changes of a batch go to a GPU together, without a
wait, and it never waits for the next ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_ALIGNMENT = 8
"""Bytes to a multiple of which each tensor of a common buffer begins."""


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


class Change(NamedTuple):
    """A change of a batch whose random numbers are drawn.

    `apply` makes of images and of `numbers`, on the images' device, the changed images; it draws nothing, copies
    nothing to the device, and reads nothing back.
    """

    numbers: tuple[Tensor, ...]
    apply: Callable[..., Tensor]


def apply_changes(images: Tensor, changes: Sequence[Change]) -> Tensor:
    """The images after all changes, in this order; their numbers are copied to the images' device at once."""
    sent = iter(copy_together([each for change in changes for each in change.numbers], images.device))
    for change in changes:
        images = change.apply(images, *(next(sent) for _ in change.numbers))
    return images


def copy_together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """CPU tensors on a device, by one copy that nobody waits for; on the CPU the tensors themselves."""
    if device.type == "cpu" or not tensors:
        return list(tensors)
    ends, pieces, end = list[int](), list[Tensor](), 0
    for tensor in tensors:
        content = tensor.contiguous().flatten().view(torch.uint8)
        pieces += [content, content.new_zeros(-len(content) % _ALIGNMENT)]
        end += len(content) + len(pieces[-1])
        ends.append(end)
    buffer = torch.cat(pieces)
    if device.type == "cuda":
        buffer = buffer.pin_memory()
    buffer = buffer.to(device, non_blocking=True)
    begins = [0, *ends[:-1]]
    return [
        buffer[begin : begin + tensor.numel() * tensor.element_size()].view(tensor.dtype).view(tensor.shape)
        for tensor, begin in zip(tensors, begins, strict=True)
    ]
