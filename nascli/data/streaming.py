"""Images streamed in batches, where they do not fit in memory or differ in size."""

import functools
import itertools
import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nascli.config import Preprocessing
from nascli.data.decoding import ImageSource, Window, decode_image, decode_window, jpeg_decoder, to_bytes
from nascli.data.in_memory import Batch
from nascli.errors import CorruptFileError, NascliError

Transform = Callable[[Image.Image], Image.Image]

Unreadable = tuple[str, CorruptFileError]
"""What an image is called, and why it cannot be decoded."""

STREAM_SIZE = 224
"""Height and width that streamed images get where nobody says otherwise."""

_CROP_AREA = (0.05, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
"""Of a random crop (Inception preprocessing, as in the code released with AmoebaNet)."""
_CROP_TRIES = 10

_AHEAD = 2
"""Batches that each process decodes before they are asked for."""

_OWN = Preprocessing()
"""What our own networks are measured with (the same source)."""

_LOG = logging.getLogger(__name__)


class UnreadableImages:
    """Images that cannot be decoded: each is reported once, and more than are allowed end the run.

    Args:
        allowed: How many; with 0 the first one ends the run.
        option: How a person allows more, for the error's last words; may be empty.
        note: Told of each image that is left out, in one line; where it is left out, Python's `logging` is.
    """

    def __init__(self, allowed: int = 0, option: str = "", note: Callable[[str], None] = _LOG.warning) -> None:
        self.allowed = allowed
        self._option = option
        self._note = note
        self._found: dict[str, CorruptFileError] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those found so far, in the order in which they were."""
        return tuple(self._found)

    def report(self, name: str, error: CorruptFileError) -> None:
        """Count the image of this name, unless it is counted already.

        Raises:
            CorruptFileError: With it there are more than are allowed; the message names them all.
        """
        known = name in self._found
        self._found[name] = error
        if len(self._found) > self.allowed:
            raise self._too_many(error)
        if not known:
            self._note(f"warning: {error.message}; it is left out ({len(self._found)} of {self.allowed} that may be)")

    def _too_many(self, error: CorruptFileError) -> CorruptFileError:
        hint = f"{error.hint}, or allow for more: {self._option}" if self._option else error.hint
        if self.allowed == 0:
            return CorruptFileError(error.message, hint)
        names = ", ".join(self._found)
        return CorruptFileError(
            f"{len(self._found)} images cannot be decoded, {self.allowed} may be left out: {names}", hint
        )


def random_window(height: int, width: int, seed: int) -> Window:
    """A random part of an image: 5 % to 100 % of its area, width to height 3/4 to 4/3, anywhere in it.

    Sizes that do not fit are drawn again; after ten of them it is the largest part in the middle with such a shape.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        seed: All draws follow from it and the size.

    References: Szegedy et al. 2015, random crops; as torchvision's RandomResizedCrop draws them.
    """
    draw = random.Random(seed)  # the quickest to seed of all there are
    narrowest, widest = _CROP_ASPECT
    for _ in range(_CROP_TRIES):
        area = height * width * draw.uniform(*_CROP_AREA)
        aspect = math.exp(draw.uniform(math.log(narrowest), math.log(widest)))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = draw.randrange(height - rows + 1), draw.randrange(width - columns + 1)
            return Window(top, top + rows, left, left + columns)
    rows, columns = min(height, round(width / narrowest)), min(width, round(height * widest))
    top, left = (height - rows) // 2, (width - columns) // 2
    return Window(top, top + rows, left, left + columns)


@dataclass(frozen=True)
class ImageFiles:
    """A split that stays on disk; processes of their own decode ahead of the training.

    Up to as many images as `bad` allows may be such that cannot be decoded. In training the next one of the split that
    can be stands in the place of such an image, so that all batches are full; in evaluation it is left out.

    Args:
        paths: One an image.
        labels: int64 (N,), each the position of a class name.
        image_size: Height and width in pixels of what a batch holds.
        workers: Processes that decode; 0 decodes in this one. What a batch holds does not depend on it.
        pinned: Batches lie in page-locked memory, for CUDA.
        preprocessing: How an image is brought to its size in evaluation; training does not follow it.
        bad: Counts the images that cannot be decoded, over all batches and epochs.
    """

    paths: tuple[ImageSource, ...]
    labels: Tensor
    image_size: int
    workers: int
    pinned: bool = False
    preprocessing: Preprocessing = _OWN
    bad: UnreadableImages = field(default_factory=UnreadableImages)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Those of its images that could not be decoded so far; `bad` may count those of other splits, too."""
        own = {str(path) for path in self.paths} if self.bad.names else set()
        return tuple(name for name in self.bad.names if name in own)

    def take(self, indices: Tensor) -> "ImageFiles":
        """The files at these positions, in this order."""
        return replace(self, paths=tuple(self.paths[k] for k in indices.tolist()), labels=self.labels[indices])

    def to(self, device: torch.device) -> "ImageFiles":
        """The same files; their batches will be ready for a quick copy to `device`."""
        return replace(self, pinned=device.type == "cuda")

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches of a random part of each image, enlarged or reduced; the part follows from `seed` and the position.

        The part is `random_window`'s; it is brought to its size by torch's bilinear interpolation of bytes.
        """
        return self._batches(order, batch_size, seed)

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The central part of every image, in order, as `preprocessing` says: decoded and resized by Pillow.

        A batch is the smaller by its images that cannot be decoded, and left out where it has no other.
        """
        batches = self._batches(torch.arange(len(self)), batch_size, None)
        return ((images, labels) for images, labels in batches if len(labels))

    def _batches(self, order: Tensor, batch_size: int, seed: int | None) -> Iterator[Batch]:
        chunks = [chunk.tolist() for chunk in torch.split(order, batch_size)]
        workers = min(self.workers, len(chunks))
        reader = _Reader(self, seed, _slots(chunks, self.image_size, workers))
        numbered: Any = list(enumerate(chunks))  # the reader is given whole batches, whatever they are made of
        loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=numbered,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )
        for (places, unreadable), chunk, slot in zip(loader, chunks, itertools.cycle(reader.slots), strict=False):
            for name, error in unreadable:
                self.bad.report(name, error)
            if seed is not None and len(places) < len(chunk):
                raise no_image_left(len(self))
            room = torch.empty((len(places), *slot.shape[1:]), dtype=torch.uint8, pin_memory=self.pinned)
            yield room.copy_(slot[: len(places)]).permute(0, 3, 1, 2), self.labels[places]


def worker_count(asked: int | None) -> int:
    """Processes that decode: as asked, else one for each core this process may use."""
    return len(os.sched_getaffinity(0)) if asked is None else asked


def no_image_left(count: int) -> CorruptFileError:
    """The error where none of `count` images can be decoded, though so many bad ones are allowed."""
    return CorruptFileError(f"none of the {count} images of a split can be decoded", "Is the data set complete?")


_Fetched = tuple[list[int], list[Unreadable]]
"""The places in the split of a batch's images, fewer where one is missing; and what could not be decoded on the way."""


def _slots(chunks: Sequence[Sequence[int]], size: int, workers: int) -> list[Tensor]:
    """Memory that batches are decoded into in turn, uint8 (N, S, S, 3) each, shared with the processes that decode.

    A process never has more than `_AHEAD` batches that were not asked for yet, and a batch that was is copied before
    the next one is: with one slot more than the processes can fill together, none is filled while it is read. Slots are
    used again and again, since the first touch of shared memory costs more than decoding a twentieth of what it holds.
    """
    count = min(_AHEAD * workers + 1, len(chunks))
    slots = torch.empty((count, max(map(len, chunks), default=0), size, size, 3), dtype=torch.uint8)
    try:
        return list(slots.share_memory_() if workers else slots)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise NascliError(
            f"there is no shared memory for {count} batches, {slots.numel() / 2**20:.0f} MiB, "
            f"of {workers} processes that decode: {error}",
            "Make /dev/shm larger, or take fewer processes: --set data.workers=0 needs none",
        ) from error


class _Reader(Dataset[_Fetched]):
    """From positions to a batch of their images; the draws of a training crop follow from (seed, position).

    A batch is asked for by its number and positions, and decoded into the slot whose turn it is; what is handed from
    process to process are places. The images that could not be decoded are returned too, since a worker process would
    hide an error in a traceback.
    """

    def __init__(self, files: ImageFiles, seed: int | None, slots: list[Tensor]) -> None:
        self.slots = slots
        self._files = files
        self._seed = seed
        if seed is None:
            self._centre = _centre(files.image_size, files.preprocessing)
        else:
            jpeg_decoder()  # imported here, once for all worker processes

    def __getitems__(self, batch: tuple[int, Sequence[int]]) -> _Fetched:
        number, positions = batch
        slot = self.slots[number % len(self.slots)]
        places: list[int] = []
        unreadable: list[Unreadable] = []
        for position in positions:
            place = self._read_into(slot[len(places)], position, unreadable)
            if place is not None:
                places.append(place)
        return places, unreadable

    def _read_into(self, image: Tensor, position: int, unreadable: list[Unreadable]) -> int | None:
        """Fill uint8 (S, S, 3) with the image at a position, in training else with the next one; its place, if any."""
        files = self._files
        stand_ins = 0 if self._seed is None else min(files.bad.allowed, len(files) - 1)
        for step in range(stand_ins + 1):
            place = (position + step) % len(files)
            try:
                pixels = self._read(files.paths[place], position)
            except CorruptFileError as error:
                unreadable.append((str(files.paths[place]), error))
            else:
                image.copy_(pixels)
                return place
        return None

    def _read(self, source: ImageSource, position: int) -> Tensor:
        """An image as it goes into a batch: uint8 (S, S, 3)."""
        if self._seed is None:
            return to_bytes(self._centre(decode_image(source))).permute(1, 2, 0)
        seed = (self._seed + position) % 2**63
        part = decode_window(source, functools.partial(random_window, seed=seed))
        sides = (self._files.image_size, self._files.image_size)
        batch = part[None].permute(0, 3, 1, 2)  # (1, 3, h, w), channels last in memory: torch's quickest way
        return F.interpolate(batch, sides, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _centre(size: int, preprocessing: Preprocessing) -> Transform:
    """To the length from which a central square of `size` pixels is cut, and that square."""
    from torchvision.transforms import InterpolationMode, v2  # takes a second to import, and most runs do not stream

    length = round(size / preprocessing.crop)
    sides = length if preprocessing.resize == "shorter_side" else (length, length)
    resize = v2.Resize(sides, InterpolationMode(preprocessing.interpolation), antialias=True)
    centre: Transform = v2.Compose([resize, v2.CenterCrop(size)])
    return centre


def _as_it_is(fetched: Any) -> Any:  # noqa: ANN401 - a DataLoader thinks of lists of items
    """What the reader gives is a batch already."""
    return fetched
