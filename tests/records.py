"""Files of nascli that a test changes by hand, with checksums that fit again, so that it is not these that refuse."""

import json
import zlib
from pathlib import Path
from typing import Any

from nascli.records import CHECKSUM, write_record


def edit_record(path: Path, **changes: object) -> None:
    """Set keys of a JSON object of nascli; None removes one."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) | changes
    values.pop(CHECKSUM, None)
    write_record(path, {key: value for key, value in values.items() if key not in changes or value is not None})


def forget_checksum(path: Path, **changes: object) -> None:
    """Set keys of a JSON object of nascli as somebody would who changes it: the line of the checksum is removed."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    values.pop(CHECKSUM, None)
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def sign_line(line: bytes) -> bytes:
    """A line of a journal, or of metrics, with the checksum of what is in it before."""
    begin = line.rstrip(b"\n").rpartition(b', "crc": "')[0] or line.rstrip(b"\n").removesuffix(b"}")
    return begin + f', "crc": "{zlib.crc32(begin):08x}"}}'.encode()


def sign_lines(path: Path) -> None:
    """Make the checksum of each whole line fit."""
    *lines, rest = path.read_bytes().split(b"\n")
    path.write_bytes(b"".join(sign_line(line) + b"\n" for line in lines) + rest)
