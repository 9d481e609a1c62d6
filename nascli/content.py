"""The kind of a file by its content, in words: what users are told who gave another file than was wanted."""

import re
from pathlib import Path

from nascli.reading import open_file

HEAD = 2048
"""Bytes that are looked at."""
UNKNOWN = "of an unknown kind"
"""The words for content of no known kind."""
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


def describe_content(path: Path) -> str:
    """A file's kind in words that follow "it is": "a PNG image", "an HTML page", "a Git LFS pointer", "an empty file".

    A text of no known kind is shown by its beginning. OSError where it cannot be opened.
    """
    with open_file(path) as file:
        return describe_bytes(file.read(HEAD))


def describe_misfit(text: str, wanted: str, error: Exception) -> str:
    """The kind of a text that is not in the format `wanted`: an error page or the like, else what its parser says."""
    kind = describe_bytes(text[:HEAD].encode("utf-8", "replace"))
    told = kind if not kind.startswith(("a text that", "a JSON file", UNKNOWN)) else ""
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
    return known or describe_text_bytes(head) or UNKNOWN


def describe_text_bytes(head: bytes) -> str | None:
    """The kind of a text that begins with these bytes; None where they are no text."""
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
