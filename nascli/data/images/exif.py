"""The orientation of a camera, by the EXIF data in an image."""

import struct

from PIL import Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The turn that puts stored pixels upright by EXIF's number; 1 is upright."""

ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF's numbers of a camera that lay on its side, so that width and height change places."""

_ORIENTATION = 0x0112
_IN_PNG = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
"""Keys of what Pillow finds in a PNG that may say how the camera was held."""
_PREFIX = b"Exif\0\0"
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value of each of TIFF's types."""


def read_orientation(image: Image.Image) -> int:
    """EXIF's number of how the camera was held, from 1 to 8; 1 where the file does not say, or its data are damaged.

    A TIFF's is 1: Pillow turns it when it decodes it, and gives its size so. What a PNG says behind its pixels is known
    once it is decoded.
    """
    if image.format == "TIFF" or (image.format == "PNG" and not _IN_PNG & {*image.info}):
        return 1  # Pillow would decode a whole PNG to look behind its pixels
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever damaged data make a decoder raise
        return 1
    return found if found in TURNS else 1


def is_damaged(image: Image.Image) -> bool:
    """Whether the image's EXIF data end too early, or begin with something else."""
    data = image.info.get("exif")
    if not isinstance(data, bytes) or not data:
        return False
    data = data.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return True
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entries = [struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * k) for k in range(count)]
    except struct.error:
        return True
    sizes = ((_TYPE_SIZES.get(kind, 0) * number, place) for _, kind, number, place in entries)
    return any(size > 4 and place + size > len(data) for size, place in sizes)
