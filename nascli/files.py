"""Files that are written whole or not at all, JSON, checksums; the kind of a file by its content."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError, NascliError

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""

_HEAD = 2048
"""Bytes that are looked at."""
_UNKNOWN = "of an unknown kind"
_SHOWN = 40
"""Letters of a text that are shown."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\x89PNG\n", "a PNG image that was copied as text: its line ends were changed"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop image"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "a video"),
    (128, b"DICM", "a DICOM image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),  # torch.save before version 1.6
    (0, b"\x7fELF", "a program"),
)
"""Position, bytes and kind; the first that fits counts."""


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
        head = content[:_HEAD]
        kind = describe_bytes(head)
        if kind != _UNKNOWN and _describe_text(head) is None:
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
        text = read_text(path)
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
    """Write JSON whole or not at all."""
    write_text(path, format_json(values))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all; a name that is no UTF-8 stays the bytes that it is."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


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
    reason = getattr(error, "strerror", None) or error
    return NascliError(f"{path} cannot be written: {reason}", hint, file=path)


@contextmanager
def writing(path: Path, hint: str, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn an error of these types in the block into the error of `cannot_write`."""
    try:
        yield
    except errors as error:
        raise cannot_write(path, error, hint) from error


def check_writable(path: Path, hint: str) -> None:
    """Try to write beside a file that is to be written later; its folder is made where it is absent.

    Raises:
        NascliError: It cannot be written; the message names `path`.
    """
    with writing(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_SHOWN]}.", suffix=PARTIAL)
        os.close(handle)
        os.unlink(name)


def describe_content(path: Path) -> str:
    """A file's kind in words that follow "it is": "a PNG image", "an HTML page", "a Git LFS pointer", "an empty file".

    A text of no known kind is shown by its beginning. OSError where it cannot be opened.
    """
    with path.open("rb") as file:
        return describe_bytes(file.read(_HEAD))


def describe_misfit(text: str, wanted: str, error: Exception) -> str:
    """The kind of a text that is not in the format `wanted`: an error page or the like, else what its parser says."""
    kind = describe_bytes(text[:_HEAD].encode("utf-8", "replace"))
    told = kind if not kind.startswith(("a text that", "a JSON file", _UNKNOWN)) else ""
    return f"is not {wanted}: " + (f"it is {told}" if told else str(error))


def describe_bytes(head: bytes) -> str:
    """The kind of content that begins with these bytes, in the words of `describe_content`."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file of zeros, as an interrupted copy leaves it"
    if head.startswith(b"PK\x03\x04"):  # a new torch.save is a ZIP archive with this name in it
        return "a PyTorch file" if b"/data.pkl" in head[30:300] else "a ZIP archive"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32:
        return "a safetensors file"
    known = next((kind for start, mark, kind in _SIGNATURES if head[start : start + len(mark)] == mark), None)
    if known is None and head[0] == 0x80 and head[1] in range(2, 6):
        known = "a Python pickle"
    return known or _describe_text(head) or _UNKNOWN


def _describe_text(head: bytes) -> str | None:
    """The kind of a text; None where it is none."""
    text = _decode(head)
    if text is None:
        return None
    begin = text.lstrip("\ufeff \t\r\n")
    if begin.startswith("version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer: the file itself was not fetched (git lfs pull)"
    if "/annex/objects/" in begin.partition("\n")[0]:
        return "a git-annex pointer: the file itself was not fetched (git annex get)"
    if re.match(r"(<!--.*?-->\s*)?<(!doctype html|html|head|body|script|title)\b", begin, re.IGNORECASE | re.DOTALL):
        return "an HTML page"
    if begin.startswith("<"):
        return "an SVG drawing" if "<svg" in begin else "an XML file"
    if begin.startswith(("{", "[")):
        return "a JSON file"
    line = begin.split("\n")[0].strip()
    return f"a text that begins with {line[:_SHOWN]!r}" if line else "an empty text"


def _decode(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="replace")
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not a letter that the end of `head` cuts through
            return None
        text = head[: error.start].decode()
    return None if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text) else text
