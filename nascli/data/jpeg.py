"""JPEG files, as far as they must be known before they are decoded, and cut to the rows that are asked for.

A JPEG is a row of segments: a marker (0xFF and a byte), a length, content. After the segment SOS come the encoded
pixels, in blocks of 8 or 16 rows and columns from left to right and from top to bottom. Where the encoder was told to,
it begins anew every so many blocks and marks the place, RST0 to RST7 in turn: what follows can be decoded alone.
"""

import re
from struct import error as StructError
from struct import pack_into, unpack_from
from typing import NamedTuple

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xDA))
_FILL = 0xFF
_SCAN, _RESTART_INTERVAL, _APPLICATION_1 = 0xDA, 0xDD, 0xE1
_RESTARTS = tuple(bytes((0xFF, 0xD0 + number)) for number in range(8))

_TURNED = re.compile(
    rb"\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[^\x01]"
    rb"|\x01\x12\x00[\x03\x04]\x00\x00\x00\x01(?!\x00\x01|\x00\x00\x00\x01)"
    rb'|tiff:Orientation(?:="|>)[^1]',
    re.DOTALL,
)
"""Tag 0x0112 of EXIF in either order of bytes, or its name in XMP, with another value than 1, which is upright."""

_CONTEXT = 2
"""Rows around those asked for that have a part in their colours, where colours have half as many rows."""


class Frame(NamedTuple):
    """What the header of a JPEG says.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        turned: It is to be turned or mirrored when it is shown.
        height_at: Position of the height among the bytes.
        pixels_at: Position of the first encoded block.
        rows_alone: Rows of pixels from one place where the encoder began anew to the next; 0 where it did not, or not
            at the beginning of a row of blocks.
    """

    height: int
    width: int
    turned: bool
    height_at: int
    pixels_at: int
    rows_alone: int


def read_frame(content: bytes | bytearray) -> Frame | None:
    """The header of a JPEG of a usual kind.

    Returns:
        None where it is no JPEG, or not baseline or progressive, in grey or three colours of 8 bits each; also where it
        has anything unusual before the pixels. Such a file is for a decoder to judge.
    """
    try:
        return _walk(content)
    except (StructError, IndexError):  # it ends before its pixels begin
        return None


def cut_rows(content: bytearray, frame: Frame, top: int, bottom: int) -> tuple[bytearray, int]:
    """A smaller JPEG that holds the rows of pixels from `top` on and before `bottom`, exactly as the whole one does.

    Args:
        content: A JPEG.
        frame: Its header.
        top: 0 or more.
        bottom: Above `top`.

    Returns:
        The smaller JPEG, and which row of the whole one its first row is. The whole one, and 0, where the encoder did
        not begin anew within it, or where it does not end as a JPEG does: then a decoder is to find out what is wrong.
    """
    step = frame.rows_alone
    if not step or not content.endswith(_END):
        return content, 0
    first, last = max(0, top - _CONTEXT) // step, -(-min(frame.height, bottom + _CONTEXT) // step)
    count = -(-frame.height // step)
    if last - first == count:
        return content, 0
    restarts: list[int] = []
    for number in range(min(last, count - 1)):
        restarts.append(content.find(_RESTARTS[number % 8], restarts[-1] if restarts else frame.pixels_at))
        if restarts[-1] < 0:
            return content, 0
    begin = restarts[first - 1] + 2 if first else frame.pixels_at
    end = restarts[last - 1] if last < count else len(content) - len(_END)
    part = content[: frame.pixels_at]
    pack_into(">H", part, frame.height_at, min(frame.height, last * step) - first * step)
    part += content[begin:end]
    for number, place in enumerate(restarts[first : last - 1]):  # a decoder expects them from RST0 on
        part[place - begin + frame.pixels_at + 1] = 0xD0 + number % 8
    part += _END
    return part, first * step


def _walk(content: bytes | bytearray) -> Frame | None:
    """From segment to segment until the pixels begin."""
    if not content.startswith(_START):
        return None
    place, interval, turned, frame_at, kind = 2, 0, False, 0, 0
    while True:
        begin, marker, length = unpack_from(">BBH", content, place)
        if begin != 0xFF or marker < _BASELINE or marker in _OTHER_FRAMES or marker in _WITHOUT_LENGTH:
            return None
        if marker == _FILL:
            place += 1
            continue
        if marker == _SCAN:
            break
        if marker <= _PROGRESSIVE:
            if frame_at:
                return None
            frame_at, kind = place, marker
        elif marker == _RESTART_INTERVAL:
            (interval,) = unpack_from(">H", content, place + 4)
        elif marker == _APPLICATION_1:
            turned = turned or _TURNED.search(content, place, place + 2 + length) is not None
        place += 2 + length
    pixels_at = place + 2 + length
    precision, height, width, colours = unpack_from(">BHHB", content, frame_at + 4)
    if not frame_at or precision != 8 or colours not in (1, 3) or not height or not width:
        return None
    if pixels_at > len(content):
        return None
    rows_alone = 0
    if interval and kind != _PROGRESSIVE and content[place + 4] == colours:
        sizes = [(each >> 4, each & 15) for each in content[frame_at + 11 : frame_at + 10 + 3 * colours : 3]]
        across, down = map(max, *sizes) if colours == 3 else (1, 1)
        rows, rest = divmod(interval, -(-width // (8 * across)))
        rows_alone = 0 if rest else 8 * down * rows
    return Frame(height, width, turned, frame_at + 5, pixels_at, rows_alone)
