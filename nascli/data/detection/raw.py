"""A split of a detection data set as its owner wrote it.

Every format is read to COCO's three lists, which `nascli.data.detection.coco` then checks in one way; a format has to
know its own files alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nascli.data.issues import IssueLog

CocoLists = dict[str, list[dict[str, Any]]]
"""COCO's `images`, `annotations` and `categories`, with whatever their author wrote in them."""


@dataclass(frozen=True)
class RawSplit:
    """Files of one split, which are not read yet.

    Args:
        source: The annotation file or folder; messages name it.
        folders: Where its images may lie; a `file_name` is looked for below each.
        read: Reads the files; what is particular to the format goes into the log.
    """

    source: Path
    folders: tuple[Path, ...]
    read: Callable[[IssueLog], CocoLists]
