"""Inference that survives memory running out: a batch is computed in smaller chunks from then on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nascli.engine.device import name_out_of_memory
from nascli.errors import DeviceMemoryError

Images = TypeVar("Images", Tensor, list[Tensor])
Output = TypeVar("Output")


@dataclass
class ChunkedInference(Generic[Images, Output]):
    """A network's outputs for the images of a batch, chunk by chunk.

    Args:
        compute: From some images to their outputs, which do not depend on each other.
        chunk_size: Images per call; halved whenever memory runs out.
        log: Called with a message each time it is halved.
    """

    compute: Callable[[Images], Output]
    chunk_size: int
    log: Callable[[str], None] | None = None

    def __call__(self, images: Images) -> Sequence[Output]:
        """The outputs of each chunk, in order.

        Args:
            images: (N, 3, H, W), or a list of (3, H, W).

        Raises:
            DeviceMemoryError: The device cannot hold one image.
        """
        while True:
            try:
                starts = range(0, len(images), self.chunk_size)
                with name_out_of_memory():
                    return [self.compute(images[start : start + self.chunk_size]) for start in starts]
            except torch.OutOfMemoryError as error:
                fewer = min(self.chunk_size, len(images)) // 2
                if not fewer:
                    height, width = images[0].shape[-2:]
                    raise DeviceMemoryError(
                        f"the device has not enough memory to evaluate one image of {height} x {width} pixels",
                        "--device cpu has more, though it is slower",
                    ) from error
            # here, where the exception no longer holds on to the attempt's tensors
            torch.cuda.empty_cache()
            self.chunk_size = fewer
            if self.log is not None:
                self.log(f"out of memory: from here on {fewer} images are evaluated at once")
