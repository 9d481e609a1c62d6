"""The annotations of a split: read one by one into arrays, then checked together.

N boxes are (x, y, width, height) as the file has them; `places` (N,) are positions of their images.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascli.data.detection.dataset import LARGEST_AREA, MIN_BOX_SIDE
from nascli.data.detection.formats.box_patterns import check_patterns, describe_box
from nascli.data.detection.formats.raw import OUTLINE_BOX, PLACE
from nascli.data.detection.formats.values import IdTable, is_blank, read_number, read_whole
from nascli.data.issues import IssueLog, select_refused
from nascli.units import shorten

OVER_THE_EDGE = 1.0
"""Pixels by which a box may reach out of its image without an issue: annotators round."""

_FLAGS = {"true": 1, "false": 0}
_PRIMES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA24BAED4963EE407)


@dataclass(frozen=True)
class BoxTable:
    """Boxes in the order of the file: `numbers` (N,) are their ids, `areas` (N,) are NaN where they are not given."""

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def take(self, kept: NDArray[Any]) -> "BoxTable":
        """The boxes at these places, or where a mask is true."""
        return BoxTable(*(values[kept] for values in vars(self).values()))


class BoxReader:
    """Reads annotations.

    Args:
        image_ids: The ids of the images.
        places: The position of each image id; None for an image that is refused, so that its boxes are no issue.
        category_ids: The ids of the categories.
        labels: The label of each category id.
    """

    def __init__(
        self,
        image_ids: IdTable,
        places: Mapping[int, int | None],
        category_ids: IdTable,
        labels: Mapping[int, int],
        log: IssueLog,
    ) -> None:
        self._image_ids, self._places = image_ids, places
        self._category_ids, self._labels, self._log = category_ids, labels, log
        self._places_in_files: dict[int, str] = {}
        self._known = f"{', '.join(map(str, list(labels)[:20]))}{', ...' if len(labels) > 20 else ''}"

    def read(self, entries: Sequence[Mapping[str, Any]]) -> BoxTable:
        """The annotations that make sense."""
        numbers = self._number(entries)
        named = ((number, entry.get(PLACE)) for number, entry in zip(numbers, entries, strict=True))
        self._places_in_files = {number: place for number, place in named if number is not None and place}
        rows: list[tuple[int, int, list[float], int, float, int]] = []
        for number, entry in zip(numbers, entries, strict=True):
            if number is None:
                continue
            place = self._find(number, entry, "image", self._image_ids, self._places)
            label = self._find(number, entry, "category", self._category_ids, self._labels)
            if place is None or label is None:
                continue
            box = self._read_box(number, entry)
            area = self._read_area(number, entry) if box else None
            crowd = self._read_crowd(number, entry) if area is not None else None
            if box is not None and area is not None and crowd is not None:
                rows.append((number, place, box, label, area, crowd))
        ids, places, boxes, labels, areas, crowds = zip(*rows, strict=True) if rows else ((),) * 6
        return BoxTable(
            np.array(ids, dtype=np.int64),
            np.array(places, dtype=np.int64),
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array(labels, dtype=np.int64),
            np.array(areas, dtype=np.float64),
            np.array(crowds, dtype=np.bool_),
        )

    def describe(self, number: int) -> str:
        """An annotation in words: where it stands in a file of its own format, else its id."""
        return self._places_in_files.get(number) or f"annotation id {number}"

    def _number(self, entries: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """The ids of the annotations, by which messages name them; nothing refers to them."""
        values = [entry.get("id") for entry in entries]
        numbers = IdTable("annotation", values, self._log.add).numbers
        seen: set[int] = set()
        for position, number in enumerate(numbers):
            if number is None and is_blank(values[position]):
                numbers[position] = position + 1
                self._log.add("annotation without id", f"the annotation at position {position}")
            elif number is None:
                value = shorten(repr(values[position]))
                example = f"the annotation at position {position} has the id {value}"
                self._log.add("annotation id not a whole number", example)
            elif number in seen:
                self._log.add("annotation id given twice", f"{self.describe(number)} is given twice")
            else:
                seen.add(number)
        return numbers

    def _find(
        self, number: int, entry: Mapping[str, Any], noun: str, ids: IdTable, known: Mapping[int, int | None]
    ) -> int | None:
        """The entry in `known` for the image or category of an annotation."""
        value = entry.get(f"{noun}_id")
        found = value if type(value) is int else ids.look_up(value)
        if found is not None and found in known:
            return known[found]
        many = "images" if noun == "image" else f"categories. Known: {self._known}"
        example = f"{self.describe(number)}: {noun}_id {shorten(repr(value))} is not among the {many}"
        self._log.add(f"annotation of an unknown {noun}", example)
        return None

    def _read_box(self, number: int, entry: Mapping[str, Any]) -> list[float] | None:
        box = entry.get("bbox")
        if not box and OUTLINE_BOX in entry:
            self._log.add("box not given", f"{self.describe(number)}: bbox {box!r}, its outline is there")
            return list(entry[OUTLINE_BOX])
        if isinstance(box, str):
            box = re.split(r"[,;\s]+", box.strip(" ()[]"))
        if isinstance(box, list) and len(box) == 4:
            values = [value if type(value) is float else read_number(value) for value in box]
            if None not in values:
                if any(isinstance(value, str) for value in box):
                    self._log.add("number of another type", f"{self.describe(number)}: bbox {shorten(repr(box))}")
                return values  # type: ignore[return-value]
        example = (
            f"{self.describe(number)}: bbox {shorten(repr(entry.get('bbox')))} is not four numbers x, y, width, height"
        )
        self._log.add("box not four numbers", example)
        return None

    def _read_area(self, number: int, entry: Mapping[str, Any]) -> float | None:
        value = entry.get("area", math.nan)
        area = read_number(value)
        if is_blank(value):
            if "area" in entry:
                self._log.add("area left empty", f"{self.describe(number)}: area {value!r}")
            return math.nan
        if area is None or not math.isfinite(area):
            self._log.add("area not a number", f"{self.describe(number)}: area {shorten(repr(value))} is not a number")
            return None
        if not 0 <= area <= LARGEST_AREA:
            self._log.add("area of no box", f"{self.describe(number)}: area {shorten(repr(value))}")
            return math.nan
        if isinstance(value, str):
            self._log.add("number of another type", f"{self.describe(number)}: area {value!r}")
        return area

    def _read_crowd(self, number: int, entry: Mapping[str, Any]) -> int | None:
        value = entry.get("iscrowd", 0)
        if type(value) is int and value in (0, 1):
            return value
        if is_blank(value):
            self._log.add("crowd flag left empty", f"{self.describe(number)}: iscrowd {value!r}")
            return 0
        flag = int(value) if isinstance(value, bool) else read_whole(value)
        flag = _FLAGS.get(value.strip().lower(), flag) if isinstance(value, str) else flag
        if flag not in (0, 1) or type(value) is int:
            example = f"{self.describe(number)}: iscrowd {shorten(repr(value))} is not 0 or 1"
            self._log.add("crowd flag not 0 or 1", example)
            return None
        self._log.add("crowd flag of another type", f"{self.describe(number)}: iscrowd {value!r} is read as {flag}")
        return flag


def check_boxes(
    table: BoxTable, sizes: NDArray[np.float64], describe: Callable[[int, int], str], log: IssueLog
) -> BoxTable:
    """Count what is wrong with boxes, alone and together; those that mean something are left.

    Args:
        sizes: Width and height of each image in pixels, NaN where they are not known.
        describe: A box in words, by its id and the position of its image.
    """
    boxes, sides = table.boxes, sizes[table.places].reshape(-1, 2)
    with np.errstate(all="ignore"):
        ends = boxes[:, :2] + boxes[:, 2:]
        finite = np.isfinite(boxes).all(1) & np.isfinite(ends).all(1)
        empty = finite & (boxes[:, 2:] <= 0).any(1)
        large = finite & ~empty & (boxes[:, 2] * boxes[:, 3] > LARGEST_AREA)
        usable = finite & ~empty & ~large
        check_patterns(boxes[usable], sides[usable], log)
        strange = bool(select_refused(log.issues))  # then what follows is no issue of its own
        inside = (np.clip(ends, 0, sides) - np.clip(boxes[:, :2], 0, sides)).min(1, initial=np.inf)
        outside = usable & (inside < MIN_BOX_SIDE)
        beyond = np.concatenate((-boxes[:, :2], ends - sides), 1).max(1, initial=-np.inf) > OVER_THE_EDGE
    kept = usable & ~outside
    issues = {
        "box not finite": ~finite,
        "box empty or inverted": empty,
        "box too large": large,
        "box outside its image": outside & (not strange),
        "box over the edge of its image": kept & beyond & (not strange),
        "crowd box": kept & table.crowd,
        "box given twice": kept & _find_repeated(table),
    }
    for kind, mask in issues.items():
        if count := int(mask.sum()):
            first = int(mask.argmax())
            where = describe(int(table.numbers[first]), int(table.places[first]))
            log.add(kind, f"{where}: bbox {describe_box(boxes[first], sides[first])}", count)
    return table.take(kept)


def _find_repeated(table: BoxTable) -> NDArray[np.bool_]:
    """A mask of the boxes that are equal to an earlier one of the same image and class."""
    hashes = table.places.astype(np.uint64) * np.uint64(0xFF51AFD7ED558CCD) + table.labels.astype(np.uint64)
    for column, prime in enumerate(_PRIMES[:4]):
        bits = np.ascontiguousarray(table.boxes[:, column] + 0.0).view(np.uint64)
        hashes = (hashes ^ (bits + np.uint64(_PRIMES[4]))) * np.uint64(prime)
        hashes ^= hashes >> np.uint64(29)
    repeated = np.ones(len(hashes), dtype=np.bool_)
    repeated[np.unique(hashes, return_index=True)[1]] = False
    return repeated
