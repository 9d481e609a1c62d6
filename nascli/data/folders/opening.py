"""Listed images opened as splits: in memory where they are small and alike, else streamed."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from nascli.config import MAX_MEGAPIXELS
from nascli.data.dataset import Split, UnreadableImages, no_image_left
from nascli.data.folders.index import ImageIndex
from nascli.data.images.decoding import ImageSource, decode_image, image_to_tensor
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import STREAM_SIZE, ImageFiles
from nascli.errors import CorruptFileError

MAX_SIDE_IN_MEMORY = 96
"""Images up to this side in pixels, all of one size, are loaded whole."""

_MAX_BYTES_IN_MEMORY = 4 << 30


def open_splits(
    index: ImageIndex[ImageSource],
    image_size: int | None,
    workers: int,
    unreadable: UnreadableImages,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> tuple[Split, Split]:
    """Open both splits: in memory where the images are small and all of one size, else streamed.

    Without training images, those of `val` are both splits.

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
            first = index.train or index.val
            val = train = _load(first, size, pool.map(decode, (path for path, _ in first)), unreadable)
            if train is not None and index.train:
                val = _load(index.val, size, pool.map(decode, (path for path, _ in index.val)), unreadable)
            pool.shutdown(wait=False, cancel_futures=True)
        if train is not None and val is not None:
            return train, val
    return stream_splits(index, image_size, workers, unreadable, max_megapixels)


def stream_splits(
    index: ImageIndex[ImageSource],
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

    return stream(index.train or index.val), stream(index.val)


def _common_size(index: ImageIndex[ImageSource], unreadable: UnreadableImages, max_megapixels: int) -> int | None:
    """The side of the first image of every class in pixels, where they are square, small, alike, and not too many."""
    first: dict[int, tuple[int, int]] = {}
    for path, label in index.train or index.val:
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
