"""Parts of PNG files that Pillow does not tell, or stumbles over."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NOT_NEEDED = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}
"""Chunks of texts and of the color profile."""


class Samples(NamedTuple):
    """The numbers of a PNG: the bits of each, and how many of these its sBIT chunk says are used (gray or red)."""

    bits: int = 8
    used: int = 0


def read_samples(file: BinaryIO) -> Samples:
    """Read what a PNG says of its numbers; the file is left where it was."""
    start = file.tell()
    file.seek(0)
    bits = used = 0
    for kind, content, _ in _read_chunks(file):
        if kind == b"IDAT":
            break
        if kind == b"IHDR":
            bits = content[8]
        elif kind == b"sBIT" and content:
            used = content[0]
    file.seek(start)
    return Samples(bits, used)


def drop_texts(file: BinaryIO) -> BinaryIO | None:
    """The PNG without its texts and its color profile: a decoder may find them too large, or damaged.

    None where it is no PNG, or has none of them.
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    file.seek(0)
    chunks = list(_read_chunks(file))
    kept = [chunk for chunk in chunks if chunk.kind not in _NOT_NEEDED]
    if len(kept) == len(chunks):
        return None
    return io.BytesIO(SIGNATURE + b"".join(chunk.pack() for chunk in kept))


class _Chunk(NamedTuple):
    """A chunk with its checksum, right or wrong."""

    kind: bytes
    content: bytes
    checksum: bytes

    def pack(self) -> bytes:
        """The chunk as it stands in a file."""
        return struct.pack(">I", len(self.content)) + self.kind + self.content + self.checksum


def _read_chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """The chunks of a PNG up to its end, or to the first that is cut off or none."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        content, checksum = file.read(length), file.read(4)
        if len(checksum) < 4 or not kind.isalpha():
            return
        yield _Chunk(kind, content, checksum)
        if kind == b"IEND":
            return
