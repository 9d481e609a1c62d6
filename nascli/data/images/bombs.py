"""Image files made to keep a decoder busy: more bytes of header, or more scans, than any camera or program writes.

What is large in pixels is refused by `data.max_megapixels`; what is large in texts, Pillow and `png` pass over.
"""

import os
import re
from typing import BinaryIO

from PIL import Image

_MAX_HEADER = 16 << 20
"""Bytes of camera data, color profile and the like before the pixels of a JPEG; Pillow joins them in quadratic time."""
_MAX_SCANS = 200
"""Passes over the pixels of a progressive JPEG; its usual number is 10."""
_FEW_PIXELS = 1 << 20
"""Pixels up to which many passes take no time."""
_PNM_HEADER = 1 << 16
"""Bytes in which the three numbers of a PNM header stand, behind comments; Pillow reads them one by one."""
_JPEG, _SCAN = b"\xff\xd8\xff", b"\xff\xda"
_BYTES_PER_PIXEL = 8


def check_header(file: BinaryIO) -> None:
    """ValueError where an image's header is unreasonably long; the file is left at its begin."""
    head = file.read(len(_JPEG))
    if head == _JPEG and _measure(file) > _MAX_HEADER:
        _check_jpeg(file)
    elif head[:1] == b"P" and re.match(rb"P[1-7fF]\s", head):
        tokens = re.sub(rb"#[^\n]*", b"", file.read(_PNM_HEADER)).split(maxsplit=3)
        if len(tokens) < 3 and file.read(1):
            raise ValueError(f"its header does not end within {_PNM_HEADER:,} bytes")
    file.seek(0)


def check_scans(file: BinaryIO, image: Image.Image) -> None:
    """ValueError where a large JPEG has so many passes that it would take minutes to decode."""
    if image.info.get("progressive") and image.width * image.height > _FEW_PIXELS:
        start = file.tell()
        file.seek(0)
        count = file.read(_BYTES_PER_PIXEL * image.width * image.height).count(_SCAN)
        file.seek(start)
        if count > _MAX_SCANS:
            raise ValueError(f"it is a JPEG of {count:,} passes; {_MAX_SCANS} are decoded")


def is_plausible_jpeg(file: BinaryIO, max_megapixels: int) -> bool:
    """Whether a file begins as a JPEG, and is no larger than one of so many pixels can be; left at its begin."""
    begins = file.read(len(_JPEG)) == _JPEG
    file.seek(0)
    return begins and _measure(file) <= _BYTES_PER_PIXEL * max_megapixels * 10**6


def _measure(file: BinaryIO) -> int:
    """Bytes of a file, by the quickest way: seeking would give up what was read ahead."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # an image of a pack, in memory
        place = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(place)
        return size


def _check_jpeg(file: BinaryIO) -> None:
    """Walk from marker to marker up to the pixels."""
    place = 2
    while place <= _MAX_HEADER:
        file.seek(place)
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF or marker[:2] == _SCAN:
            return
        place += 2 + int.from_bytes(marker[2:], "big") if marker[1] != 0xFF else 1  # fill bytes
    raise ValueError(f"more than {_MAX_HEADER:,} bytes stand before its pixels")
