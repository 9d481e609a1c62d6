"""Finished shards of a pack that is being made: a folder that outlives a kill at any moment.

HDF5 does not survive a kill in the middle of a write, so encoded images are first kept in FILE.h5.partial/:

    settings.json      what the images depend on besides their files
    00000000.npz       the first images: their bytes one after the other, and a row about each
    00000032.npz       the images from position 32 on, ...

A shard gets its name when it is whole, and its ZIP checksums show damage. A resumed run keeps every image up to the
first whose shard is missing or damaged, or whose source file has changed.
"""

import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from nascli.errors import CannotWriteError, CorruptFileError, InputError
from nascli.files import open_whole, write_json, writing
from nascli.locks import LOCK_FILE, lock_folder, remove_lock
from nascli.partial import PARTIAL, is_temporary, remove_partial
from nascli.progress import PROGRESS
from nascli.reading import read_file

_SETTINGS = "settings.json"
_SHARD_NAME = re.compile(r"[0-9]{8,}\.npz")
_SHARD_IMAGES = 32
"""Images that a kill costs at most."""


class PackRow(NamedTuple):
    """An image that is done: stamp of its file, bytes and CRC-32 of its content; or message and hint of its error."""

    stamp: int
    length: int
    checksum: int
    error: tuple[str, str] | None


class ShardStore:
    """The shards of one pack, which one process at a time writes; a context manager that saves what is done.

    Args:
        path: The folder; made where there is none.
        settings: The images depend on these and on their files.

    Raises:
        InputError: The folder was begun with other settings, and `overwrite` is false; or another process writes it.
    """

    def __init__(self, path: Path, settings: Mapping[str, str | int], *, overwrite: bool) -> None:
        self.path = path
        self.rows: list[PackRow] = []
        self._starts: list[int] = []  # position of the first image of each shard
        self._pending: list[bytes] = []  # contents of images that are in no shard yet
        _refuse_foreign(path)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(path)
        try:
            _refuse_foreign(path)
            remove_partial(path)
            self._begin(dict(settings), overwrite)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(CannotWriteError):  # a full disk loses the images of the last shard
            self.flush()
        self._lock.close()

    def remove(self) -> None:
        """Remove the folder, which the finished pack replaces; the lock goes last, for whom another waits."""
        with writing(self.path):
            for file in self.path.iterdir():
                if file.name != LOCK_FILE:
                    file.unlink()
            remove_lock(self.path)
            with suppress(OSError):  # another process has begun there
                self.path.rmdir()

    def restore(self, stamps: Sequence[int]) -> None:
        """Take over the images that have these stamps, in this order, up to the first that is missing or differs."""
        while True:
            start = len(self.rows)
            rows, _ = self._load(start)
            pairs = zip(rows, stamps[start : start + len(rows)], strict=False)
            self.rows += [row for row, _ in itertools.takewhile(lambda pair: pair[0].stamp == pair[1], pairs)]
            if len(self.rows) == start:
                return
            self._starts.append(start)

    def append(self, stamp: int, content: bytes | CorruptFileError) -> None:
        """Add the next image, or why there is none."""
        error = None
        if isinstance(content, CorruptFileError):
            error, content = (content.message, content.hint), b""
        self.rows.append(PackRow(stamp, len(content), zlib.crc32(content), error))
        self._pending.append(content)
        if len(self._pending) == _SHARD_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write the images that are in no shard yet."""
        if self._pending:
            start = len(self.rows) - len(self._pending)
            with open_whole(self._file(start)) as file:
                content = np.frombuffer(b"".join(self._pending), dtype=np.uint8)
                np.savez(file, content=content, rows=np.array(json.dumps(self.rows[start:])))
            self._starts.append(start)
            self._pending.clear()

    def read(self, first: int, last: int) -> Iterator[bytes]:
        """Read the contents of the images from position `first` on and before `last`; empty where there is none."""
        for start, end in zip(self._starts, [*self._starts[1:], len(self.rows)], strict=True):
            if start >= last or end <= first:
                continue
            rows, content = self._load(start)
            if len(rows) < end - start:
                raise CorruptFileError(f"{self._file(start)} is damaged", "Give the same command again to resume")
            ends = list(itertools.accumulate(row.length for row in rows))
            for position in range(max(start, first), min(end, last)):
                yield content[ends[position - start] - rows[position - start].length : ends[position - start]]

    def _file(self, start: int) -> Path:
        return self.path / f"{start:08}.npz"

    def _load(self, start: int) -> tuple[list[PackRow], bytes]:
        """Rows and content of a shard; nothing where it is missing or damaged."""
        try:
            with self._file(start).open("rb") as file, np.load(file, allow_pickle=False) as shard:
                if any(each.compress_type for each in shard.zip.infolist()):  # pack's own take the room that they have
                    return [], b""
                return [PackRow(*row) for row in json.loads(str(shard["rows"]))], shard["content"].tobytes()
        except Exception:  # ZIP and NumPy raise whatever the damage makes them raise
            return [], b""

    def _begin(self, settings: dict[str, str | int], overwrite: bool) -> None:
        file = self.path / _SETTINGS
        try:
            found = json.loads(read_file(file))
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
            with writing(self.path):
                for shard in self.path.glob("*.npz"):
                    shard.unlink()
            write_json(file, settings)


def _refuse_foreign(path: Path) -> None:
    """InputError where a folder holds what no pack leaves in it: in the end all of it is removed."""
    foreign: Path | None = path
    if not path.is_symlink() and (path.is_dir() or not path.exists()):
        inside = path.iterdir() if path.is_dir() else ()
        foreign = next((each for each in inside if not _is_own(each.name, path)), None)
    if foreign is not None:
        raise InputError(
            f"{foreign} was not made by nascli pack, which keeps finished images in {path}",
            "Move it away, or give the pack another name",
            file=foreign,
        )


def _is_own(name: str, folder: Path) -> bool:
    pack = folder.name.removesuffix(PARTIAL)
    return name in (LOCK_FILE, PROGRESS, _SETTINGS, pack) or bool(_SHARD_NAME.fullmatch(name)) or is_temporary(name)
