"""Records of nascli: JSON objects that carry a checksum, alone in a file or as lines of one."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError
from nascli.files import format_json, write_text
from nascli.text_files import read_json

CHECKSUM = "checksum"
"""The last key of a record: the SHA-256 of the others."""

_LINE_CHECKSUM = b', "crc": "'
"""Stands before the CRC-32 of a line of records, which is over all bytes before it."""

_LINE_END = b'"}\n'

_DEEPEST = 50
"""Objects and lists within each other that a record may have."""


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
    """Take the checksum, if there is one, out of a record that was read.

    Raises:
        CorruptFileError: It does not fit, or a number is not finite, which could not be written again.
    """
    written = values.pop(CHECKSUM, None)
    try:
        found = sha256_json(values)
    except ValueError as error:
        raise CorruptFileError(f"{source}: a number in it is not finite", file=source) from error
    if written is not None and written != found:
        raise CorruptFileError(
            f"{source}: {CHECKSUM} does not fit: the file was changed or damaged after nascli wrote it",
            f'Copy it again from where it was written; if the change is meant, remove its line "{CHECKSUM}"',
            file=source,
            field=CHECKSUM,
        )


def check_schema(values: Mapping[str, object], known: int, source: object) -> None:
    """InputError where the JSON of a file, named as `source`, is of a schema above `known`; without one it is of it."""
    version = values.get("schema", known)
    if isinstance(version, int) and version > known:
        raise InputError(
            f"{source}: schema {version} is newer than this nascli reads ({known})", "Upgrade nascli", field="schema"
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


def is_torn(tail: bytes) -> bool:
    """Whether what follows the last newline is a part of a line, as a kill leaves it, not one whose newline changed."""
    _, found, end = tail.rpartition(_LINE_CHECKSUM)
    return not found or len(end) < 8 + len(_LINE_END)  # a CRC-32 has 8 digits


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of `format_line`; an unfinished last line is left out.

    Raises:
        InputError: There is no such file.
        CorruptFileError: A line is not as it was written; the message has its number.
    """
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", file=path) from error
    records = []
    if not is_torn(tail):
        lines.append(tail)
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_line(line))
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(f"{path}, line {number}: {error}", file=path) from error
    return records


def sha256_json(values: object) -> str:
    """The SHA-256 of JSON values, in hexadecimal; the order of keys does not count. ValueError for NaN and infinity."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()
