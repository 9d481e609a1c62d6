"""Finished shards of a pack that is being made: a folder that outlives a kill at any moment.

HDF5 does not survive a kill in the middle of a write, so encoded images are first kept in FILE.h5.partial/:

    settings.json      what the images depend on besides their files
    00000000.npz       the first images: their bytes one after the other, lengths, CRC-32, stamps of the source files,
                       and why an image could not be decoded
    00000032.npz       the images from position 32 on, ...

A shard gets its name when it is whole, and its ZIP checksums show damage. A resumed run keeps every image up to the
first whose shard is missing or damaged, or whose source file has changed.
"""

import fcntl
import json
import os
import shutil
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from nascli.errors import CorruptFileError, InputError
from nascli.files import write_json

_SHARD_IMAGES = 32
"""Images that a kill costs at most."""

_COLUMNS = ("content", "lengths", "checksums", "stamps", "errors")


class _Shard(NamedTuple):
    """Position of the first image, and the number of images that are used."""

    start: int
    images: int


class ShardStore:
    """The shards of one pack, which one process at a time writes; a context manager that saves what is done.

    Args:
        path: The folder; made where there is none.
        settings: What the images depend on besides their files.
        overwrite: Begin again where the folder was begun with other settings.

    Raises:
        InputError: It was, and `overwrite` is not given; or another process writes it.
    """

    def __init__(self, path: Path, settings: Mapping[str, str | int], *, overwrite: bool) -> None:
        self.path = path
        self.lengths, self.checksums = array("Q"), array("Q")
        self.errors: dict[int, CorruptFileError] = {}
        self._shards: list[_Shard] = []
        self._pending: list[tuple[int, bytes]] = []  # stamp and content of images that are in no shard yet
        path.mkdir(exist_ok=True)
        self._lock = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin(dict(settings), overwrite)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise InputError(f"{path} is in use by another process", "Wait for it, or stop it") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(OSError):  # a full disk loses the images of the last shard
            self.flush()
        os.close(self._lock)

    def __len__(self) -> int:
        """Images that are done, those that cannot be decoded included."""
        return len(self.lengths)

    def restore(self, stamps: Sequence[int]) -> None:
        """Take over the images that have these stamps, in this order, up to the first that is missing or differs."""
        while len(self) < len(stamps):
            start = len(self)
            shard = self._load(start)
            if shard is None:
                return
            wanted = np.array(stamps[start : start + len(shard["stamps"])], dtype=np.uint64)
            differ = np.flatnonzero(shard["stamps"][: len(wanted)] != wanted)
            count = int(differ[0]) if len(differ) else len(wanted)
            if not count:
                return
            self.lengths.extend(shard["lengths"][:count].tolist())
            self.checksums.extend(shard["checksums"][:count].tolist())
            for place, message, hint in json.loads(str(shard["errors"])):
                if place < count:
                    self.errors[start + place] = CorruptFileError(message, hint)
            self._shards.append(_Shard(start, count))

    def append(self, stamp: int, content: bytes | CorruptFileError) -> None:
        """Add the next image, or why there is none."""
        if isinstance(content, CorruptFileError):
            self.errors[len(self)] = content
            content = b""
        self._pending.append((stamp, content))
        self.lengths.append(len(content))
        self.checksums.append(zlib.crc32(content))
        if len(self._pending) == _SHARD_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write the images that are in no shard yet."""
        if not self._pending:
            return
        start = len(self) - len(self._pending)
        stamps, contents = zip(*self._pending, strict=True)
        errors = [(k - start, error.message, error.hint) for k, error in self.errors.items() if k >= start]
        temporary = self.path / "next.tmp"
        with temporary.open("wb") as file:
            np.savez(
                file,
                content=np.frombuffer(b"".join(contents), dtype=np.uint8),
                lengths=np.array(self.lengths[start:], dtype=np.uint64),
                checksums=np.array(self.checksums[start:], dtype=np.uint64),
                stamps=np.array(stamps, dtype=np.uint64),
                errors=np.array(json.dumps(errors)),
            )
        temporary.replace(self._file(start))
        self._shards.append(_Shard(start, len(contents)))
        self._pending.clear()

    def read(self, first: int, last: int) -> Iterator[bytes]:
        """The contents of the images from position `first` on and before `last`; empty where there is none."""
        for start, count in self._shards:
            if start + count <= first or start >= last:
                continue
            shard = self._load(start)
            if shard is None:
                raise CorruptFileError(f"{self._file(start)} is damaged", "Give the same command again to resume")
            ends = np.cumsum(shard["lengths"]).tolist()
            content = shard["content"].tobytes()
            for place in range(max(first - start, 0), min(count, last - start)):
                yield content[ends[place] - int(shard["lengths"][place]) : ends[place]]

    def remove(self) -> None:
        """Remove everything, once it is not needed any more."""
        self._pending.clear()
        shutil.rmtree(self.path)

    def _file(self, start: int) -> Path:
        return self.path / f"{start:08}.npz"

    def _load(self, start: int) -> dict[str, Any] | None:
        """The columns of a shard; None where it is missing or damaged."""
        try:
            with self._file(start).open("rb") as file, np.load(file, allow_pickle=False) as shard:
                return {name: shard[name] for name in _COLUMNS}
        except Exception:  # ZIP and NumPy raise whatever the damage makes them raise
            return None

    def _begin(self, settings: dict[str, str | int], overwrite: bool) -> None:
        file = self.path / "settings.json"
        try:
            found = json.loads(file.read_bytes())
        except FileNotFoundError:
            found = None
        except ValueError:
            found = "damaged"
        if found not in (None, settings) and not overwrite:
            raise InputError(
                f"{self.path} was begun with other settings than these",
                "Give the same ones to resume it, or begin again with --overwrite",
            )
        if found != settings:
            for shard in self.path.glob("*.npz"):
                shard.unlink()
            write_json(file, settings)
