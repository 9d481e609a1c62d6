"""The pictures of a split held against its annotations: is each there, can it be read, has it the size they say?"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from PIL import Image

from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, open_picture, read_annotated, wrong_size
from nascli.data.detection.issues import Faults, Finding
from nascli.errors import CorruptFileError, InputError

Met = tuple[str, str]
"""A kind of fault, and where it is."""

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""What stands near the end of a file that was written to its end."""

_TAIL = 64  # bytes in which that is looked for
_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held
_TOGETHER = 64  # pictures that a thread looks at in one go
_MOST_READERS = 8


def check_headers(split: DetectionSplit) -> tuple[Finding, ...]:
    """Faults of the pictures, found without decoding them: seconds for ten thousands of files.

    A file is opened for its size, and its end is looked at; where that looks cut off, it is decoded to be sure.
    """
    return _check(split, _fault_of_header)


def check_pixels(split: DetectionSplit) -> tuple[Finding, ...]:
    """Faults of the pictures, each decoded whole."""
    return _check(split, _fault_of_pixels)


def _check(split: DetectionSplit, look: Callable[[AnnotatedImage], Met | None]) -> tuple[Finding, ...]:
    faults = Faults()
    there: list[AnnotatedImage] = []
    listed: dict[Path, frozenset[str]] = {}
    for image in split.images:
        folder = image.path.parent
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        if image.path.name in listed[folder]:
            there.append(image)
        else:
            faults.add("picture not on disk", f"image id {image.id} is not on disk: {image.path}")
    parts = [there[start : start + _TOGETHER] for start in range(0, len(there), _TOGETHER)]

    def look_at(part: Sequence[AnnotatedImage]) -> Iterable[Met | None]:
        return [look(image) for image in part]

    with ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1)) as readers:
        for met in readers.map(look_at, parts):
            for each in met:
                if each is not None:
                    faults.add(*each)
    return faults.findings


def _fault_of_header(image: AnnotatedImage) -> Met | None:
    wanted = (image.width, image.height)
    try:
        with image.path.open("rb") as file, Image.open(file) as picture:
            size = picture.size
            if size != wanted and picture.getexif().get(_ORIENTATION, 1) >= 5:  # lying on its side
                size = size[::-1]
            whole = _ENDS.get(picture.format or "", b"") in _tail(file)
        if not whole:
            open_picture(image.path)
    except CorruptFileError as error:
        return "picture cannot be read", f"image id {image.id}: {error.message}"
    except Exception as error:  # decoders raise whatever their format makes them raise
        return "picture cannot be read", f"image id {image.id}: image {image.path} cannot be read: {error}"
    return None if size == wanted else ("picture of another size", wrong_size(image, size))


def _fault_of_pixels(image: AnnotatedImage) -> Met | None:
    try:
        read_annotated(image)
    except CorruptFileError as error:
        return "picture cannot be read", f"image id {image.id}: {error.message}"
    except InputError as error:
        return "picture of another size", error.message
    return None


def _tail(file: IO[bytes]) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return file.read()
