"""Quantities with units as people write them, 600M or 20ms; durations and long texts in short."""

import math
import re
from decimal import Decimal

from nascli.errors import InputError

COUNTS = {"G": 9, "M": 6, "k": 3, "": 0}

UNITS: dict[str, dict[str, int]] = {
    "params": COUNTS,
    "mult_adds": COUNTS,
    "latency": {"s": 0, "ms": -3, "us": -6},
}
"""The units of each quantity, largest first, as powers of ten."""

EXAMPLES = {"params": "6M", "mult_adds": "600M", "latency": "20ms"}
"""A value of each quantity."""

_NUMBER = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>.*)")


def parse_quantity(
    text: str, units: dict[str, int], place: str, hint: str, missing: str = "not a number with a unit"
) -> float:
    """The value of a text like `0.6 G` in plain units; decimal, so that `0.6G` is 600M to the last bit.

    Args:
        units: The units that are known, as powers of ten.
        place: Where the text was written; opens the message of an error.
        hint: Examples of what can be written.
        missing: The message where the text does not begin with a number.

    Raises:
        InputError: There is no number, its unit is not known, or it is too large.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{place}: {missing}", hint)
    number, unit = found["number"], found["unit"]
    if unit not in units:
        wrong = f"unknown unit {unit!r}" if unit else "the number has no unit"
        raise InputError(f"{place}: {wrong}", hint)
    if not math.isfinite(float(number) * 10.0 ** units[unit]):
        raise InputError(f"{place}: the number is too large", hint)
    return float(Decimal(number).scaleb(units[unit]))


def parse_amount(quantity: str, text: str, place: str) -> float:
    """An amount of `params`, `mult_adds` or `latency` that somebody aims at, in plain units.

    Raises:
        InputError: It is not a positive number with a unit of the quantity; `place` opens the message.
    """
    units = UNITS[quantity]
    hint = f"{list_units(quantity, units)}; for example {EXAMPLES[quantity]}"
    amount = parse_quantity(text, units, place, hint)
    if amount <= 0:
        raise InputError(f"{place}: a target is larger than 0", hint)
    return amount


def format_exactly(value: float, units: dict[str, int]) -> str:
    """The value in the largest unit in which it is at least 1 (else in the smallest), to the last digit.

    Without an exponent, and decimal, so that reading it back gives the same float.
    """
    unit = next((unit for unit, power in units.items() if abs(value) >= 10.0**power), list(units)[-1])
    return f"{Decimal(repr(value)).scaleb(-units[unit]).normalize():f}{unit}"


def format_quantity(value: float, units: dict[str, int] = COUNTS) -> str:
    """The value in four digits: 563.6M."""
    return format_exactly(float(f"{value:.4g}"), units)


def list_units(quantity: str, units: dict[str, int]) -> str:
    """The start of a hint: 'The units of latency are s, ms, us'."""
    return f"The units of {quantity} are {', '.join(unit for unit in units if unit)}"


def format_bytes(size: float) -> str:
    """Bytes in three figures: 64.0 MiB, 15.6 GiB, 1,031 GiB."""
    number, unit = (size / 2**30, "GiB") if size >= 2**30 else (size / 2**20, "MiB")
    return f"{number:,.1f} {unit}" if number < 100 else f"{number:,.0f} {unit}"


def format_duration(seconds: float) -> str:
    """Seconds in two figures: 4.2 s, 42 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_of(number: int, noun: str) -> str:
    """A number with its noun: `1 class`, `2 classes`, `1,000 images`."""
    plural = f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def shorten(value: object, limit: int = 60) -> str:
    """A text, or the `repr` of another value, cut to `limit` letters with `...` at its end."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python spells out no number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else text[: limit - 3] + "..."
