"""Files that are written whole or not at all, JSON, checksums."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError, NascliError

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or, where it shows that, in UTF-16 or UTF-32; a byte order mark is dropped.

    Raises:
        OSError: There is no such file, or it cannot be read.
        CorruptFileError: It is in another encoding, or no text; the message has line and column.
    """
    return decode_text(path.read_bytes(), path)


def decode_text(content: bytes, source: object, errors: str = "strict") -> str:
    """The text in the bytes of a file that begins with an ASCII letter, as `read_text`; its error names `source`.

    Args:
        errors: `replace` puts a mark in place of bytes that are no text.
    """
    try:
        return content.decode(json.detect_encoding(content), errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise CorruptFileError(
            f"{source} is not text in UTF-8: byte 0x{content[error.start]:02x} in line {line}, column {column}",
            "Save it as UTF-8 in your editor, or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; InputError if there is no file, CorruptFileError if it is not a JSON object."""
    try:
        values = json.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CorruptFileError(f"{path} holds a JSON {type(values).__name__}, not an object")
    return values


def check_schema(values: Mapping[str, object], known: int, source: object) -> None:
    """InputError where the JSON of a file, named as `source`, is of a schema above `known`; without one it is of it."""
    version = values.get("schema", known)
    if isinstance(version, int) and version > known:
        raise InputError(f"{source}: schema {version} is newer than this nascli reads ({known})", "Upgrade nascli")


def write_json(path: Path, values: object) -> None:
    """Write JSON whole or not at all."""
    write_text(path, format_json(values))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name, flushed to disk, renamed, the folder flushed too."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def format_json(values: object) -> str:
    """JSON as it stands in the files of a run: indented, without NaN."""
    return json.dumps(values, indent=2, allow_nan=False, default=str) + "\n"


def keep_copy(path: Path, copy: Path) -> None:
    """Keep a file under a second name, in place of what has that name; at no moment is either name without a file.

    The copy is a hard link, which costs no space or time; on a file system without links the file is moved instead.
    """
    link = copy.with_name(f".{copy.name}{PARTIAL}")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError:
        path.replace(copy)
    else:
        link.replace(copy)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(values: object) -> str:
    """The SHA-256 of JSON values, in hexadecimal; the order of keys does not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def cannot_write(path: Path, error: Exception, hint: str) -> NascliError:
    """The error of a file or folder that cannot be written: its path, the system's reason, what to do."""
    return NascliError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}", hint)


@contextmanager
def writing(path: Path, hint: str, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn an error of these types in the block into the error of `cannot_write`."""
    try:
        yield
    except errors as error:
        raise cannot_write(path, error, hint) from error
