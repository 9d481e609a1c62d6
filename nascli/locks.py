"""Locks on folders: one process at a time writes a folder of nascli, or measures how fast a machine is.

The lock is the kernel's, on a file `.lock` in the folder, so that it ends with its process however that ends. The file
itself says nothing: it is never read, never emptied, and may stay.
"""

import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import IO

from nascli.errors import InputError
from nascli.files import cannot_write, writing

LOCK_FILE = ".lock"
"""The file in a folder that is locked."""

_PATIENCE = 0.1
"""Seconds for which a lock is asked for again: a look at it (`is_locked`) has it for a moment."""

_LONGEST_TURN = 600.0
"""Seconds for which a turn on the machine is waited for: one takes a second or so, and every core may have a worker."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def lock_folder(path: Path, *, patience: float = _PATIENCE, remedy: str = "Wait for it, or stop it") -> IO[bytes]:
    """Lock a folder for this process, until the file that is returned is closed or the process ends.

    A `.lock` that is there already is opened as it is; one that is no plain file is refused, since nascli did not make
    it. Processes forked from this one do not hold the lock.

    Args:
        patience: Seconds to wait while another process has the lock.

    Raises:
        InputError: Another process has the lock, or the file system has no locks, or `.lock` is no plain file.
        CannotWriteError: The file cannot be made.
    """
    file = path / LOCK_FILE
    until = time.monotonic() + patience
    while True:
        lock, is_new = _open_lock(file)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, file):  # else it was removed by the process that had it
                break
            lock.close()
        except BlockingIOError as error:
            lock.close()
            if time.monotonic() > until:
                raise InputError(f"{path} is in use by another process", remedy, file=path) from error
            time.sleep(_PATIENCE / 10)
        except OSError as error:
            lock.close()
            if is_new:
                file.unlink(missing_ok=True)
            if error.errno not in _NO_LOCKS:
                raise cannot_write(file, error) from error
            raise InputError(
                f"{path}: its file system has no file locks, by which two processes are kept from writing one folder",
                "Choose a folder on another disk, or mount this one with locks (flock)",
                file=path,
            ) from error
    _held().add(lock)
    return lock


@cache
def _held() -> "weakref.WeakSet[IO[bytes]]":
    """The locks of this process; a process forked from it closes them, or one that decodes images would hold them."""
    locks: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()

    def close_in_child() -> None:
        for lock in list(locks):
            lock.close()

    os.register_at_fork(after_in_child=close_in_child)
    return locks


@contextmanager
def lock_machine(purpose: str) -> Iterator[None]:
    """Let one process of this machine at a time do what others would disturb; they wait.

    The lock is that of a folder beside temporary files, which any user may lock.

    Args:
        purpose: Names the folder, `nascli-PURPOSE`.

    Raises:
        InputError: Others have it for ten minutes.
        CannotWriteError: The folder cannot be made.
    """
    folder = Path(gettempdir(), f"nascli-{purpose}")
    with writing(folder), suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)  # whoever comes first
    remedy = f"It measures one at a time: fuser {folder / LOCK_FILE} names the process that does not end"
    with lock_folder(folder, patience=_LONGEST_TURN, remedy=remedy):
        yield


def remove_lock(path: Path) -> None:
    """Remove the file of a lock that this process has and made, where nothing shall be left of a folder's use."""
    with suppress(OSError):
        (path / LOCK_FILE).unlink()


def is_locked(path: Path) -> bool | None:
    """Whether a process of a machine whose locks are seen here has locked the folder; it is asked without writing.

    Returns:
        None where it cannot be told: `.lock` is absent or may not be read, or the disk has no locks.
    """
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)  # and the lock with it
    return False


def _open_lock(file: Path) -> tuple[IO[bytes], bool]:
    """The file of a lock, and whether it was made now."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with writing(file):
        with suppress(FileExistsError):
            return os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | flags, 0o666), "r+b", 0), True
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise InputError(
                    f"{file} is no plain file, so nascli did not make it", "Remove it, or rename it", file=file
                )
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_RDWR | flags, 0o666)
        except PermissionError:
            descriptor = os.open(file, os.O_RDONLY | flags)  # a disk of this machine locks such a file as well
        return os.fdopen(descriptor, "rb", 0), False


def _is_at(lock: IO[bytes], file: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.lstat())
    except FileNotFoundError:
        return False
