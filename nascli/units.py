"""Amounts of what a network costs, as people write them: 600M, 3.3M, 20ms. No torch."""

import math
import re
from decimal import Decimal

from nascli.errors import InputError

_COUNTS = {"G": 9, "M": 6, "k": 3, "": 0}

UNITS: dict[str, dict[str, int]] = {
    "params": _COUNTS,
    "mult_adds": _COUNTS,
    "latency": {"s": 0, "ms": -3, "us": -6},
}
"""The units of each quantity, largest first, as powers of ten."""

EXAMPLES = {"params": "6M", "mult_adds": "600M", "latency": "20ms"}
"""An amount of each quantity."""

_NUMBER = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>.*)")


def split_amount(text: str) -> tuple[str, str] | None:
    """The number and the unit in a text like `0.6 G`, as they stand there; None where no number opens it."""
    found = _NUMBER.fullmatch(text.strip())
    return (found["number"], found["unit"]) if found else None


def to_plain(number: str, unit: str, units: dict[str, int], place: str, hint: str) -> float:
    """A number with a unit in plain units; decimal, so that `0.6G` is 600M to the last bit.

    Args:
        number: As `split_amount` gives it.
        unit: The same.
        units: Those that are known, as powers of ten.
        place: Where the amount was written; it opens the message.
        hint: What to write instead.

    Raises:
        InputError: The unit is not known, or the number is not finite.
    """
    if unit not in units:
        wrong = f"unknown unit {unit!r}" if unit else "the number has no unit"
        raise InputError(f"{place}: {wrong}", hint)
    if not math.isfinite(float(number) * 10.0 ** units[unit]):
        raise InputError(f"{place}: the number is too large", hint)
    return float(Decimal(number).scaleb(units[unit]))


def amount_text(value: float, units: dict[str, int]) -> str:
    """The value in the largest unit in which it is at least 1 (else in the smallest), to the last digit.

    Without an exponent, and decimal, so that reading it back gives the same float.
    """
    unit = next((unit for unit, power in units.items() if abs(value) >= 10.0**power), list(units)[-1])
    return f"{Decimal(repr(value)).scaleb(-units[unit]).normalize():f}{unit}"


def rounded_text(value: float, units: dict[str, int]) -> str:
    """The same in four digits: 563.6M."""
    return amount_text(float(f"{value:.4g}"), units)


def units_of(quantity: str, units: dict[str, int]) -> str:
    """The start of a hint: 'The units of latency are s, ms, us'."""
    return f"The units of {quantity} are {', '.join(unit for unit in units if unit)}"
