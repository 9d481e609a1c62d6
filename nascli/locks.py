"""Locks on folders: one process at a time writes a folder of nascli.

The lock is the kernel's, on a file `.lock` in the folder, so that it ends with its process however that ends. The file
itself says nothing: it is never read, never emptied, and may stay.
"""

import errno
import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

from nascli.errors import InputError
from nascli.files import writing

LOCK_FILE = ".lock"
"""The file in a folder that is locked."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def lock_folder(path: Path, *, wait: bool = False, remedy: str = "Wait for it, or stop it") -> IO[bytes]:
    """Lock a folder for this process, until the file that is returned is closed or the process ends.

    A `.lock` that is there already is opened as it is; one that is a link is refused, since what it leads to is not of
    this folder. Processes forked from this one do not hold the lock.

    Args:
        wait: Wait while another process has the lock.

    Raises:
        InputError: Another process has the lock, or the file system has no locks.
        CannotWriteError: The file cannot be made.
    """
    file = path / LOCK_FILE
    with writing(file):
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        lock = os.fdopen(os.open(file, flags, 0o666), "r+b", buffering=0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        lock.close()
        raise InputError(f"{path} is in use by another process", remedy, file=path) from error
    except OSError as error:
        lock.close()
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"{path}: its file system has no file locks, by which two processes are kept from writing one folder",
            "Choose a folder on another disk, or mount this one with locks (flock)",
            file=path,
        ) from error
    held = weakref.ref(lock)

    def close_in_child() -> None:  # or processes forked to decode images would hold the lock, too
        if (file := held()) is not None:
            file.close()

    os.register_at_fork(after_in_child=close_in_child)
    return lock


def is_locked(path: Path) -> bool:
    """Whether a process of a machine whose locks are seen here has locked the folder; it is asked without writing."""
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    finally:
        with suppress(OSError):
            os.close(descriptor)  # and the lock with it
    return False
