"""Files that are written whole or not at all, in this one place.

Every file that nascli writes goes through `open_whole` or one of its callers, or is appended to inside `writing`: so a
full disk, a folder that is gone or may not be written to is one error, `CannotWriteError`, with the remedy.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nascli.errors import CannotWriteError
from nascli.partial import claim, remove_partial, temporary_beside

_REMEDIES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space: the quota is used up",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f)",
    errno.EACCES: "Allow writing there, or choose another place",
    errno.EPERM: "Allow writing there, or choose another place",
    errno.EROFS: "Choose another place: this one is mounted for reading only",
    errno.ENOENT: "Its folder is not there: it was removed or renamed meanwhile, or its name is wrong",
    errno.ESTALE: "Its folder is not there any more: mount it again",
    errno.EEXIST: "A file has this name: choose another place",
    errno.ENOTDIR: "A part of the path is a file: choose another place",
    errno.EISDIR: "It is a folder: choose another name",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "nascli did not make it, and follows no link here: remove it",
    errno.EBUSY: "It is mounted by itself, as containers mount a file: mount its folder, or choose another place",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.EIO: "The disk reports a fault: look at it before you write there again",
}


def write_json(path: Path, values: object) -> None:
    """Write JSON whole or not at all; CannotWriteError, as from all writers here."""
    write_text(path, format_json(values))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all; a name that is no UTF-8 stays the bytes that it is."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with open_whole(path) as file:
        file.write(content)


def write_pair(path: Path, content: bytes, other: Path, other_content: bytes) -> None:
    """Write two files that need each other: `path` is there only beside the `other` that was written with it."""
    with open_whole(path) as file:
        _fill(file, content)
        with open_whole(other) as beside:
            _fill(beside, other_content)
            with writing(other):
                if other.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with writing(path):
                if not is_stream(path):
                    path.unlink(missing_ok=True)  # so that a kill leaves none that belongs to another `other`


def _fill(file: IO[bytes], content: bytes) -> None:
    """Write all that can fail while nothing is replaced yet."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def open_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file for writing that gets its name when the block ends without an error, and is removed otherwise.

    It is written beside its place, flushed to disk, renamed, and the folder flushed, too. A link that has its name is
    replaced, not followed; what is no file, such as a pipe or /dev/stdout, is written to as it is. The user's umask
    decides who may read it.

    Raises:
        CannotWriteError: The disk is full, the folder is gone, may not be written to, and the like.
    """
    with writing(path):
        if is_stream(path):
            with path.open("wb") as file:
                yield file
            return
        temporary = temporary_beside(path)
        try:
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666), "w+b") as file:
                claim(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


@contextmanager
def make_whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, whose content is in `path` when the block ends without an error, and is removed otherwise.

    Args:
        path: Not there yet, or an empty folder.

    Raises:
        CannotWriteError: As from `open_whole`.
    """
    with writing(path):
        is_there = path.is_dir()
        if not is_there:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path / "content" if is_there else path)
        remove_partial(temporary.parent)
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            claim(descriptor)
            yield temporary
            if is_there:  # it may be where somebody stands, or a disk of its own: it is not replaced
                for entry in temporary.iterdir():
                    entry.rename(path / entry.name)
                temporary.rmdir()
            else:
                temporary.rename(path)
            sync_folder(path.parent)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, CannotWriteError) and error.file:  # the user knows the place of a file in it alone
                names = (error.message, error.file)
                error.message, error.file = (each.replace(str(temporary), str(path)) for each in names)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def fill_folder(path: Path) -> Iterator[Path]:
    """A folder to write files into: all or none of them where it is absent or empty, else among those that it holds.

    Raises:
        CannotWriteError: As from `open_whole`.
    """
    with writing(path):
        remove_partial(path)
        is_used = path.is_dir() and any(path.iterdir())
    if is_used:
        yield path
    else:
        with make_whole_folder(path) as place:
            yield place


def make_folder(path: Path) -> None:
    """Make a folder to write into, where it is absent; what a kill left in it of an earlier write is removed."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        remove_partial(path)


def make_inner_folder(path: Path) -> None:
    """Make a folder in one of nascli's own that is there, as `make_folder` does.

    Raises:
        CannotWriteError: It cannot be made, or a link has its name, which may lead to the folder of somebody else.
    """
    with writing(path):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link")
        path.mkdir(exist_ok=True)
        remove_partial(path)


def open_append(path: Path, buffering: int = -1) -> IO[bytes]:
    """Open a file to add to its end; made where it is absent.

    Raises:
        OSError: It cannot be opened, or is a link or no plain file, of which nascli makes none.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "it is no plain file")
    return open(descriptor, "ab", buffering)


def format_json(values: object) -> str:
    """JSON as it stands in the files of a run: indented, without NaN."""
    return json.dumps(values, indent=2, allow_nan=False, default=str) + "\n"


def keep_copy(path: Path, copy: Path) -> None:
    """Keep a file under a second name, in place of what has that name; at no moment is either name without a file.

    The copy is a hard link, which costs no space or time; on a file system without links the file is moved instead.
    """
    with writing(copy), path.open("rb") as file:
        link = temporary_beside(copy)
        claim(file.fileno())
        try:
            link.hardlink_to(path)
        except OSError:
            path.replace(copy)
        else:
            link.replace(copy)
            link.unlink(missing_ok=True)  # where the copy was this very file already, the renaming did nothing


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to, but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that flush no folders
            raise
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> CannotWriteError:
    """The error of a file or folder that cannot be written: its path, the system's reason, the remedy."""
    reason = error.strerror or " ".join(str(error).split())
    remedy = _REMEDIES.get(error.errno or 0, "Choose another place")
    if error.errno in (errno.EEXIST, errno.ENOENT) and path.is_symlink() and not path.exists():
        remedy = "It is a link that leads nowhere: mend it, or remove it"
    return CannotWriteError(f"{path} cannot be written: {reason}", remedy, file=path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into the error of `cannot_write`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def check_writable(path: Path) -> None:
    """Try to write beside a file that is to be written later; its folder is made where it is absent.

    Raises:
        CannotWriteError: It cannot be written; the message names `path`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path.parent)
        temporary = temporary_beside(path)
        temporary.touch(exist_ok=False)
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether a path is none of a file that can be replaced: a device, a pipe, a name of this process's own output."""
    parent = os.path.realpath(path.parent)
    if parent in ("/dev", "/dev/fd") or parent.startswith("/proc/"):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
