"""The three lists of a COCO JSON file; where it is none, what it is instead."""

import json
from pathlib import Path
from typing import Any

from nascli.content import describe_content
from nascli.data.detection.formats.foreign import EXPORT_HINT, describe_annotations, describe_json
from nascli.data.detection.formats.outlines import surround_outline
from nascli.data.detection.formats.raw import OUTLINE_BOX, CocoLists
from nascli.data.issues import IssueLog
from nascli.errors import CorruptFileError, InputError
from nascli.reading import read_file
from nascli.text_files import decode_text
from nascli.units import shorten

_CUT_OFF = {word[:length] for word in ("null", "true", "false", "NaN", "-Infinity") for length in range(len(word))}
"""The rest of a file that ends in the middle of a value."""


def read_coco_lists(path: Path, log: IssueLog) -> CocoLists:
    """Read `images`, `annotations` and `categories`; of an outline no more is kept than the box that is not given.

    Raises:
        InputError: No such file, another encoding, or it has not these lists; the message says what it is.
        CorruptFileError: It is not JSON, for instance cut off.
    """
    try:
        text = decode_text(read_file(path), f"annotations {path}")
        # outlines are by far the largest part of COCO's files and are not needed: drop each as soon as it is read
        values = json.loads(text, object_hook=_drop_outline)
    except OSError as error:
        raise InputError(f"annotations {path}: {error.strerror or error}") from error
    except CorruptFileError as error:
        raise _explain_encoding(path, error) from error
    except json.JSONDecodeError as error:
        raise _explain_syntax(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"annotations {path} are not JSON: {error}", "Write or copy the file again") from error
    lists = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(values, dict) or not isinstance(values.get(key), list):
            raise _explain_other(path, values, key)
        for position, entry in enumerate(values[key]):
            if not isinstance(entry, dict):
                raise InputError(
                    f"{path}: {key}[{position}] is {shorten(repr(entry))}, not an object",
                    "Each of COCO's images, annotations and categories is an object with an id",
                )
        if not values[key] and key != "annotations":
            raise InputError(f"{path}: its list {key!r} is empty", "Export it again, or leave the file out", file=path)
        lists[key] = values[key]
    return lists


def _drop_outline(entry: dict[str, Any]) -> dict[str, Any]:
    outline = entry.pop("segmentation", None)
    if outline and not entry.get("bbox") and (box := surround_outline(outline)):
        entry[OUTLINE_BOX] = box
    return entry


def _explain_encoding(path: Path, error: CorruptFileError) -> InputError | CorruptFileError:
    """The error of a file that is not UTF-8; a code page is not guessed, since many decode anything, to other names."""
    kind = describe_content(path)
    if "JSON" not in kind and read_file(path).lstrip()[:1] not in (b"{", b"["):
        hint = "Unpack it first" if "archive" in kind else "Give COCO's JSON file"
        return InputError(f"annotations {path} are not JSON: it is {kind}", hint)
    return InputError(error.message, error.hint)


def _explain_syntax(path: Path, error: json.JSONDecodeError) -> InputError | CorruptFileError:
    """The error of a text that is not JSON: cut off, of another format, or with a slip at some place."""
    begin, start = f"annotations {path} are not JSON: ", error.doc.lstrip()[:1]
    place = f"line {error.lineno}, column {error.colno}"
    if start not in ("{", "["):
        return InputError(f"{begin}it is {describe_content(path)}", "Give COCO's JSON file")
    before = error.doc[: error.pos].rstrip()
    rest = error.doc[error.pos :].strip()
    if rest in _CUT_OFF or error.msg.startswith("Unterminated string"):
        return CorruptFileError(f"{begin}the file ends at {place}, in the middle", "Copy, download or unpack it again")
    if before.endswith(",") and error.doc[error.pos] in "]}":
        return InputError(f"{begin}a comma stands before the {error.doc[error.pos]} at {place}", "Remove the comma")
    if error.msg == "Extra data" and error.doc.lstrip().startswith("{"):
        if known := describe_annotations(path):
            return InputError(f"{begin}it looks like {known}", EXPORT_HINT, file=path)
        return InputError(f"{begin}after one object comes another ({place}), as in JSON Lines", "Write one object")
    near = shorten(repr(error.doc[error.pos : error.pos + 30]))
    return CorruptFileError(f"{begin}{error.msg} at {place}: {near}", "Correct that place, or write the file again")


def _explain_other(path: Path, values: object, missing: str) -> InputError:
    """The error of a JSON file without one of the lists: what it has instead, and which format that is."""
    first = values[0] if isinstance(values, list) and values else values
    begin = f"{path}: JSON, but not COCO annotations: there is no list {missing!r}"
    if isinstance(first, dict):
        keys = shorten(", ".join(map(repr, first))) or "nothing"
        begin += f" ({'a list of objects with' if isinstance(values, list) else 'it has'} {keys})"
    is_part = isinstance(values, dict) and "images" in values
    if not is_part and (known := describe_json(values)):
        hint = "Give the annotations; nascli detect score takes it" if "results" in known else EXPORT_HINT
        return InputError(f"{begin}; it looks like {known}", hint, file=path)
    return InputError(begin, f"COCO's file has three lists: images, annotations, categories. {EXPORT_HINT}", file=path)
