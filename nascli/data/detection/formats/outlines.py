"""The box around the outline of an object: polygons, or a mask as run lengths.

References: the mask format of Lin et al. 2014, "Microsoft COCO: Common Objects in Context": a mask column by column as
lengths of alternating runs, beginning with the background.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

_DIGITS = 5  # bits per letter of a compressed mask; the sixth says that more follow
_FIRST_LETTER = 48


def surround_outline(outline: object) -> list[float] | None:
    """The box (x, y, width, height) around COCO's `segmentation`; None where it has no points, or is none."""
    try:
        if isinstance(outline, dict):
            return _surround_mask(outline["counts"], outline["size"])
        if isinstance(outline, list) and outline:
            polygons = outline if isinstance(outline[0], list) else [outline]
            points = np.array([value for polygon in polygons for value in polygon], dtype=np.float64).reshape(-1, 2)
            low, high = points.min(0), points.max(0)
            return [*low.tolist(), *(high - low).tolist()]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        pass
    return None


def _surround_mask(counts: Any, size: Any) -> list[float] | None:  # noqa: ANN401 - any JSON
    height, width = map(int, size)
    runs = _decompress(counts) if isinstance(counts, str) else [int(each) for each in counts]
    edges = list(accumulate(runs))
    if height < 1 or not edges or min(runs) < 0 or edges[-1] > height * width:
        return None
    rows: list[int] = []
    columns: list[int] = []
    for start, end in zip(edges[0::2], edges[1::2], strict=False):
        if end > start:
            first, last = start // height, (end - 1) // height
            columns += [first, last]
            rows += [start % height, (end - 1) % height] if first == last else [0, height - 1]
    if not columns:
        return None
    x, y = min(columns), min(rows)
    return [float(x), float(y), float(max(columns) + 1 - x), float(max(rows) + 1 - y)]


def _decompress(text: str) -> Sequence[int]:
    """The run lengths that a text of five bits per letter holds; from the fourth on each is a difference."""
    runs: list[int] = []
    letters = iter(text)
    for letter in letters:
        value, shift, bits = 0, 0, ord(letter) - _FIRST_LETTER
        while True:
            value |= (bits & 0x1F) << shift
            shift += _DIGITS
            if not bits & 0x20:
                break
            bits = ord(next(letters, "0")) - _FIRST_LETTER
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
