"""Signs in all boxes of a split together that they are not x, y, width, height in pixels.

Each box alone may be right; together they show how they were written. N boxes (N, 4) as the file has them, on images of
`sizes` (N, 2), width and height.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nascli.data.issues import IssueLog
from nascli.units import count_of

Numbers = NDArray[np.float64]

_SLACK = 1.0  # pixels beyond an image that annotators' rounding explains
_FAR = 0.1  # part of an image's side by which a box sticks out that rounding does not explain
_MANY = 0.2  # part of the boxes that stick out so far
_MOST = 0.5  # part of the boxes that stick out at all
_NEARLY_ALL = 0.99  # part of the boxes that fit once they are read in the other way
_FEWEST = 3  # boxes that show how all were meant
_WHOLE = 1.05  # the largest of four numbers that are parts of an image; annotators round
_LARGE_SIDE = 150  # pixels of an image of which boxes would hardly keep within 100


READINGS: dict[str, tuple[str, Callable[[Numbers], Numbers]]] = {
    "boxes are corners": ("x1, y1, x2, y2", lambda boxes: boxes),
    "boxes begin at their centers": (
        "center x, center y, width, height",
        lambda boxes: np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1),
    ),
    "boxes are rows first": (
        "y, x, height, width",
        lambda boxes: np.concatenate((boxes[:, [1, 0]], boxes[:, [1, 0]] + boxes[:, [3, 2]]), 1),
    ),
    "boxes are corners, rows first": ("y1, x1, y2, x2", lambda boxes: boxes[:, [1, 0, 3, 2]]),
}
"""Other orders that people write, as kinds of issues: in words, and to corners (x1, y1, x2, y2)."""


def find_other_reading(boxes: Numbers, sizes: Numbers) -> str | None:
    """The kind of issue, of `READINGS`, of boxes that often leave their images by far, and fit if read in that way."""
    corner = (boxes[:, :2] != 0).any(1)  # a box from 0, 0 is equal as sides and as corners
    boxes, sizes = boxes[corner], sizes[corner]
    beyond = boxes[:, :2] + boxes[:, 2:] - sizes
    far, at_all = (beyond > _SLACK + _FAR * sizes).any(1), (beyond > _SLACK).any(1)
    if len(boxes) < _FEWEST or (far.mean() < _MANY and at_all.mean() < _MOST):
        return None
    for kind, (_, read) in READINGS.items():
        corners = read(boxes)
        proper = (corners[:, 2:] > corners[:, :2]).all(1)
        inside = (corners[:, :2] >= -_SLACK).all(1) & (corners[:, 2:] <= sizes + _SLACK).all(1)
        if (proper & inside).mean() >= _NEARLY_ALL:
            return kind
    return None


def check_patterns(boxes: Numbers, sizes: Numbers, log: IssueLog) -> None:
    """Look at the boxes of a split that are finite and not empty, on images of known size."""
    if not len(boxes):
        return
    ends = np.maximum(boxes[:, :2], boxes[:, :2] + boxes[:, 2:])
    example = f"all of {count_of(len(boxes), 'box')}, such as {describe_box(boxes[0], sizes[0])}"
    if boxes.max() <= _WHOLE and boxes.min() >= 1 - _WHOLE:
        log.add("boxes from 0 to 1", example, len(boxes))
        return
    if (kind := find_other_reading(boxes, sizes)) is not None:
        log.add(kind, f"{example}, fit their images as {READINGS[kind][0]} alone", len(boxes))
        return
    if len(boxes) >= _FEWEST and ends.max() <= 100 and sizes.min() > _LARGE_SIDE and boxes.min() >= 0:
        log.add("boxes within 100 pixels", example, len(boxes))
    if small := int(((boxes[:, 2:] < 1).any(1) & (ends > 1).any(1)).sum()):
        first = int((boxes[:, 2:] < 1).any(1).argmax())
        log.add("box smaller than a pixel", f"bbox {describe_box(boxes[first], sizes[first])}", small)


def describe_box(box: Numbers, size: Numbers) -> str:
    """A box with the size of its image in words, as far as that is known."""
    on = f" on {size[0]:.0f}x{size[1]:.0f} pixels" if np.isfinite(size).all() else ""
    return f"[{', '.join(f'{value:.12g}' for value in box)}]{on}"
