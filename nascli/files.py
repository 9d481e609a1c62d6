"""Files that are written whole or not at all, in this one place; records of nascli, which carry a checksum.

Every file that nascli writes goes through `open_whole` or one of its callers, or is appended to inside `writing`: so a
full disk, a folder that is gone or may not be written to is one error, `CannotWriteError`, with the remedy.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nascli.content import HEAD, UNKNOWN, describe_bytes, describe_misfit, describe_text_bytes
from nascli.errors import CannotWriteError, CorruptFileError, InputError
from nascli.reading import MAX_TEXT, open_file, read_file

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""

CHECKSUM = "checksum"
"""The last key of a record: the SHA-256 of the others."""

_LINE_CHECKSUM = b', "crc": "'
"""Stands before the CRC-32 of a line of records, which is over all bytes before it."""

_DEEPEST = 50
"""Objects and lists within each other that a record may have."""

_LINE_END = b'"}\n'
_NAME_LENGTH = 60
"""Letters of a file's name that the name of its temporary file has."""

_LEFT_OVER = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")

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
    errno.ELOOP: "It is a link, which nascli did not make: remove it",
    errno.EIO: "The disk reports a fault: look at it before you write there again",
}


def read_text(path: Path, largest: int | None = MAX_TEXT) -> str:
    """The text of a file in UTF-8 or, where it shows that, in UTF-16 or UTF-32; a byte order mark is dropped.

    Args:
        largest: Bytes that it may have; None is what the memory that is free allows for.

    Raises:
        OSError: There is no such file, it is too large, or cannot be read.
        CorruptFileError: It is in another encoding, or no text; the message has line and column.
    """
    return decode_text(read_file(path, largest), path)


def decode_text(content: bytes, source: object, errors: str = "strict") -> str:
    """The text in the bytes of a file that begins with an ASCII letter, as `read_text`; its error names `source`.

    Args:
        errors: `replace` puts a mark in place of bytes that are no text.
    """
    try:
        return content.decode(json.detect_encoding(content), errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        head = content[:HEAD]
        kind = describe_bytes(head)
        if kind != UNKNOWN and describe_text_bytes(head) is None:
            raise CorruptFileError(f"{source} is no text: it is {kind}", file=source) from error
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise CorruptFileError(
            f"{source} is not text in UTF-8: byte 0x{content[error.start]:02x} in line {line}, column {column}",
            "Save it as UTF-8 in your editor, or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
            file=source,
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; InputError if there is no file, CorruptFileError if it is not a JSON object."""
    try:
        text = read_text(path, largest=None)
        values = json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", file=path) from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} {describe_misfit(text, 'JSON', error)}", file=path) from error
    if not isinstance(values, dict):
        raise CorruptFileError(f"{path} holds a JSON {type(values).__name__}, not an object", file=path)
    return values


def check_schema(values: Mapping[str, object], known: int, source: object) -> None:
    """InputError where the JSON of a file, named as `source`, is of a schema above `known`; without one it is of it."""
    version = values.get("schema", known)
    if isinstance(version, int) and version > known:
        raise InputError(
            f"{source}: schema {version} is newer than this nascli reads ({known})", "Upgrade nascli", field="schema"
        )


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
                _claim(file.fileno())
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
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path / temporary_beside(path).name if is_there else temporary_beside(path)
        remove_partial(temporary.parent)
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            _claim(descriptor)
            yield temporary
            if is_there:  # it may be where somebody stands, or a disk of its own: it is not replaced
                for entry in temporary.iterdir():
                    entry.rename(path / entry.name)
                temporary.rmdir()
            else:
                temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder to write into, where it is absent; what a kill left in it of an earlier write is removed."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
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


def temporary_beside(path: Path) -> Path:
    """A name of no file yet, beside a file that is to be written; `remove_partial` finds what a kill leaves of it."""
    return path.with_name(f".{path.name[:_NAME_LENGTH]}.{secrets.token_hex(4)}{PARTIAL}")


def remove_partial(folder: Path, *, deep: bool = False) -> None:
    """Remove what a kill in the middle of a write left in a folder of nascli.

    What another process is writing now stays: its writer holds a lock of the kernel's on it, which ends with the
    process. Where a file system has no locks, nothing is removed.

    Args:
        deep: In the folders in it, too.
    """
    for place, folders, files in os.walk(folder):
        for name in filter(_LEFT_OVER.fullmatch, files + folders):
            with suppress(OSError):
                _remove_unclaimed(Path(place, name))
        if not deep:
            return


def _claim(descriptor: int) -> None:
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


def format_json(values: object) -> str:
    """JSON as it stands in the files of a run: indented, without NaN."""
    return json.dumps(values, indent=2, allow_nan=False, default=str) + "\n"


def write_record(path: Path, values: Mapping[str, object]) -> None:
    """Write a JSON object of nascli's own with its checksum, whole or not at all."""
    write_text(path, format_record(values))


def format_record(values: Mapping[str, object]) -> str:
    """The text that `write_record` writes."""
    plain = json.loads(format_json(values))
    return format_json({**plain, CHECKSUM: sha256_json(plain)})


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object that `write_record` wrote, without its checksum; one without a checksum is taken as it is.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is no JSON object, or was changed after it was written.
    """
    values = read_json(path)
    if _is_deeper(values, _DEEPEST):  # than any record; what works on it further would fail on it
        raise CorruptFileError(f"{path} holds values within values, too many to be a record of nascli", file=path)
    take_checksum(values, path)
    return values


def take_checksum(values: dict[str, Any], source: object) -> None:
    """Take the checksum, if there is one, out of a record that was read; CorruptFileError where it does not fit."""
    written = values.pop(CHECKSUM, None)
    if written is not None and written != sha256_json(values):
        raise CorruptFileError(
            f"{source}: {CHECKSUM} does not fit: the file was changed or damaged after nascli wrote it",
            f'Copy it again from where it was written; if the change is meant, remove its line "{CHECKSUM}"',
            file=source,
            field=CHECKSUM,
        )


def _is_deeper(values: object, depth: int) -> bool:
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return depth == 0 or any(isinstance(each, dict | list) and _is_deeper(each, depth - 1) for each in inner)


def format_line(values: Mapping[str, object]) -> bytes:
    """A record as one line of a file that is appended to: JSON without NaN, whose last key `crc` is its CRC-32."""
    begin = json.dumps(values, allow_nan=False).encode()[:-1]
    return begin + _LINE_CHECKSUM + f"{zlib.crc32(begin):08x}".encode() + _LINE_END


def parse_line(line: bytes) -> dict[str, Any]:
    """The record that `format_line` made a line of, newline or not; ValueError where it is not as it was written."""
    begin, _, end = line.rpartition(_LINE_CHECKSUM)
    if end.removesuffix(b"\n") + b"\n" != f"{zlib.crc32(begin):08x}".encode() + _LINE_END:
        json.loads(line)  # says more of a line that is no JSON
        raise ValueError("the checksum of the line does not fit: it was changed or damaged after nascli wrote it")
    values: dict[str, Any] = json.loads(begin + b"}")
    return values


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of `format_line`; an unfinished last line is left out.

    Raises:
        InputError: There is no such file.
        CorruptFileError: A line is not as it was written; the message has its number.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", file=path) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_line(line))
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(f"{path}, line {number}: {error}", file=path) from error
    return records


def keep_copy(path: Path, copy: Path) -> None:
    """Keep a file under a second name, in place of what has that name; at no moment is either name without a file.

    The copy is a hard link, which costs no space or time; on a file system without links the file is moved instead.
    """
    with writing(copy), path.open("rb") as file:
        link = temporary_beside(copy)
        _claim(file.fileno())
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


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(values: object) -> str:
    """The SHA-256 of JSON values, in hexadecimal; the order of keys does not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def cannot_write(path: Path, error: Exception, hint: str = "") -> CannotWriteError:
    """The error of a file or folder that cannot be written: its path, the system's reason, the remedy.

    Args:
        hint: A remedy that says more than the one for this reason.
    """
    reason = str(getattr(error, "strerror", None) or " ".join(str(error).split()))
    remedy = hint or _REMEDIES.get(getattr(error, "errno", None) or 0, "Choose another place")
    return CannotWriteError(f"{path} cannot be written: {reason}", remedy, file=path)


@contextmanager
def writing(path: Path, hint: str = "", errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn an error of these types in the block into the error of `cannot_write`."""
    try:
        yield
    except errors as error:
        raise cannot_write(path, error, hint) from error


def check_writable(path: Path, hint: str = "") -> None:
    """Try to write beside a file that is to be written later; its folder is made where it is absent.

    Raises:
        CannotWriteError: It cannot be written; the message names `path`.
    """
    with writing(path, hint):
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
