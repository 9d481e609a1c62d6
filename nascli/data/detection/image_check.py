"""Checks of a split's images against its annotations: each on disk, readable, and of the size they say."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from PIL import Image

from nascli.data.decoding import ORIENTATION
from nascli.data.detection.dataset import (
    AnnotatedImage,
    DetectionSplit,
    describe_size_mismatch,
    open_image,
    read_annotated_image,
)
from nascli.data.detection.issues import Issue, IssueLog
from nascli.errors import CorruptFileError, InputError

_Found = tuple[str, str]
"""A kind of issue, and its place in words."""

_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""Bytes near the end of a file that was written to its end."""

_TAIL = 64  # bytes in which the mark is looked for
_CHUNK = 64  # images per task of a thread
_MAX_READERS = 8


def check_headers(split: DetectionSplit) -> tuple[Issue, ...]:
    """Check images without decoding them: seconds for ten thousands of files.

    A file is opened for its size, and its end is looked at; where that seems cut off, it is decoded to be sure.
    """
    return _check(split, _find_header_issue)


def check_pixels(split: DetectionSplit) -> tuple[Issue, ...]:
    """Check images by decoding each of them."""
    return _check(split, _find_pixel_issue)


def _check(split: DetectionSplit, find_issue: Callable[[AnnotatedImage], _Found | None]) -> tuple[Issue, ...]:
    log = IssueLog()
    present: list[AnnotatedImage] = []
    listed: dict[Path, frozenset[str]] = {}  # one listing per folder is much faster than a stat per file
    for image in split.images:
        folder = image.path.parent
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        if image.path.name in listed[folder]:
            present.append(image)
        else:
            log.add("image not on disk", f"image id {image.id} is not on disk: {image.path}")

    def check_chunk(chunk: Sequence[AnnotatedImage]) -> Iterable[_Found | None]:
        return [find_issue(image) for image in chunk]

    chunks = [present[start : start + _CHUNK] for start in range(0, len(present), _CHUNK)]
    with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as readers:
        for found in readers.map(check_chunk, chunks):
            for each in filter(None, found):
                log.add(*each)
    return log.issues


def _find_header_issue(image: AnnotatedImage) -> _Found | None:
    expected = (image.width, image.height)
    try:
        with image.path.open("rb") as file, Image.open(file) as opened:
            size = opened.size
            if size != expected and opened.getexif().get(ORIENTATION, 1) >= 5:  # the camera lay on its side
                size = size[::-1]
            complete = _END_MARKS.get(opened.format or "", b"") in _read_tail(file)
        if not complete:
            open_image(image.path)
    except CorruptFileError as error:
        return "image cannot be read", f"image id {image.id}: {error.message}"
    except Exception as error:  # decoders raise whatever their format makes them raise
        return "image cannot be read", f"image id {image.id}: image {image.path} cannot be read: {error}"
    return None if size == expected else ("image of another size", describe_size_mismatch(image, size))


def _find_pixel_issue(image: AnnotatedImage) -> _Found | None:
    try:
        read_annotated_image(image)
    except CorruptFileError as error:
        return "image cannot be read", f"image id {image.id}: {error.message}"
    except InputError as error:
        return "image of another size", error.message
    return None


def _read_tail(file: IO[bytes]) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return file.read()
