"""The check of a split's images: whether they are there, fit their annotations, and can be decoded."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, describe_size_mismatch, open_annotated_image
from nascli.data.images import exif
from nascli.data.images.damage import has_end
from nascli.data.images.decoding import decode_image, explain, note_header, open_header
from nascli.data.images.pixels import Note
from nascli.data.issues import ISSUE_KINDS, Issue, IssueLog, IssueOutcome
from nascli.errors import CorruptFileError, InputError, TooLargeError
from nascli.reading import open_file

SKIPPED_INSTEAD = {
    "image not on disk": "image missing",
    "image cannot be read": "image unreadable",
    "image too large": "image over the limit of size",
}
"""Kinds of issue of an image that cannot be used, with the kind that it is where such images are skipped."""

_CHUNK = 64
"""Images per task of a thread that checks them."""
_MAX_READERS = 8


def check_headers(split: DetectionSplit) -> tuple[Issue, ...]:
    """Check that images are there and fit their annotations, without decoding: seconds for ten thousands of files.

    A file is opened for its size, and its end is looked at; where that seems cut off, it is decoded to be sure.
    """
    return check_images(split, decode=False)[0]


def check_images(split: DetectionSplit, *, decode: bool) -> tuple[tuple[Issue, ...], frozenset[int]]:
    """The issues of a split's images, by header or by decoding, and the ids of those that cannot be used at all."""
    find_issues = _find_pixel_issues if decode else _find_header_issues
    log = IssueLog()
    unusable: set[int] = set()
    present: list[AnnotatedImage] = []
    listed: dict[Path, frozenset[str]] = {}  # one listing per folder is much faster than a stat per file
    for image in split.images:
        folder = image.path.parent
        if folder not in listed:
            listed[folder] = _list_names(folder)
        if image.path.name in listed[folder]:
            present.append(image)
        else:
            log.add("image not on disk", f"image id {image.id} is not on disk: {image.path}")
            unusable.add(image.id)

    def check_chunk(chunk: Sequence[AnnotatedImage]) -> list[tuple[int, str, str]]:
        return [(image.id, *issue) for image in chunk for issue in find_issues(image)]

    chunks = [present[start : start + _CHUNK] for start in range(0, len(present), _CHUNK)]
    with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as readers:
        for found in readers.map(check_chunk, chunks):
            for number, kind, example in found:
                log.add(kind, example)
                if kind in SKIPPED_INSTEAD:
                    unusable.add(number)
    return log.issues, frozenset(unusable)


def _list_names(folder: Path) -> frozenset[str]:
    """The names in a folder; none where it is not there, which is said of each of its images."""
    try:
        return frozenset(os.listdir(folder))
    except PermissionError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror}", "Allow reading it") from error
    except (OSError, ValueError):  # or no folder has such a name
        return frozenset()


def _find_header_issues(image: AnnotatedImage) -> list[tuple[str, str]]:
    """Kind and example of each issue of an image, as far as its header and its end tell."""
    expected = (image.width, image.height)
    issues: list[tuple[str, str]] = []
    try:
        with open_file(image.path) as file, open_header(file, image.max_megapixels) as opened:
            note_header(opened, _collect(image, issues), expected)
            size = opened.size
            if size != expected and exif.read_orientation(opened) in exif.ON_ITS_SIDE:
                size = size[::-1]
            complete = has_end(file, opened.format)
        if not complete:
            decode_image(image.path, max_megapixels=image.max_megapixels)
    except Exception as error:  # decoders raise whatever their format makes them raise
        return [_classify(image, explain(image.path, error))]
    if size != expected:
        issues.append(("image of another size", describe_size_mismatch(image, size)))
    return issues


def _find_pixel_issues(image: AnnotatedImage) -> list[tuple[str, str]]:
    """The same, and what shows when it is decoded."""
    issues = _find_header_issues(image)
    if any(ISSUE_KINDS[kind][0] is IssueOutcome.REFUSED for kind, _ in issues):
        return issues
    try:
        open_annotated_image(image, _collect(image, issues))
    except CorruptFileError as error:
        issues.append(_classify(image, error))
    return issues


def _collect(image: AnnotatedImage, issues: list[tuple[str, str]]) -> Note:
    """A note that adds to these issues of an image."""
    return lambda kind, example: issues.append((kind, f"image id {image.id} ({image.path.name}): {example}"))


def name_damage(error: CorruptFileError) -> str:
    """The kind of issue of an image that cannot be decoded."""
    return "image too large" if isinstance(error, TooLargeError) else "image cannot be read"


def _classify(image: AnnotatedImage, error: CorruptFileError) -> tuple[str, str]:
    return name_damage(error), f"image id {image.id}: {error.message}"
