"""What is done of a pack so far: encoded images, one record each, in a file that outlives a kill at any moment.

HDF5 does not survive a kill in the middle of a write, so a pack begins as FILE.h5.partial:

    a line of JSON: the settings
    for each image a stamp of its source file, its kind, its length and CRC-32, then its bytes (or why there are none)

Whoever goes on keeps every record that is whole and whose source file is as it was, up to the first that is not.
"""

import fcntl
import json
import os
import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from nascli.errors import CorruptFileError, InputError

_RECORD = struct.Struct("<8sBII")  # stamp, kind, length, CRC-32
_IMAGE, _REASON = 0, 1
_SYNC_EVERY = 256
"""Images between two waits for the disk. A kill loses no record that was written; a power cut may lose so many."""


class PackRecords:
    """The records of one pack, which one process at a time writes; a context manager.

    Args:
        path: The file; made where there is none.
        settings: What the images depend on besides their files.
        overwrite: Begin anew where the file was begun with other settings.

    Raises:
        InputError: It was, and `overwrite` is not given; or another process writes it.
    """

    def __init__(self, path: Path, settings: Mapping[str, str | int], *, overwrite: bool) -> None:
        self.path = path
        self.lengths, self.checksums = array("Q"), array("Q")
        self.bad: dict[int, CorruptFileError] = {}
        self._starts = array("Q")
        self._header = json.dumps({"format": "nascli pack, not finished", **settings}).encode() + b"\n"
        self._file: BinaryIO = path.open("a+b")
        try:
            self._lock()
            self._begin(overwrite)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(OSError):  # what a full disk did not take is cut off when the file is read again
            self._file.close()

    def __len__(self) -> int:
        """How many images are done, those that cannot be decoded included."""
        return len(self._starts)

    def restore(self, stamps: Sequence[bytes]) -> None:
        """Take over what is there of images with these stamps, in this order; cut off what follows."""
        end, size = len(self._header), os.fstat(self._file.fileno()).st_size
        self._file.seek(end)
        for stamp in stamps:
            head = self._file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                break
            found, kind, length, checksum = _RECORD.unpack(head)
            start = end + _RECORD.size
            if found != stamp or not 0 < length <= size - start:
                break
            content = self._file.read(length)
            if zlib.crc32(content) != checksum:
                break
            end = start + length
            self._count(kind, start, content, checksum)
        self._file.truncate(end)

    def append(self, stamp: bytes, content: bytes | CorruptFileError) -> None:
        """Add the next image, or why there is none."""
        kind = _IMAGE
        if isinstance(content, CorruptFileError):
            kind, content = _REASON, json.dumps([content.message, content.hint]).encode()
        checksum = zlib.crc32(content)
        start = self._file.seek(0, os.SEEK_END) + _RECORD.size
        self._file.write(_RECORD.pack(stamp, kind, len(content), checksum) + content)
        self._file.flush()
        self._count(kind, start, content, checksum)
        if len(self) % _SYNC_EVERY == 0:
            os.fsync(self._file.fileno())

    def read(self, position: int) -> bytes:
        """An encoded image."""
        self._file.seek(self._starts[position])
        return self._file.read(self.lengths[position])

    def _count(self, kind: int, start: int, content: bytes, checksum: int) -> None:
        if kind == _REASON:
            message, hint = json.loads(content)
            self.bad[len(self)] = CorruptFileError(message, hint)
        self._starts.append(start)
        self.lengths.append(len(content))
        self.checksums.append(checksum)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{self.path} is in use by another process", "Wait for it, or stop it") from error

    def _begin(self, overwrite: bool) -> None:
        self._file.seek(0)
        found = self._file.read(len(self._header))
        if found == self._header:
            return
        if not self._header.startswith(found) and not overwrite:
            raise InputError(
                f"{self.path} was begun with other settings than these",
                "Give the same ones to go on with it, or begin anew with --overwrite",
            )
        self._file.truncate(0)
        self._file.write(self._header)
        self._file.flush()
