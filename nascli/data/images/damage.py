"""Damage of image files that decoders pass over: they fill what is missing with gray, or with black."""

import io
import os
from typing import BinaryIO

from PIL import Image, ImageChops

_TAIL = 64
"""Bytes at the end of a JPEG or PNG that hold its end mark, unless something was appended to a whole file."""
_JPEG = ("JPEG", "MPO")
_MARKS = {**dict.fromkeys(_JPEG, (b"\xff\xda", b"\xff\xd9")), "PNG": (b"IDAT", b"IEND")}
"""The bytes before the pixels of a compressed format, and those behind them."""
_FILLED = 128
"""The gray in which libjpeg shows a block that is missing."""
_STRIP = 1024
"""Rows that are compared at a time, to save memory."""
_LARGEST = 512 << 20
"""Bytes of a file up to which zeros at its end may have been appended to a whole one."""
_PADDING = 256
"""Bytes that turn missing blocks into others."""


def ends_in_zeros(file: BinaryIO, image_format: str | None) -> bool:
    """Whether a JPEG or PNG ends in zeros, and not in zeros that were appended to a whole file."""
    if image_format not in _MARKS:
        return False
    start = file.tell()
    damaged = not _read_tail(file).strip(b"\0") and (
        file.seek(0, os.SEEK_END) > _LARGEST or _find_end(_read_whole(file), image_format) < 0
    )
    file.seek(start)
    return damaged


def has_end(file: BinaryIO, image_format: str | None) -> bool:
    """Whether a file was plainly written to its end; true for formats that have no mark there."""
    return _MARKS.get(image_format or "", (b"", b""))[1] in _read_tail(file)


def may_lack_rows(last_pixel: object) -> bool:
    """Whether the last pixel of a JPEG, a number or several, is the gray of a missing block; few others are."""
    values = last_pixel if isinstance(last_pixel, tuple | list) else (last_pixel,)
    return all(value == _FILLED for value in values)


def lacks_rows(file: BinaryIO, image: Image.Image) -> bool:
    """Whether a JPEG, decoded as `image`, ends too early and was closed by whoever copied it.

    Its decoder takes it for whole. But where blocks are missing, bytes put before its end are decoded as these, and its
    pixels change; in a whole JPEG such bytes are not looked at.
    """
    if image.format not in _JPEG or not may_lack_rows(image.getpixel((image.width - 1, image.height - 1))):
        return False
    content = _read_whole(file)
    end = _find_end(content, image.format)
    with Image.open(io.BytesIO(content[:end] + bytes(_PADDING) + content[end:])) as padded:
        if padded.size != image.size:
            return False
        strips = ((0, top, image.width, min(top + _STRIP, image.height)) for top in range(0, image.height, _STRIP))
        return any(ImageChops.difference(image.crop(strip), padded.crop(strip)).getbbox() for strip in strips)


def _find_end(content: bytes, image_format: str) -> int:
    """The position of what stands behind the pixels; -1 where it is missing."""
    begin, end = _MARKS[image_format]
    # after the last of the pixels' beginnings: camera data may hold a whole small JPEG
    return content.find(end, content.rfind(begin))


def _read_tail(file: BinaryIO) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return file.read()


def _read_whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
