"""Image folders: `train/<class>/*` beside `val/<class>/*` or `test/<class>/*`."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nascli.data.arrays import ImageArray, Split
from nascli.data.images import STREAM_SIZE, ImageFiles, decode_file, to_bytes
from nascli.errors import InputError

LARGEST_IN_MEMORY = 96
"""Images up to this side in pixels, all of one size, are loaded whole."""

_MOST_BYTES = 4 << 30
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
_LAYOUT = "It must hold train/<class>/*.jpg and val/<class>/*.jpg (or test/<class>/*.jpg)"


@dataclass(frozen=True)
class FolderIndex:
    """What an image folder holds: files and labels of both splits, and the names of the classes.

    Args:
        train: The training files, class by class.
        test: The files of `val/`, or of `test/` where there is no `val/`.
        class_names: The names of the folders in `train/`, sorted; a label is a position in it.
    """

    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    class_names: tuple[str, ...]


def scan_folder(folder: Path) -> FolderIndex:
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


def open_splits(index: FolderIndex, image_size: int | None, workers: int) -> tuple[Split, Split]:
    """Training and test split: in memory where the images are small and all of one size, else streamed.

    Args:
        index: The files.
        image_size: For streamed images: height and width that they get. (Those in memory keep their size.)
        workers: Processes that decode streamed images.

    Raises:
        CorruptFileError: An image cannot be decoded; the message has its path.
    """
    size = _common_size(index)
    if size is not None:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            train = _load(index.train, size, pool)
            test = _load(index.test, size, pool) if train is not None else None
        if train is not None and test is not None:
            return train, test
    return stream_splits(index, image_size, workers)


def stream_splits(index: FolderIndex, image_size: int | None, workers: int) -> tuple[Split, Split]:
    """Training and test split that stay on disk."""
    side = image_size or STREAM_SIZE

    def stream(files: tuple[tuple[Path, int], ...]) -> ImageFiles:
        return ImageFiles(tuple(path for path, _ in files), _labels(files), side, workers)

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
            if Path(file).suffix.lower() in _SUFFIXES and not file.startswith(".")
        ]
        found += [(path, label) for path in sorted(inside)]
    return tuple(found)


def _labels(files: Sequence[tuple[Path, int]]) -> Tensor:
    return torch.tensor([label for _, label in files], dtype=torch.int64)


def _common_size(index: FolderIndex) -> int | None:
    """The side of the first image of every class in pixels, where they are square, small, alike, and not too many."""
    first = {label: path for path, label in reversed(index.train)}
    sizes = {decode_file(path).size for path in first.values()}
    width, height = sizes.pop()
    count = len(index.train) + len(index.test)
    if sizes or width != height or width > LARGEST_IN_MEMORY or 3 * width * height * count > _MOST_BYTES:
        return None
    return width


def _load(files: Sequence[tuple[Path, int]], size: int, pool: ThreadPoolExecutor) -> ImageArray | None:
    """Decode all; None as soon as one is of another size."""
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    decoded = pool.map(lambda file: to_bytes(decode_file(file[0])), files)
    for position, image in enumerate(decoded):
        if image.shape != images.shape[1:]:
            pool.shutdown(wait=False, cancel_futures=True)
            return None
        images[position] = image
    return ImageArray(images, _labels(files))
