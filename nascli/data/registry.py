"""Classification data sets by name."""

import contextlib
import fcntl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nascli.config import DATASETS, DataConfig, Preprocessing, suggestion
from nascli.data.dataset import Color, ImageData, Split, UnreadableImages, ValName, split_holdout
from nascli.data.decoding import ImageSource
from nascli.data.folder import FolderIndex, open_splits, scan_folder, stream_splits
from nascli.data.in_memory import ImageArray, measure_colors, resize_images
from nascli.data.pack.format import open_pack
from nascli.data.streaming import ImageFiles, worker_count
from nascli.data.toy import load_digits
from nascli.errors import CorruptFileError, InputError, NascliError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

ALLOW_UNREADABLE = "--set data.max_unreadable_images=N"
"""The option that allows more images that cannot be decoded, where a recipe says how many."""

_MAX_BYTES = 8 << 30
"""Largest data set that is resized in memory."""
_SUBSET_SEED = 0
"""Seed of the subset of `max_train_images`; equal for all runs, so that they see the same images."""
_HALF: Color = (0.5, 0.5, 0.5)
"""Mean and standard deviation that take streamed images to [-1, 1], as in the released code."""


@dataclass(frozen=True)
class _Request:
    """A data set to load.

    Args:
        location: What follows the colon of the data set's name.
        stream_size: Height and width of streamed images in pixels; None is the default.
    """

    config: DataConfig
    location: str
    stream_size: int | None
    unreadable: UnreadableImages


def load_dataset(
    config: DataConfig,
    image_size: int | None = None,
    stream_size: int | None = None,
    preprocessing: Preprocessing | None = None,
    allow_option: str = ALLOW_UNREADABLE,
) -> ImageData:
    """Load the data set that `config.dataset` names.

    Args:
        image_size: Height and width in pixels that its images are brought to; None leaves them at their own size.
        stream_size: What streamed images get where `image_size` is None; they have no size of their own. None is 224.
        preprocessing: How streamed images are brought to that size in evaluation; None is the default. (Those in memory
            have their size already or are resized whole, by bilinear interpolation: a crop does not apply to them.)
        allow_option: The option that allows more unreadable images; the hint of that error names it.

    Raises:
        InputError: The name is unknown, or the data are not there and cannot be downloaded; the message says where
            to put them.
        CorruptFileError: A file is damaged; the message has its path.
    """
    name, colon, location = config.dataset.partition(":")
    known = next((known for known in LOADERS if known.partition(":")[:2] == (name, colon)), None)
    if known is None:
        raise InputError(f"data set {config.dataset!r} is unknown", suggestion(config.dataset, DATASETS))
    if colon and not location:
        raise InputError(f"data set {config.dataset!r}: nothing follows the colon", f"Write {known}: {DATASETS[known]}")
    unreadable = UnreadableImages(config.max_unreadable_images, allow_option)
    data = LOADERS[known](_Request(config, location, image_size or stream_size, unreadable))
    if preprocessing is not None:
        data = data.map_splits(
            lambda split: replace(split, preprocessing=preprocessing) if isinstance(split, ImageFiles) else split
        )
    if 0 < config.max_train_images < len(data.train):
        _, subset = split_holdout(data.train, config.max_train_images / len(data.train), _SUBSET_SEED)
        data = replace(data, train=subset)
    return data if image_size in (None, data.image_size) else _resize(data, image_size or 0)


def _load_digits(request: _Request) -> ImageData:
    train, test = load_digits()
    return _in_memory("digits", train, test, tuple("0123456789"), "test")


def _load_cifar(request: _Request) -> ImageData:
    from torchvision import datasets

    name, root = request.config.dataset, Path(request.config.data_dir).expanduser()
    source: type[CIFAR10] = getattr(datasets, name.upper())
    try:
        try:  # files that are there are used as they are; the folder may be read-only
            splits = source(root, train=True), source(root, train=False)
        except RuntimeError:
            with _lock(root), contextlib.redirect_stdout(sys.stderr):
                splits = source(root, train=True, download=True), source(root, train=False)
    except (OSError, RuntimeError) as error:
        raise _no_cifar(name, root, source, error) from error
    train, test = (
        ImageArray(torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets)) for split in splits
    )
    return _in_memory(name, train, test, tuple(splits[0].classes), "test")


def _load_imagenet(request: _Request) -> ImageData:
    folder = Path(request.config.data_dir).expanduser() / "imagenet"
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise InputError(
                f"data set imagenet: {folder / part}: no such folder",
                f"Put the images at {folder}/train/<class>/*.JPEG and {folder}/val/<class>/*.JPEG, or give --data-dir",
            )
    index = scan_folder(folder)
    config = request.config
    workers = worker_count(config.workers)
    train, val = stream_splits(index, request.stream_size, workers, request.unreadable, config.max_megapixels)
    return ImageData("imagenet", train, val, index.class_names, _HALF, _HALF)


def _load_folder(request: _Request) -> ImageData:
    return _open_index(request, scan_folder(Path(request.location).expanduser()))


def _load_pack(request: _Request) -> ImageData:
    return _open_index(request, open_pack(Path(request.location).expanduser()).index())


LOADERS: dict[str, Callable[[_Request], ImageData]] = {
    "digits": _load_digits,
    "cifar10": _load_cifar,
    "cifar100": _load_cifar,
    "imagenet": _load_imagenet,
    "folder:PATH": _load_folder,
    "pack:FILE.h5": _load_pack,
}
"""The loader of each of `nascli.config.DATASETS`; what follows a colon there stands for the location."""


def _open_index(request: _Request, index: FolderIndex[ImageSource]) -> ImageData:
    """In memory or streamed, whichever suits the images."""
    name, config = request.config.dataset, request.config
    workers = worker_count(config.workers)
    train, val = open_splits(index, request.stream_size, workers, request.unreadable, config.max_megapixels)
    if isinstance(train, ImageArray) and isinstance(val, ImageArray):
        return _in_memory(name, train, val, index.class_names, index.val_name)
    return ImageData(name, train, val, index.class_names, _HALF, _HALF, index.val_name)


def _in_memory(
    name: str, train: ImageArray, val: ImageArray, class_names: tuple[str, ...], val_name: ValName
) -> ImageData:
    mean, std = measure_colors(train.images)
    return ImageData(name, train.channels_last(), val.channels_last(), class_names, mean, std, val_name)


def _no_cifar(name: str, root: Path, source: "type[CIFAR10]", error: Exception) -> NascliError:
    """The error of a failed download: either nothing is there, or what is there has other checksums than published."""
    reason = f"{type(error).__name__}: {error}"
    remedy = f"Put {source.filename} (from {source.url}) into {root}/; it is unpacked there"
    for present in (root / source.base_folder, root / source.filename):
        if present.exists():
            return CorruptFileError(
                f"data set {name}: {present} is damaged (wrong checksum), and downloading it again failed ({reason})",
                f"Remove it. {remedy}",
            )
    return InputError(
        f"data set {name}: {root / source.base_folder} does not exist, and downloading it failed ({reason})", remedy
    )


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Let one process at a time download to `root`; the others wait."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resize(data: ImageData, side: int) -> ImageData:
    """The same data, which are in memory, with images of another size."""
    size = 3 * side * side * (len(data.train) + len(data.val))
    if size > _MAX_BYTES:
        raise InputError(
            f"data set {data.name} at {side} pixels would take {size / 2**30:.0f} GiB of memory",
            f"Its images have {data.image_size} pixels; leave out network.image_size",
        )

    def resize(split: Split) -> Split:
        assert isinstance(split, ImageArray)
        return replace(split, images=resize_images(split.images, side))

    return data.map_splits(resize)
