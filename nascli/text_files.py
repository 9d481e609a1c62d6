"""Texts and JSON that are read from files, of nascli or of anybody."""

import json
from pathlib import Path
from typing import Any

from nascli.content import HEAD, UNKNOWN, describe_bytes, describe_misfit, describe_text_bytes
from nascli.errors import CorruptFileError, InputError
from nascli.reading import MAX_TEXT, read_file


def read_text(path: Path, largest: int | None = MAX_TEXT, errors: str = "strict") -> str:
    """The text of a file in UTF-8 or, where it shows that, in UTF-16 or UTF-32; a byte order mark is dropped.

    Args:
        largest: Bytes that it may have; None is what the memory that is free allows for.
        errors: As of `decode_text`.

    Raises:
        OSError: There is no such file, it is too large, or cannot be read.
        CorruptFileError: It is in another encoding, or no text; the message has line and column.
    """
    return decode_text(read_file(path, largest), path, errors)


def decode_text(content: bytes, source: object, errors: str = "strict") -> str:
    """The text in the bytes of a file that begins with an ASCII letter, as `read_text`; its error names `source`.

    Args:
        errors: Python's handler of bytes that are no text: `replace` puts a mark in their place.
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
