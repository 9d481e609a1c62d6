"""Encoded images: decoded one by one, streamed in batches where they do not fit in memory or differ in size.

Pillow decodes: torchvision's own decoders are deprecated since 0.29, and Pillow reads more formats at a like speed.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nascli.config import Preprocessing
from nascli.data.arrays import Batch
from nascli.errors import CorruptFileError

Transform = Callable[[Image.Image], Image.Image]

Unreadable = tuple[str, CorruptFileError]
"""What an image is called, and why it cannot be decoded."""

STREAM_SIZE = 224
"""Height and width that streamed images get where nobody says otherwise."""

_CROP_AREA = (0.05, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
"""Of a random crop (Inception preprocessing, as in the code released with AmoebaNet)."""

_OWN = Preprocessing()
"""What our own networks are measured with (the same source)."""

_LOG = logging.getLogger(__name__)


class ImageSource(Protocol):
    """What an image is decoded from: a file, or an image in a pack. As text it is what a person calls it."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Its encoded bytes."""


class BadImages:
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


def decode_image(source: ImageSource) -> Image.Image:
    """The picture in a file or a pack, as RGB and upright.

    Raises:
        CorruptFileError: It is not an image, is truncated, damaged, or claims an absurd size.
    """
    try:
        with warnings.catch_warnings(), source.open("rb") as file:
            # threads share the filters of warnings: an error made of this one would get lost, so the size is looked at
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                _refuse_absurd(image)
                ImageOps.exif_transpose(image, in_place=True)  # decodes it, too
                return image if image.mode == "RGB" else image.convert("RGB")
    except CorruptFileError:
        raise
    except Exception as error:  # decoders raise whatever their format makes them raise
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
        raise CorruptFileError(f"image {source} cannot be decoded: {reason}", "Replace or remove the file") from error


def to_bytes(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class ImageFiles:
    """A split that stays on disk; processes of their own decode ahead of the training.

    In the place of an image that cannot be decoded stands the next one of the split that can be, as long as there are
    no more of them than `bad` allows.

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
    bad: BadImages = field(default_factory=BadImages)

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
        for batch, unreadable in loader:
            for name, error in unreadable:
                self.bad.report(name, error)
            if batch is None:
                raise no_image_left(len(self))
            images, labels = batch
            yield images, labels


def worker_count(asked: int | None) -> int:
    """Processes that decode: as asked, else one for each core this process may use."""
    return len(os.sched_getaffinity(0)) if asked is None else asked


def no_image_left(count: int) -> CorruptFileError:
    """The error where none of `count` images can be decoded, though so many bad ones are allowed."""
    return CorruptFileError(f"none of the {count} images of a split can be decoded", "Is the data set complete?")


_Item = tuple[tuple[Tensor, int] | None, list[Unreadable]]


class _Reader(Dataset[_Item]):
    """From a position to an image and its label; the draws of a training crop follow from (seed, position).

    Beside them stand the images that could not be decoded: those at the positions from the one asked for to that of
    the image. They are returned, since a worker process would hide an error in a traceback.
    """

    def __init__(self, files: ImageFiles, seed: int | None) -> None:
        from torchvision.transforms import v2  # takes a second to import, and most runs do not stream

        self._files = files
        self._seed = seed
        size = files.image_size
        self._vary: Transform = v2.RandomResizedCrop(size, _CROP_AREA, _CROP_ASPECT, antialias=True)
        self._centre: Transform = v2.Compose([_resize(size, files.preprocessing), v2.CenterCrop(size)])

    def __getitem__(self, position: int) -> _Item:
        files = self._files
        unreadable: list[Unreadable] = []
        for step in range(min(files.bad.allowed + 1, len(files))):
            place = (position + step) % len(files)
            try:
                image = decode_image(files.paths[place])
            except CorruptFileError as error:
                unreadable.append((str(files.paths[place]), error))
            else:
                return (to_bytes(self._prepare(image, position)), int(files.labels[place])), unreadable
        return None, unreadable

    def _prepare(self, image: Image.Image, position: int) -> Image.Image:
        if self._seed is None:
            return self._centre(image)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed((self._seed + position) % 2**63)  # the CPU's alone, which is quicker
            return self._vary(image)


def _resize(size: int, preprocessing: Preprocessing) -> Transform:
    """To the length from which a central square of `size` pixels is cut."""
    from torchvision.transforms import InterpolationMode, v2  # as above

    length = round(size / preprocessing.crop)
    sides = length if preprocessing.resize == "shorter_side" else (length, length)
    resize: Transform = v2.Resize(sides, InterpolationMode(preprocessing.interpolation), antialias=True)
    return resize


def _collate(items: Sequence[_Item]) -> tuple[Batch | None, list[Unreadable]]:
    """A batch, or None where an image is missing, and what could not be decoded on the way."""
    unreadable = [each for _, met in items for each in met]
    found = [item for item, _ in items if item is not None]
    if len(found) < len(items):
        return None, unreadable
    images = torch.stack([image.permute(1, 2, 0) for image, _ in found]).permute(0, 3, 1, 2)  # as Pillow lays them out
    return (images, torch.tensor([label for _, label in found])), unreadable


def _refuse_absurd(image: Image.Image) -> None:
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise ValueError(f"it claims {image.width}x{image.height} pixels, more than {most:,}")
