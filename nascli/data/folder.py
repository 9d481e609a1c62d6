"""Image folders: `train/<class>/*` beside `val/<class>/*` or `test/<class>/*`."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nascli.data.decoding import ImageSource, decode_image, to_bytes
from nascli.data.in_memory import ImageArray, Split
from nascli.data.streaming import STREAM_SIZE, ImageFiles, UnreadableImages, no_image_left
from nascli.errors import CorruptFileError, InputError

LARGEST_IN_MEMORY = 96
"""Images up to this side in pixels, all of one size, are loaded whole."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
"""What counts as an image inside a folder."""

_MOST_BYTES = 4 << 30
_LAYOUT = "It must hold train/<class>/*.jpg and val/<class>/*.jpg (or test/<class>/*.jpg)"

Source = TypeVar("Source", bound=ImageSource, covariant=True)


@dataclass(frozen=True)
class FolderIndex(Generic[Source]):
    """What an image folder or a pack of one holds: images and labels of both splits, and the names of the classes.

    Args:
        train: The training images, class by class.
        test: Those of `val/`, or of `test/` where there is no `val/`.
        class_names: The names of the folders in `train/`, sorted; a label is a position in it.
    """

    train: tuple[tuple[Source, int], ...]
    test: tuple[tuple[Source, int], ...]
    class_names: tuple[str, ...]


def scan_folder(folder: Path) -> FolderIndex[Path]:
    """List an image folder.

    Raises:
        InputError: A folder is missing or empty, there are fewer than two classes, or `val/` has a class that
            `train/` has not.
    """
    if not folder.is_dir():
        raise InputError(f"data set folder {folder}: no such folder", _LAYOUT)
    test = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or test is None:
        missing = "train" if not (folder / "train").is_dir() else "val or test"
        raise InputError(f"data set folder {folder}: there is no {missing} folder in it", _LAYOUT)
    names = _class_names(folder / "train")
    if len(names) < 2:
        raise InputError(
            f"data set folder {folder / 'train'} holds {len(names)} classes; at least two are needed",
            "Each class is a folder of its own in it",
        )
    for name in _class_names(test):
        if name not in names:
            raise InputError(f"data set folder {test}: class {name!r} is not among those of {folder / 'train'}")
    index = FolderIndex(_files(folder / "train", names), _files(test, names), names)
    if not index.test:
        raise InputError(f"data set folder {test}: there are no images in it", _LAYOUT)
    empty = set(range(len(names))) - {label for _, label in index.train}
    if empty:
        raise InputError(f"data set folder {folder / 'train' / names[min(empty)]}: there are no images in it")
    return index


def open_splits(
    index: FolderIndex[ImageSource], image_size: int | None, workers: int, bad: UnreadableImages
) -> tuple[Split, Split]:
    """Training and test split: in memory where the images are small and all of one size, else streamed.

    Args:
        index: The images.
        image_size: For streamed images: height and width that they get. (Those in memory keep their size.)
        workers: Processes that decode streamed images.
        bad: Counts the images that cannot be decoded. From what lies in memory they are left out.

    Raises:
        CorruptFileError: More images than `bad` allows cannot be decoded; the message has their paths.
    """
    size = _common_size(index, bad)
    if size is not None:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            train = _load(index.train, size, pool, bad)
            test = _load(index.test, size, pool, bad) if train is not None else None
        if train is not None and test is not None:
            return train, test
    return stream_splits(index, image_size, workers, bad)


def stream_splits(
    index: FolderIndex[ImageSource], image_size: int | None, workers: int, bad: UnreadableImages
) -> tuple[Split, Split]:
    """Training and test split that stay on disk."""
    side = image_size or STREAM_SIZE

    def stream(files: tuple[tuple[ImageSource, int], ...]) -> ImageFiles:
        return ImageFiles(
            tuple(path for path, _ in files), _labels(label for _, label in files), side, workers, bad=bad
        )

    return stream(index.train), stream(index.test)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _files(folder: Path, names: Sequence[str]) -> tuple[tuple[Path, int], ...]:
    found = []
    for label, name in enumerate(names):
        inside = [
            Path(base, file)
            for base, _, files in os.walk(folder / name, followlinks=True)
            for file in files
            if Path(file).suffix.lower() in IMAGE_SUFFIXES and not file.startswith(".")
        ]
        found += [(path, label) for path in sorted(inside)]
    return tuple(found)


def _labels(labels: Iterable[int]) -> Tensor:
    return torch.tensor(list(labels), dtype=torch.int64)


def _common_size(index: FolderIndex[ImageSource], bad: UnreadableImages) -> int | None:
    """The side of the first image of every class in pixels, where they are square, small, alike, and not too many."""
    first: dict[int, tuple[int, int]] = {}
    for path, label in index.train:
        if label not in first:
            try:
                first[label] = decode_image(path).size
            except CorruptFileError as error:
                bad.report(str(path), error)
    sizes = set(first.values())
    if len(sizes) != 1:
        return None
    ((width, height),) = sizes
    count = len(index.train) + len(index.test)
    if width != height or width > LARGEST_IN_MEMORY or 3 * width * height * count > _MOST_BYTES:
        return None
    return width


def _load(
    files: Sequence[tuple[ImageSource, int]], size: int, pool: ThreadPoolExecutor, bad: UnreadableImages
) -> ImageArray | None:
    """Decode all; None as soon as one is of another size."""
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    labels: list[int] = []
    left_out: list[str] = []
    for (path, label), image in zip(files, pool.map(_decoded, (path for path, _ in files)), strict=True):
        if isinstance(image, CorruptFileError):
            bad.report(str(path), image)
            left_out.append(str(path))
        elif image.shape != images.shape[1:]:
            pool.shutdown(wait=False, cancel_futures=True)
            return None
        else:
            images[len(labels)] = image
            labels.append(label)
    if not labels:
        raise no_image_left(len(files))
    return ImageArray(images[: len(labels)], _labels(labels), tuple(left_out))


def _decoded(source: ImageSource) -> Tensor | CorruptFileError:
    try:
        return to_bytes(decode_image(source))
    except CorruptFileError as error:
        return error
