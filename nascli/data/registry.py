"""Data sets by name."""

import contextlib
import fcntl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import DataConfig, Preprocessing, suggestion
from nascli.data.decoding import ImageSource
from nascli.data.folder import FolderIndex, open_splits, scan_folder, stream_splits
from nascli.data.in_memory import Colour, ImageArray, Split, measure_colours, split_holdout
from nascli.data.pack.format import open_pack
from nascli.data.streaming import ImageFiles, UnreadableImages, worker_count
from nascli.errors import CorruptFileError, InputError, NascliError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

FOLDER_PREFIX = "folder:"
PACK_PREFIX = "pack:"

MORE_BAD = "--set data.max_unreadable_images=N"
"""How a person allows for more images that cannot be decoded, where a recipe says how many."""

_DIGITS_SIDE = 16
_DIGITS_TEST = 0.2
_DIGITS_SEED = 0
_PART_SEED = 0
"""Of the draw that `train_images` makes; the same for every run, so that all see the same images."""
_MIDDLE: Colour = (0.5, 0.5, 0.5)
"""Mean and standard deviation that take streamed images to [-1, 1], as in the released code."""
_MOST_BYTES = 8 << 30
_WHOLE = Preprocessing(resize="both_sides", crop=1, interpolation="bilinear")
"""What is done to images in memory that are of another size."""


@dataclass(frozen=True)
class ImageData:
    """A classification data set: what is trained on, what is tested on, and what the labels mean.

    Args:
        name: As the person gave it.
        train: The training split.
        test: The split that accuracy is measured on.
        class_names: One a label, in order.
        mean: Of each colour, 0 to 1, for normalising.
        std: Standard deviation of each colour, for normalising.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: Colour
    std: Colour

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.train.image_size

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def preprocessing(self) -> Preprocessing:
        """How test images are brought to their size in evaluation."""
        return self.test.preprocessing if isinstance(self.test, ImageFiles) else _WHOLE

    def among(self, class_names: tuple[str, ...]) -> "ImageData":
        """The same images, their classes being some of these: a label becomes the position of its class in them."""
        places = torch.tensor([class_names.index(name) for name in self.class_names])
        train, test = (_labelled(split, places[split.labels]) for split in (self.train, self.test))
        return replace(self, train=train, test=test, class_names=class_names)


def load_dataset(
    config: DataConfig,
    image_size: int | None = None,
    stream_size: int | None = None,
    preprocessing: Preprocessing | None = None,
    more_bad: str = MORE_BAD,
) -> ImageData:
    """The data set that `config.dataset` names.

    Args:
        config: Name, place, the number of decoding processes, and of bad images that may be left out.
        image_size: Height and width in pixels that its images are brought to; None leaves them at their own size.
        stream_size: What streamed images get where `image_size` is None; they have no size of their own. None is 224.
        preprocessing: How streamed images are brought to that size in evaluation; None is the default. (Those in memory
            have their size already or get it whole, by bilinear interpolation: a crop does not apply to them.)
        more_bad: How a person allows for more images that cannot be decoded, for the last words of that error.

    Raises:
        InputError: The name is unknown, or the data are not there and cannot be downloaded; the message says where
            to put them.
        CorruptFileError: A file is damaged; the message has its path.
    """
    name, prefix, _ = config.dataset.partition(":")
    source = DATASETS.get(name + prefix)
    if source is None:
        raise InputError(
            f"data set {config.dataset!r} is unknown",
            suggestion(config.dataset, [*list(DATASETS)[:-2], "folder:PATH", "pack:FILE.h5"]),
        )
    data = source(config, image_size or stream_size, UnreadableImages(config.max_unreadable_images, more_bad))
    if preprocessing is not None:
        data = replace(data, train=_prepared(data.train, preprocessing), test=_prepared(data.test, preprocessing))
    if 0 < config.train_images < len(data.train):
        _, part = split_holdout(data.train, config.train_images / len(data.train), _PART_SEED)
        data = replace(data, train=part)
    return data if image_size in (None, data.image_size) else _resized(data, image_size or 0)


def _digits(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged so that three stages have room.

    A fifth of every class, always the same images, is the test split.
    """
    from sklearn import datasets

    raw = datasets.load_digits()
    grey = torch.from_numpy(raw.images).float().unsqueeze(1) * (255 / 16)  # (N, 1, 8, 8), from 0 to 16 to bytes
    images = _scaled(grey, _DIGITS_SIDE).expand(-1, 3, -1, -1).contiguous()  # (N, 3, 16, 16)
    every = ImageArray(images, torch.from_numpy(raw.target).long())
    train, test = split_holdout(every, _DIGITS_TEST, _DIGITS_SEED)
    return _in_memory("digits", train, test, tuple("0123456789"))


def _cifar10(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    from torchvision.datasets import CIFAR10

    return _cifar(config, CIFAR10)


def _cifar100(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    from torchvision.datasets import CIFAR100

    return _cifar(config, CIFAR100)


def _folder(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    path = config.dataset.removeprefix(FOLDER_PREFIX)
    if not path:
        raise InputError("data set 'folder:' names no folder", "Write folder:PATH")
    return _opened(config, scan_folder(Path(path).expanduser()), stream_size, bad)


def _pack(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    path = config.dataset.removeprefix(PACK_PREFIX)
    if not path:
        raise InputError("data set 'pack:' names no file", "Write pack:FILE.h5; nascli pack makes one")
    return _opened(config, open_pack(Path(path).expanduser()).index(), stream_size, bad)


def _opened(
    config: DataConfig, index: FolderIndex[ImageSource], stream_size: int | None, bad: UnreadableImages
) -> ImageData:
    """In memory or streamed, whichever suits the images."""
    train, test = open_splits(index, stream_size, worker_count(config.workers), bad)
    if isinstance(train, ImageArray) and isinstance(test, ImageArray):
        return _in_memory(config.dataset, train, test, index.class_names)
    return ImageData(config.dataset, train, test, index.class_names, _MIDDLE, _MIDDLE)


def _imagenet(config: DataConfig, stream_size: int | None, bad: UnreadableImages) -> ImageData:
    folder = Path(config.data_dir).expanduser() / "imagenet"
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise InputError(
                f"data set imagenet: {folder / part}: no such folder",
                f"Put the images at {folder}/train/<class>/*.JPEG and {folder}/val/<class>/*.JPEG, or give --data-dir",
            )
    index = scan_folder(folder)
    train, test = stream_splits(index, stream_size, worker_count(config.workers), bad)
    return ImageData("imagenet", train, test, index.class_names, _MIDDLE, _MIDDLE)


DATASETS: dict[str, Callable[[DataConfig, int | None, UnreadableImages], ImageData]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "imagenet": _imagenet,
    FOLDER_PREFIX: _folder,
    PACK_PREFIX: _pack,
}


def _cifar(config: DataConfig, source: "type[CIFAR10]") -> ImageData:
    root = Path(config.data_dir).expanduser()
    try:
        with contextlib.suppress(RuntimeError):  # what is there is used as it is; the folder may be read-only
            return _from_cifar(config.dataset, source(root, train=True), source(root, train=False))
        with _one_at_a_time(root), contextlib.redirect_stdout(sys.stderr):
            return _from_cifar(config.dataset, source(root, train=True, download=True), source(root, train=False))
    except (OSError, RuntimeError) as error:
        raise _no_cifar(config.dataset, root, source, error) from error


def _from_cifar(name: str, train: "CIFAR10", test: "CIFAR10") -> ImageData:
    return _in_memory(name, _cifar_array(train), _cifar_array(test), tuple(train.classes))


def _cifar_array(source: "CIFAR10") -> ImageArray:
    return ImageArray(torch.from_numpy(source.data).permute(0, 3, 1, 2), torch.tensor(source.targets))


def _no_cifar(name: str, root: Path, source: "type[CIFAR10]", error: Exception) -> NascliError:
    """The download failed: either nothing is there, or what is there has not the published checksums."""
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
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Only one process at a time downloads to `root`; the others wait and find the files there."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _in_memory(name: str, train: ImageArray, test: ImageArray, class_names: tuple[str, ...]) -> ImageData:
    mean, std = measure_colours(train.images)
    return ImageData(name, _colours_last(train), _colours_last(test), class_names, mean, std)


def _colours_last(split: ImageArray) -> ImageArray:
    """The same images, laid out as they are augmented quickest."""
    return replace(split, images=split.images.contiguous(memory_format=torch.channels_last))


def _prepared(split: Split, preprocessing: Preprocessing) -> Split:
    return replace(split, preprocessing=preprocessing) if isinstance(split, ImageFiles) else split


def _labelled(split: Split, labels: Tensor) -> Split:
    assert isinstance(split, ImageArray | ImageFiles)
    return replace(split, labels=labels)


def _resized(data: ImageData, side: int) -> ImageData:
    """The same data with images of another size; only those in memory come here."""
    train, test = data.train, data.test
    assert isinstance(train, ImageArray)
    assert isinstance(test, ImageArray)
    size = 3 * side * side * (len(train) + len(test))
    if size > _MOST_BYTES:
        raise InputError(
            f"data set {data.name} at {side} pixels would take {size / 2**30:.0f} GiB of memory",
            f"Its images have {data.image_size} pixels; leave out network.image_size",
        )
    return replace(
        data,
        train=replace(train, images=_scaled(train.images, side)),
        test=replace(test, images=_scaled(test.images, side)),
    )


def _scaled(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W), bytes or numbers from 0 to 255, to bytes (N, C, side, side) by bilinear interpolation."""
    parts = [
        F.interpolate(part.float(), size=(side, side), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for part in torch.split(images, 4096)
    ]
    return torch.cat(parts)
