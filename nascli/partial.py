"""Temporary files and folders, beside those that are being written: their names, and what a kill leaves of them."""

import fcntl
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"
"""Ends the name of a file that is being written, and of the folder of a pack that is not finished."""

_NAME_LENGTH = 60
"""Letters of a file's name that the name of its temporary file has."""

_TEMPORARY = re.compile(rf"\..+\.nascli-[0-9a-f]{{8}}{re.escape(PARTIAL)}", re.DOTALL)


def temporary_beside(path: Path) -> Path:
    """A name of no file yet, beside a file that is to be written; `remove_partial` finds what a kill leaves of it."""
    return path.parent / f".{path.name[:_NAME_LENGTH]}.nascli-{secrets.token_hex(4)}{PARTIAL}"


def is_temporary(name: str) -> bool:
    """Whether `temporary_beside` gives names such as this one, and no other program does."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_partial(folder: Path, *, deep: bool = False) -> None:
    """Remove what a kill in the middle of a write left in a folder.

    What another process is writing now stays: its writer holds a lock of the kernel's on it, which ends with the
    process. Where a file system has no locks, nothing is removed.

    Args:
        deep: In the folders in it, too.
    """
    for place, folders, files in os.walk(folder):
        for name in filter(is_temporary, files + folders):
            with suppress(OSError):
                _remove_unclaimed(Path(place, name))
        if not deep:
            return


def claim(descriptor: int) -> None:
    """Show `remove_partial` that the writer of a temporary file or folder lives."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_unclaimed(partial: Path) -> None:
    descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    finally:
        os.close(descriptor)
