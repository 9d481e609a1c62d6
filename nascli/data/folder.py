"""Image folders: `train/<class>/*` beside `val/<class>/*` or `test/<class>/*`."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nascli.config import MAX_MEGAPIXELS
from nascli.data.dataset import Split, UnreadableImages, ValName, no_image_left
from nascli.data.decoding import ImageSource, decode_image, image_to_tensor
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import STREAM_SIZE, ImageFiles
from nascli.data.walk import ImageWalk
from nascli.errors import CorruptFileError, InputError

MAX_SIDE_IN_MEMORY = 96
"""Images up to this side in pixels, all of one size, are loaded whole."""

VAL_NAMES: tuple[ValName, ...] = ("val", "test")
_MAX_BYTES_IN_MEMORY = 4 << 30
_LAYOUT = "It must hold train/<class>/*.jpg and val/<class>/*.jpg (or test/<class>/*.jpg)"

Source = TypeVar("Source", bound=ImageSource, covariant=True)


@dataclass(frozen=True)
class FolderIndex(Generic[Source]):
    """The content of an image folder or a pack of one: images with labels of both splits, class by class.

    Args:
        val: Those of `val/`, or of `test/` where there is no `val/`; `val_name` says which.
        class_names: The names of the folders in `train/`, sorted; a label is a position in it.
    """

    train: tuple[tuple[Source, int], ...]
    val: tuple[tuple[Source, int], ...]
    class_names: tuple[str, ...]
    val_name: ValName = "val"


def scan_folder(folder: Path) -> FolderIndex[Path]:
    """List an image folder.

    Raises:
        InputError: A folder is missing or empty, there are fewer than two classes, or `val/` has a class that
            `train/` has not.
    """
    if not folder.is_dir():
        raise InputError(f"data set folder {folder}: no such folder", _LAYOUT)
    val_name = next((name for name in VAL_NAMES if (folder / name).is_dir()), None)
    train = folder / "train"
    if not train.is_dir() or val_name is None:
        missing = "val or test" if train.is_dir() else "train"
        raise InputError(f"data set folder {folder}: there is no {missing} folder in it", _LAYOUT)
    val = folder / val_name
    names = _class_names(train)
    if len(names) < 2:
        raise InputError(
            f"data set folder {train} holds {len(names)} classes; at least two are needed",
            "Each class is a folder of its own in it",
        )
    if unknown := sorted({*_class_names(val)} - {*names}):
        raise InputError(f"data set folder {val}: class {unknown[0]!r} is not among those of {train}")
    index = FolderIndex(_list_files(train, names), _list_files(val, names), names, val_name)
    if not index.val:
        raise InputError(f"data set folder {val}: there are no images in it", _LAYOUT)
    empty = set(range(len(names))) - {label for _, label in index.train}
    if empty:
        raise InputError(f"data set folder {train / names[min(empty)]}: there are no images in it")
    return index


def open_splits(
    index: FolderIndex[ImageSource],
    image_size: int | None,
    workers: int,
    unreadable: UnreadableImages,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> tuple[Split, Split]:
    """Open both splits: in memory where the images are small and all of one size, else streamed.

    Args:
        image_size: Height and width of streamed images in pixels. (Those in memory keep their size.)
        workers: Processes that decode streamed images.
        unreadable: Counts the images that cannot be decoded. A split in memory does not have them.
        max_megapixels: Millions of pixels of the largest image that is decoded.

    Raises:
        CorruptFileError: More images than allowed cannot be decoded; the message has their paths.
    """
    size = _common_size(index, unreadable, max_megapixels)
    if size is not None:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            decode = partial(_try_to_decode, max_megapixels=max_megapixels)
            train = _load(index.train, size, pool.map(decode, (path for path, _ in index.train)), unreadable)
            val = None
            if train is not None:
                val = _load(index.val, size, pool.map(decode, (path for path, _ in index.val)), unreadable)
            pool.shutdown(wait=False, cancel_futures=True)
        if train is not None and val is not None:
            return train, val
    return stream_splits(index, image_size, workers, unreadable, max_megapixels)


def stream_splits(
    index: FolderIndex[ImageSource],
    image_size: int | None,
    workers: int,
    unreadable: UnreadableImages,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> tuple[Split, Split]:
    """Open both splits so that images stay on disk."""

    def stream(files: tuple[tuple[ImageSource, int], ...]) -> ImageFiles:
        paths, labels = zip(*files, strict=True)
        return ImageFiles(
            paths,
            torch.tensor(labels),
            image_size or STREAM_SIZE,
            workers,
            unreadable=unreadable,
            max_megapixels=max_megapixels,
        )

    return stream(index.train), stream(index.val)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _list_files(folder: Path, names: Sequence[str]) -> tuple[tuple[Path, int], ...]:
    walk = ImageWalk(folder)
    there = [(label, folder / name) for label, name in enumerate(names) if (folder / name).is_dir()]
    return tuple((path, label) for label, place in there for path in walk.find_below(place))


def _common_size(index: FolderIndex[ImageSource], unreadable: UnreadableImages, max_megapixels: int) -> int | None:
    """The side of the first image of every class in pixels, where they are square, small, alike, and not too many."""
    first: dict[int, tuple[int, int]] = {}
    for path, label in index.train:
        if label not in first:
            try:
                first[label] = decode_image(path, max_megapixels=max_megapixels).size
            except CorruptFileError as error:
                unreadable.report(str(path), error)
    sizes = set(first.values())
    if len(sizes) != 1:
        return None
    ((width, height),) = sizes
    count = len(index.train) + len(index.val)
    if width != height or width > MAX_SIDE_IN_MEMORY or 3 * width * height * count > _MAX_BYTES_IN_MEMORY:
        return None
    return width


def _load(
    files: Sequence[tuple[ImageSource, int]],
    size: int,
    decoded: Iterator[Tensor | CorruptFileError],
    unreadable: UnreadableImages,
) -> ImageArray | None:
    """All in memory as they are decoded; None as soon as one is of another size."""
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    labels: list[int] = []
    skipped: list[str] = []
    for (path, label), image in zip(files, decoded, strict=True):
        if isinstance(image, CorruptFileError):
            unreadable.report(str(path), image)
            skipped.append(str(path))
        elif image.shape != images.shape[1:]:
            return None
        else:
            images[len(labels)] = image
            labels.append(label)
    if not labels:
        raise no_image_left(len(files))
    return ImageArray(images[: len(labels)], torch.tensor(labels), tuple(skipped))


def _try_to_decode(source: ImageSource, max_megapixels: int) -> Tensor | CorruptFileError:
    try:
        return image_to_tensor(decode_image(source, max_megapixels=max_megapixels))
    except CorruptFileError as error:
        return error
