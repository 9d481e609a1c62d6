"""What a value of somebody else's JSON file is."""

import math
from typing import TypeGuard

_LARGEST_ID = 2**63


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value: object) -> TypeGuard[int]:
    """Whether it can be an id: a whole number that fits into 64 bits."""
    return is_whole(value) and abs(value) < _LARGEST_ID


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number, finite or not; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_float(value: float) -> float:
    """The number as a float; infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def is_box(value: object) -> TypeGuard[list[float]]:
    """Whether it is a list of four numbers, finite or not."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def brief(value: object) -> str:
    """The value as Python writes it, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
