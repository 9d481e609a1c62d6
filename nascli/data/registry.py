"""Classification data sets by name."""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nascli.config import DATASETS, DETECTION_DATASETS, DataConfig, Preprocessing, find_dataset, suggestion
from nascli.data.dataset import Color, ImageData, Split, UnreadableImages, split_holdout
from nascli.data.folders.folder import scan_folder
from nascli.data.folders.index import HELD_OUT, ImageIndex, SplitRequest
from nascli.data.folders.labels import scan_table
from nascli.data.folders.opening import open_splits, stream_splits
from nascli.data.folders.recognize import recognize_dataset
from nascli.data.images.decoding import ImageSource
from nascli.data.images.walk import describe_absence
from nascli.data.in_memory import ImageArray, measure_colors, resize_images
from nascli.data.issues import raise_if_refused
from nascli.data.pack.format import open_pack
from nascli.data.streaming import ImageFiles, worker_count
from nascli.data.toy import load_digits
from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.files import make_folder
from nascli.locks import lock_folder
from nascli.reading import expand_home
from nascli.seeding import derive_seed

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
    measured: bool
    holdout_seed: int | None

    @property
    def splits(self) -> SplitRequest:
        """The splits that are asked for."""
        config = self.config
        return SplitRequest(
            config.val_split,
            config.val_fraction,
            self.measured,
            config.max_unreadable_images,
            holds_out=self.holds_out,
        )

    @property
    def holds_out(self) -> bool:
        """Whether `val_fraction` holds although the data have a split of their own to measure on."""
        return self.measured or self.holdout_seed is not None

    def refuse_splits(self, own: str) -> None:
        """InputError where others are asked for than those that the data set comes with."""
        config = self.config
        if config.val_split not in (None, own) or (config.val_fraction and (config.val_split or not self.holds_out)):
            raise InputError(
                f"data set {config.dataset} has splits of its own, and --val-split or --val-fraction is given",
                f"Leave it out: {own} is validated on",
            )


def load_dataset(
    config: DataConfig,
    image_size: int | None = None,
    stream_size: int | None = None,
    preprocessing: Preprocessing | None = None,
    allow_option: str = ALLOW_UNREADABLE,
    *,
    measured: bool = False,
    holdout_seed: int | None = None,
) -> ImageData:
    """Load the data set that `config.dataset` names, or that lies at this path.

    Args:
        image_size: Height and width in pixels that its images are brought to; None leaves them at their own size.
        stream_size: What streamed images get where `image_size` is None; they have no size of their own. None is 224.
        preprocessing: How streamed images are brought to that size in evaluation; None is the default. (Those in memory
            have their size already or are resized whole, by bilinear interpolation: a crop does not apply to them.)
        allow_option: The option that allows more unreadable images; the hint of that error names it.
        measured: A trained network is measured: where there are no training images, `train` is `val`.
        holdout_seed: With it `config.val_fraction` of the training images are `val` whatever other splits the data
            have, and their own is `test`; which images follows from it.

    Raises:
        InputError: The name is unknown, or the data are not there and cannot be downloaded; the message says where
            to put them.
        CorruptFileError: A file is damaged; the message has its path.
    """
    config = config.model_copy(update={"dataset": name_dataset(config.dataset)})
    known, (_, colon, location) = find_dataset(config.dataset, LOADERS), config.dataset.partition(":")
    assert known is not None
    if colon and not location:
        raise InputError(f"data set {config.dataset!r}: nothing follows the colon", f"Write {known}: {DATASETS[known]}")
    unreadable = UnreadableImages(config.max_unreadable_images, allow_option)
    data = LOADERS[known](_Request(config, location, image_size or stream_size, unreadable, measured, holdout_seed))
    if preprocessing is not None:
        data = data.map_splits(
            lambda split: replace(split, preprocessing=preprocessing) if isinstance(split, ImageFiles) else split
        )
    if 0 < config.max_train_images < len(data.train):
        _, subset = split_holdout(data.train, config.max_train_images / len(data.train), _SUBSET_SEED)
        data = replace(data, train=subset)
    return data if image_size in (None, data.image_size) else _resize(data, image_size or 0)


def name_dataset(name: str) -> str:
    """The full name of a data set: the same, or for the path of a file or folder the name that says how it is read.

    Raises:
        InputError: It is none for classification; the message says what it is.
    """
    if find_dataset(name, DATASETS):
        return name
    path = expand_home(name)
    if os.path.exists(path):
        return recognize_dataset(path)
    if find_dataset(name, DETECTION_DATASETS):
        raise InputError(f"data set {name} is one of boxes", f"nascli detect train --dataset {name} takes it")
    is_path = path.suffix or path.is_symlink() or path.name != name
    absent = f", and as a path: {describe_absence(path)}" if is_path else ""
    raise InputError(f"data set {name!r} is unknown{absent}", suggestion(name, DATASETS))


def _load_digits(request: _Request) -> ImageData:
    request.refuse_splits("test")
    train, test = load_digits()
    return _hold_out(request, _in_memory("digits", train, test, tuple("0123456789"), "test"))


def _load_cifar(request: _Request) -> ImageData:
    from torchvision import datasets

    request.refuse_splits("test")
    name, root = request.config.dataset, expand_home(request.config.data_dir)
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
    return _hold_out(request, _in_memory(name, train, test, tuple(splits[0].classes), "test"))


def _load_imagenet(request: _Request) -> ImageData:
    folder = expand_home(request.config.data_dir) / "imagenet"
    for part in ("val",) if request.measured else ("train", "val"):
        if not os.path.isdir(folder / part):
            raise InputError(
                f"data set imagenet: {folder / part}: no such folder",
                f"Put the images at {folder}/train/<class>/*.JPEG and {folder}/val/<class>/*.JPEG, or give --data-dir",
            )
    return _open_scanned(request, scan_folder(folder, request.splits), stream=True)


def _load_folder(request: _Request) -> ImageData:
    return _open_scanned(request, scan_folder(expand_home(request.location), request.splits))


def _load_table(request: _Request) -> ImageData:
    return _open_scanned(request, scan_table(expand_home(request.location), request.splits))


def _load_pack(request: _Request) -> ImageData:
    index = open_pack(expand_home(request.location)).index()
    request.refuse_splits(index.val_name)
    return _hold_out(request, _open_index(request, index))


LOADERS: dict[str, Callable[[_Request], ImageData]] = {
    "digits": _load_digits,
    "cifar10": _load_cifar,
    "cifar100": _load_cifar,
    "imagenet": _load_imagenet,
    "folder:PATH": _load_folder,
    "csv:FILE": _load_table,
    "pack:FILE.h5": _load_pack,
}
"""The loader of each of `nascli.config.DATASETS`; what follows a colon there stands for the location."""


def _open_scanned(request: _Request, index: ImageIndex[ImageSource], *, stream: bool = False) -> ImageData:
    """The data of an index that may have held a part out already, where no split was there to measure on."""
    data = _open_index(request, index, stream=stream)
    return data if index.val_name == HELD_OUT else _hold_out(request, data)


def _hold_out(request: _Request, data: ImageData) -> ImageData:
    """The same data, but for the part of the training images that is asked for, which is validated on.

    The split that the data have themselves is for the end. Colors are measured anew, on what is left to train on.
    """
    fraction, seed = request.config.val_fraction, request.holdout_seed
    if not fraction or seed is None:
        return data
    train, val = split_holdout(data.train, fraction, derive_seed(seed, "validation"))
    mean, std = data.mean, data.std
    if isinstance(train, ImageArray) and isinstance(val, ImageArray):
        mean, std = measure_colors(train.images)
        train, val = train.channels_last(), val.channels_last()
    return replace(
        data, train=train, val=val, val_name=HELD_OUT, mean=mean, std=std, test=data.val, test_name=data.val_name
    )


def _open_index(request: _Request, index: ImageIndex[ImageSource], *, stream: bool = False) -> ImageData:
    """In memory or streamed, whichever suits the images, or streamed in any case."""
    config, open_them = request.config, stream_splits if stream else open_splits
    raise_if_refused(config.dataset, index.issues, strict=config.strict, lister="nascli data check")
    workers = worker_count(config.workers)
    train, val = open_them(index, request.stream_size, workers, request.unreadable, config.max_megapixels)
    name, classes = config.dataset, index.class_names
    if isinstance(train, ImageArray) and isinstance(val, ImageArray):
        data = _in_memory(name, train, val, classes, index.val_name)
    else:
        data = ImageData(name, train, val, classes, _HALF, _HALF, index.val_name)
    return replace(data, unused=index.unused, issues=index.issues)


def _in_memory(name: str, train: ImageArray, val: ImageArray, class_names: tuple[str, ...], val_name: str) -> ImageData:
    mean, std = measure_colors(train.images)
    return ImageData(name, train.channels_last(), val.channels_last(), class_names, mean, std, val_name)


def _no_cifar(name: str, root: Path, source: "type[CIFAR10]", error: Exception) -> NascliError:
    """The error of a failed download: either nothing is there, or what is there has other checksums than published."""
    reason = f"{type(error).__name__}: {error}"
    remedy = f"Put {source.filename} (from {source.url}) into {root}/; it is unpacked there"
    for present in (root / source.base_folder, root / source.filename):
        if os.path.exists(present):
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
    make_folder(root)
    with lock_folder(root, patience=math.inf):
        yield


def _resize(data: ImageData, side: int) -> ImageData:
    """The same data, which are in memory, with images of another size."""
    size = 3 * side * side * (len(data.train) + len(data.val) + len(data.test or ()))
    if size > _MAX_BYTES:
        raise InputError(
            f"data set {data.name} at {side} pixels would take {size / 2**30:.0f} GiB of memory",
            f"Its images have {data.image_size} pixels; leave out network.image_size",
        )

    def resize(split: Split) -> Split:
        assert isinstance(split, ImageArray)
        return replace(split, images=resize_images(split.images, side))

    return data.map_splits(resize)
