"""Classification data sets: two splits of labeled images, in memory or streamed; images that cannot be decoded."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from nascli.config import Preprocessing
from nascli.data.issues import Issue
from nascli.errors import CorruptFileError
from nascli.units import count_of

ByteBatch = tuple[Tensor, Tensor]
"""Images uint8 (N, 3, H, W) and labels int64 (N,)."""

Color = tuple[float, float, float]
"""A number for each of red, green and blue."""


class Split(Protocol):
    """Labeled images that a training or an evaluation reads batch by batch."""

    @property
    def labels(self) -> Tensor:
        """The class of each image: int64 (N,)."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the images in a batch."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing and cropping of images in evaluation."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that cannot be decoded, as far as they were met."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Self:
        """The images at these positions, in this order."""

    def relabel(self, labels: Tensor) -> Self:
        """The same images with other labels, int64 (N,)."""

    def to(self, device: torch.device) -> Self:
        """The split with whatever it keeps in memory on `device`."""

    def training_batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[ByteBatch]:
        """Batches for training: the images at positions `order`; random numbers follow from `seed`."""

    def evaluation_batches(self, batch_size: int) -> Iterator[ByteBatch]:
        """Every image once, in order, nothing random; the last batch may be smaller."""


AnySplit = TypeVar("AnySplit", bound=Split)


@dataclass(frozen=True)
class ImageData:
    """A classification data set.

    Args:
        name: As the user gave it.
        val: The split that accuracy is measured on. In a search it is held out of the training split.
        test: With a `val` that is held out of the data's training split, their own split for the end; else None.
        test_name: The name that the data set itself gives to `test`.
        class_names: One per label, in order.
        mean: Per color, 0 to 1, for normalization.
        std: Standard deviation per color, for normalization.
        val_name: The name that the data set itself gives to `val`: "test" where it is the published test split.
        unused: Names of further splits of the data set.
        issues: Everything that was passed over, skipped or read leniently.
    """

    name: str
    train: Split
    val: Split
    class_names: tuple[str, ...]
    mean: Color
    std: Color
    val_name: str = "val"
    unused: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()
    test: Split | None = None
    test_name: str = ""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.train.image_size

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing and cropping of images in evaluation."""
        return self.val.preprocessing

    def map_splits(self, change: Callable[[Split], Split]) -> "ImageData":
        """The data with all splits changed alike."""
        test = None if self.test is None else change(self.test)
        return replace(self, train=change(self.train), val=change(self.val), test=test)

    def to(self, device: torch.device) -> "ImageData":
        """The data with whatever they keep in memory on `device`."""
        return self.map_splits(lambda split: split.to(device))

    def among(self, class_names: tuple[str, ...]) -> "ImageData":
        """The same images as some of these classes: a label becomes the position of its class in `class_names`."""
        places = torch.tensor([class_names.index(name) for name in self.class_names])
        return replace(self.map_splits(lambda split: split.relabel(places[split.labels])), class_names=class_names)


@dataclass(eq=False)
class UnreadableImages:
    """Images that cannot be decoded: each is reported once, and more than are allowed end the run.

    Args:
        allowed: How many are skipped; with 0 the first one ends the run.
        option: The option or key that allows more, for the error's last words; may be empty.
        log: Called with one line per skipped image; by default Python's `logging` gets a warning.
    """

    allowed: int = 0
    option: str = ""
    log: Callable[[str], None] = logging.getLogger(__name__).warning
    _found: dict[str, CorruptFileError] = field(default_factory=dict, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of those found so far, in the order in which they were found."""
        return tuple(self._found)

    def report(self, name: str, error: CorruptFileError) -> None:
        """Count the image of this name, unless it is counted already.

        Raises:
            CorruptFileError: With it there are more than are allowed; the message names them all.
        """
        known = name in self._found
        self._found[name] = error
        if len(self._found) > self.allowed:
            message = f"{count_of(len(self._found), 'image')} cannot be decoded, {self.allowed} may be skipped: "
            message = message + ", ".join(self._found) if self.allowed else error.message
            hint = f"{error.hint}, or allow for more: {self.option}" if self.option else error.hint
            raise error.reword(message, hint) from error
        if not known:
            self.log(f"warning: {error.message}; it is skipped ({len(self._found)} of {self.allowed} allowed)")


def no_image_left(count: int) -> CorruptFileError:
    """The error where none of the `count` images of a split can be decoded, though so many may be skipped."""
    return CorruptFileError(f"none of the {count} images of a split can be decoded", "nascli data check says why")


def split_holdout(split: AnySplit, fraction: float, seed: int) -> tuple[AnySplit, AnySplit]:
    """Hold a random part of every class out.

    Args:
        fraction: Part to hold out, in (0, 1); of each class at least one image, and at least one stays.

    Returns:
        (training part, held-out part), each in the order of `split`. A class with one image keeps it.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = split.labels.cpu()
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().squeeze(1)
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.take((~held).nonzero().squeeze(1)), split.take(held.nonzero().squeeze(1))
