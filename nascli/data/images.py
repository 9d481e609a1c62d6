"""Image files: decoded one by one, streamed in batches where they do not fit in memory or differ in size.

Pillow decodes: torchvision's own decoders are deprecated since 0.29, and Pillow reads more formats at a like speed.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nascli.config import Preprocessing
from nascli.data.arrays import Batch
from nascli.errors import CorruptFileError

Transform = Callable[[Image.Image], Image.Image]

STREAM_SIZE = 224
"""Height and width that streamed images get where nobody says otherwise."""

_CROP_AREA = (0.05, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
"""Of a random crop (Inception preprocessing, as in the code released with AmoebaNet)."""

_OWN = Preprocessing()
"""What our own networks are measured with (the same source)."""


def decode_file(path: Path) -> Image.Image:
    """The picture in a file, as RGB and upright.

    Raises:
        CorruptFileError: The file is not an image, is truncated, or claims an absurd size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _upright(image).convert("RGB")
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise CorruptFileError(f"image {path} cannot be decoded: {error}", "Replace or remove the file") from error


def to_bytes(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class ImageFiles:
    """A split that stays on disk; processes of their own decode ahead of the training.

    Args:
        paths: One an image.
        labels: int64 (N,), each the position of a class name.
        image_size: Height and width in pixels of what a batch holds.
        workers: Processes that decode; 0 decodes in this one. What a batch holds does not depend on it.
        pinned: Batches lie in page-locked memory, for CUDA.
        preprocessing: How an image is brought to its size in evaluation; training does not follow it.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    image_size: int
    workers: int
    pinned: bool = False
    preprocessing: Preprocessing = _OWN

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> "ImageFiles":
        """The files at these positions, in this order."""
        return replace(self, paths=tuple(self.paths[k] for k in indices.tolist()), labels=self.labels[indices])

    def to(self, device: torch.device) -> "ImageFiles":
        """The same files; their batches will be ready for a quick copy to `device`."""
        return replace(self, pinned=device.type == "cuda")

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches of a random part of each image, enlarged or reduced; the part follows from `seed` and the position.

        References: Szegedy et al. 2015, random crops of 5 % to 100 % of the area and aspect ratio 3/4 to 4/3.
        Deviation: no colour distortion.
        """
        return self._batches(order, batch_size, seed)

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The central part of every image, in order, as `preprocessing` says."""
        return self._batches(torch.arange(len(self)), batch_size, None)

    def _batches(self, order: Tensor, batch_size: int, seed: int | None) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _Reader(self, seed),
            batch_sampler=[chunk.tolist() for chunk in torch.split(order, batch_size)],
            num_workers=min(self.workers, -(-len(order) // batch_size)),
            collate_fn=_collate,
            pin_memory=self.pinned,
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, CorruptFileError):
                raise batch
            yield batch


def worker_count(asked: int | None) -> int:
    """Processes that decode: as asked, else one for each core this process may use."""
    return len(os.sched_getaffinity(0)) if asked is None else asked


class _Reader(Dataset[tuple[Tensor, int] | CorruptFileError]):
    """From a position to an image and its label; the draws of a training crop follow from (seed, position)."""

    def __init__(self, files: ImageFiles, seed: int | None) -> None:
        from torchvision.transforms import v2  # takes a second to import, and most runs do not stream

        self._files = files
        self._seed = seed
        size = files.image_size
        self._vary: Transform = v2.RandomResizedCrop(size, _CROP_AREA, _CROP_ASPECT, antialias=True)
        self._centre: Transform = v2.Compose([_resize(size, files.preprocessing), v2.CenterCrop(size)])

    def __getitem__(self, position: int) -> tuple[Tensor, int] | CorruptFileError:
        try:
            image = decode_file(self._files.paths[position])
        except CorruptFileError as error:  # returned, since a worker process would hide it in a traceback
            return error
        if self._seed is None:
            image = self._centre(image)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self._seed + position) % 2**63)
                image = self._vary(image)
        return to_bytes(image), int(self._files.labels[position])


def _resize(size: int, preprocessing: Preprocessing) -> Transform:
    """To the length from which a central square of `size` pixels is cut."""
    from torchvision.transforms import InterpolationMode, v2  # as above

    length = round(size / preprocessing.crop)
    sides = length if preprocessing.resize == "shorter_side" else (length, length)
    resize: Transform = v2.Resize(sides, InterpolationMode(preprocessing.interpolation), antialias=True)
    return resize


def _collate(items: Sequence[tuple[Tensor, int] | CorruptFileError]) -> Batch | CorruptFileError:
    images, labels = [], []
    for item in items:
        if isinstance(item, CorruptFileError):
            return item
        images.append(item[0])
        labels.append(item[1])
    return torch.stack(images), torch.tensor(labels)


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image)
