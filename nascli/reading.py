"""Files of users opened for reading: a pipe, a device or a socket under the name of a file is refused, not waited for.

Whatever names of other people's files stand for, opening one either gives a file or raises an `OSError` at once; what
is there besides (`os.path.isfile` and its like, which never raise) is asked before.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nascli.memory import measure_free_memory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")

MAX_TEXT = 64 << 20
"""Bytes of the largest text that is written by hand or for one image."""

_COPIES = 3
"""A text takes at least so many times its bytes while it is read: them, its letters, its values."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def expand_home(path: str) -> Path:
    """The path that a user wrote, with `~` for a home folder; it stays as it is where the system knows none."""
    return Path(os.path.expanduser(path))


def open_file(path: Path | str) -> BufferedReader:
    """Open a file for reading, without ever waiting for it.

    Raises:
        OSError: It is not there, may not be read, is no file, or has an impossible name; reading it may raise one, too,
            which has its name.
    """
    try:
        status = os.stat(path)  # before it is opened: opening a device may do something
        if not stat.S_ISREG(status.st_mode):
            _require_file(path, status)
        return BufferedReader(_NamedFile(path, opener=_open))
    except ValueError as error:  # a zero byte in its name
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from error


def read_file(path: Path | str, largest: int | None = None) -> bytes:
    """The bytes of a text.

    Args:
        largest: Bytes that it may have; by default what the memory that is free allows for.

    Raises:
        OSError: As from `open_file`; or it is too large, or has holes, which no text has.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise _refuse(path, errno.EFBIG, f"it has {size:,} bytes; at most {largest:,} are read")
        if size > MAX_TEXT:
            if _COPIES * size > (free := measure_free_memory()):
                raise _refuse(path, errno.EFBIG, f"it has {size:,} bytes, too many for the {free:,} of free memory")
            if _has_holes(file.fileno(), size):
                raise _refuse(path, errno.EINVAL, "it has holes full of zeros, as an interrupted copy leaves them")
        if largest is None:
            return file.read()
        content = file.read(largest + 1)  # what the system makes up, as below /proc, has no size
        if len(content) > largest:
            raise _refuse(path, errno.EFBIG, f"it has more than the {largest:,} bytes that are read")
        return content


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an OSError in the block the name of the file: the system gives it with those of opening alone."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise _refuse(path, error.errno or errno.EIO, error.strerror or str(error)) from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _NamedFile(FileIO):
    """A file whose errors have its name, whenever they come."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As of `FileIO`."""
        with naming(self.path):
            count: int | None = super().readinto(buffer)
            return _require_content(count)

    def readall(self) -> bytes:
        """As of `FileIO`."""
        with naming(self.path):
            return _require_content(super().readall())

    @property
    def path(self) -> Path | str:
        """The name that it was opened by."""
        name: Path | str = self.name
        return name


def _require_content(found: T | None) -> T:
    if found is None:  # it would have to be waited for
        raise OSError(errno.EINVAL, "it has no content that can be read at once")
    return found


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _require_file(path: Path | str, status: os.stat_result) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind:
        number = errno.EISDIR if kind == "a folder" else errno.EINVAL
        raise _refuse(path, number, f"it is {kind}, not a file")


def _refuse(path: Path | str, number: int, reason: str) -> OSError:
    return OSError(number, reason, str(path))


def _has_holes(descriptor: int, size: int) -> bool:
    try:
        found = os.lseek(descriptor, 0, os.SEEK_HOLE) < size
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:  # a file system that does not tell
        return False
    return found
