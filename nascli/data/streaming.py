"""Images streamed in batches, where they do not fit in memory or differ in size.

Worker processes decode ahead of the training. Batches do not travel through pipes: the parent makes a ring of slots in
shared memory, batch k is decoded into slot k modulo their number, and a worker sends no more than "done" and the
positions that it decoded. See `_make_slots` for why no slot is written while it is read.
"""

import itertools
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nascli.config import MAX_MEGAPIXELS, Preprocessing
from nascli.data.dataset import ByteBatch, UnreadableImages, no_image_left
from nascli.data.images.decoding import ImageSource, decode_image, decode_pixels, image_to_tensor, jpeg_decoder
from nascli.errors import CorruptFileError, LostProcessError, NascliError
from nascli.signals import end_with_parent

STREAM_SIZE = 224
"""Default height and width of streamed images in pixels."""

_CROP_AREA = (0.05, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
"""Ranges for a random crop (Inception preprocessing, as in the code released with AmoebaNet)."""
_CROP_TRIES = 10

_MAX_LENGTH = 16
"""Times its shorter side that an image keeps of its longer side before a square is cut from its middle."""

_REDUCED_FACTOR = 2
"""Times the wanted size that a large image is decoded in at least, where it is decoded reduced."""

_PREFETCH = 2
"""Batches that each worker decodes before they are asked for."""


class Window(NamedTuple):
    """A rectangle of an image: rows from `top` on and before `bottom`, columns from `left` on and before `right`."""

    top: int
    bottom: int
    left: int
    right: int


def random_window(height: int, width: int, seed: int) -> Window:
    """A random part of an image: 5 % to 100 % of its area, width to height 3/4 to 4/3, anywhere in it.

    Sizes that do not fit are drawn again; after ten of them it is the largest part in the middle with such a shape.

    References: Szegedy et al. 2015, random crops; as torchvision's RandomResizedCrop samples them.
    """
    rng = random.Random(seed)  # seeding it takes less time than seeding numpy's or torch's
    narrowest, widest = _CROP_ASPECT
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*_CROP_AREA)
        aspect = math.exp(rng.uniform(math.log(narrowest), math.log(widest)))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = rng.randrange(height - rows + 1), rng.randrange(width - columns + 1)
            return Window(top, top + rows, left, left + columns)
    rows, columns = min(height, round(width / narrowest)), min(width, round(height * widest))
    top, left = (height - rows) // 2, (width - columns) // 2
    return Window(top, top + rows, left, left + columns)


@dataclass(frozen=True)
class ImageFiles:
    """A split that stays on disk; worker processes decode ahead of the training.

    In training the next image of the split that can be decoded stands in for one that cannot, so that all batches are
    full; in evaluation it is skipped.

    Args:
        labels: int64 (N,), each the position of a class name.
        image_size: Height and width in pixels of the images in a batch.
        workers: Processes that decode; 0 decodes in this one. Batches do not depend on it.
        pinned: Batches lie in page-locked memory, for CUDA.
        preprocessing: How an image is brought to its size in evaluation; training does not follow it.
        unreadable: Counts the images that cannot be decoded, over all batches and epochs, and allows for some.
        max_megapixels: Millions of pixels of the largest image that is decoded.
    """

    paths: tuple[ImageSource, ...]
    labels: Tensor
    image_size: int
    workers: int
    pinned: bool = False
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    unreadable: UnreadableImages = field(default_factory=UnreadableImages)
    max_megapixels: int = MAX_MEGAPIXELS

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Those of its images that could not be decoded so far; `unreadable` may count others, too."""
        own = {str(path) for path in self.paths} if self.unreadable.names else set()
        return tuple(name for name in self.unreadable.names if name in own)

    def take(self, indices: Tensor) -> Self:
        """The files at these positions, in this order."""
        return replace(self, paths=tuple(self.paths[k] for k in indices.tolist()), labels=self.labels[indices])

    def relabel(self, labels: Tensor) -> Self:
        """The same files with other labels."""
        return replace(self, labels=labels)

    def to(self, device: torch.device) -> Self:
        """The same files; their batches will be ready for a quick copy to `device`."""
        return replace(self, pinned=device.type == "cuda")

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[ByteBatch]:
        """Batches of a `random_window` of each image, which follows from `seed` and the image's position.

        It is brought to its size by torch's bilinear interpolation of bytes.
        """
        return self._batches(order, batch_size, seed)

    def evaluation_batches(self, batch_size: int) -> Iterator[ByteBatch]:
        """The central part of every image, in order, as `preprocessing` says: decoded and resized by Pillow.

        A batch is the smaller by its images that cannot be decoded, and skipped where it has no other.
        """
        batches = self._batches(torch.arange(len(self)), batch_size, None)
        return ((images, labels) for images, labels in batches if len(labels))

    def _batches(self, order: Tensor, batch_size: int, seed: int | None) -> Iterator[ByteBatch]:
        chunks = [chunk.tolist() for chunk in torch.split(order, batch_size)]
        workers = min(self.workers, len(chunks))
        reader = _Reader(self, seed, _make_slots(chunks, self.image_size, workers))
        numbered: Any = list(enumerate(chunks))  # the reader is given whole batches, whatever they are made of
        loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=numbered,
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            collate_fn=_keep_batch,
            worker_init_fn=end_with_parent,
            generator=torch.Generator(),
        )
        fetched = _name_lost(loader)
        for (positions, errors), chunk, slot in zip(fetched, chunks, itertools.cycle(reader.slots), strict=False):
            for name, error in errors:
                self.unreadable.report(name, error)
            if seed is not None and len(positions) < len(chunk):
                raise no_image_left(len(self))
            copy = torch.empty((len(positions), *slot.shape[1:]), dtype=torch.uint8, pin_memory=self.pinned)
            yield copy.copy_(slot[: len(positions)]).permute(0, 3, 1, 2), self.labels[positions]


def worker_count(requested: int | None) -> int:
    """Processes that decode: as requested, else one per core that this process may use."""
    return len(os.sched_getaffinity(0)) if requested is None else requested


_Fetched = tuple[list[int], list[tuple[str, CorruptFileError]]]
"""Positions in the split of a batch's images, fewer where one is missing; name and error of each unreadable image."""


def _make_slots(chunks: Sequence[Sequence[int]], size: int, workers: int) -> list[Tensor]:
    """Memory that batches are decoded into in turn, uint8 (N, S, S, 3) each, shared with the workers.

    The protocol has no lock: a DataLoader hands a worker its next batch only when an earlier one of it was taken, so
    that at most `_PREFETCH` batches per worker are decoded or being decoded and not yet taken. The parent copies a
    batch that it took before it takes the next. With one slot more than the workers can fill together, the slot that
    is read is therefore never one that is written. Slots are used again and again, since the first touch of shared
    memory costs more than decoding a twentieth of what it holds.
    """
    count = min(_PREFETCH * workers + 1, len(chunks))
    slots = torch.empty((count, max(map(len, chunks), default=0), size, size, 3), dtype=torch.uint8)
    try:
        return list(slots.share_memory_() if workers else slots)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise NascliError(
            f"there is no shared memory for {count} batches, {slots.numel() / 2**20:.0f} MiB, "
            f"of {workers} processes that decode: {error}",
            "Make /dev/shm larger, or use fewer processes: --set data.workers=0 needs none",
        ) from error


def _name_lost(batches: Iterable[_Fetched]) -> Iterator[_Fetched]:
    """The batches of a loader; an error of ours where one of its processes was ended."""
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise LostProcessError(
            "a process that decodes images was ended from outside",
            "Memory may have run out (dmesg says so): data.workers is the number of such processes",
        ) from error


class _Reader(Dataset[_Fetched]):
    """Decodes a batch, asked for by its number and positions, into the slot whose turn it is.

    Errors of unreadable images are returned, since a worker process would hide them in a traceback.
    """

    def __init__(self, files: ImageFiles, seed: int | None, slots: list[Tensor]) -> None:
        self.slots = slots
        self._files = files
        self._seed = seed
        if seed is None:
            self._preprocess = _center_crop(files.image_size, files.preprocessing)
            self._least_side = _REDUCED_FACTOR * round(files.image_size / files.preprocessing.crop)
        else:
            jpeg_decoder()  # imported here, once for all workers
            narrowest = math.sqrt(_CROP_AREA[0] * _CROP_ASPECT[0])  # of a window, as a part of the shorter side
            self._least_side = math.ceil(files.image_size / narrowest)

    def __getitems__(self, batch: tuple[int, Sequence[int]]) -> _Fetched:
        number, positions = batch
        slot, files = self.slots[number % len(self.slots)], self._files
        stand_ins = 0 if self._seed is None else min(files.unreadable.allowed, len(files) - 1)
        decoded: list[int] = []
        errors: list[tuple[str, CorruptFileError]] = []
        for position in positions:
            for step in range(stand_ins + 1):
                place = (position + step) % len(files)
                try:
                    slot[len(decoded)] = self._read(files.paths[place], position)
                except CorruptFileError as error:
                    errors.append((str(files.paths[place]), error))
                else:
                    decoded.append(place)
                    break
        return decoded, errors

    def _read(self, source: ImageSource, position: int) -> Tensor:
        """An image as it goes into a batch: uint8 (S, S, 3)."""
        limit, least = self._files.max_megapixels, self._least_side
        if self._seed is None:
            image = decode_image(source, max_megapixels=limit, least_side=least)
            return image_to_tensor(self._preprocess(image)).permute(1, 2, 0)
        pixels = decode_pixels(source, max_megapixels=limit, least_side=least)
        top, bottom, left, right = random_window(pixels.shape[0], pixels.shape[1], (self._seed + position) % 2**63)
        batch = pixels[None, top:bottom, left:right].permute(0, 3, 1, 2)  # channels last in memory: torch's fastest way
        sides = (self._files.image_size, self._files.image_size)
        return F.interpolate(batch, sides, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _center_crop(size: int, preprocessing: Preprocessing) -> Callable[[Image.Image], Image.Image]:
    """Resize to the length from which a central square of `size` pixels is cut, and cut it."""
    from torchvision.transforms import InterpolationMode, v2  # takes a second to import, and most runs do not stream

    length = round(size / preprocessing.crop)
    keeps_shape = preprocessing.resize == "shorter_side"
    resize = v2.Resize(
        length if keeps_shape else (length, length), InterpolationMode(preprocessing.interpolation), antialias=True
    )
    steps = [*([_cut_ends] if keeps_shape else []), resize, v2.CenterCrop(size)]
    transform: Callable[[Image.Image], Image.Image] = v2.Compose(steps)
    return transform


def _cut_ends(image: Image.Image) -> Image.Image:
    """The middle of an image that is very long: the rest is not in the square, and would take memory when enlarged."""
    shorter = min(image.size)
    if max(image.size) <= _MAX_LENGTH * shorter:
        return image
    left, top = (max(side - _MAX_LENGTH * shorter, 0) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def _keep_batch(fetched: Any) -> Any:  # noqa: ANN401 - a DataLoader thinks of lists of items
    """Collate nothing: the reader gives whole batches."""
    return fetched
