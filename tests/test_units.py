"""Quantities with units, durations, long texts in short."""

import pytest

from nascli.errors import InputError
from nascli.units import COUNTS, UNITS, format_duration, format_exactly, format_quantity, parse_quantity, shorten


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [("0.6 G", COUNTS, 6e8), ("3.3M", COUNTS, 3.3e6), ("12", COUNTS, 12), ("20ms", UNITS["latency"], 0.02)],
)
def test_a_quantity_reads_as_it_is_written(text: str, units: dict[str, int], value: float) -> None:
    assert parse_quantity(text, units, "here", "") == value
    assert parse_quantity(format_exactly(value, units), units, "here", "") == value


@pytest.mark.parametrize(("text", "phrase"), [("", "number"), ("5 apples", "apples"), ("1e400", "too large")])
def test_what_is_no_quantity_is_refused_at_its_place(text: str, phrase: str) -> None:
    with pytest.raises(InputError, match=f"--target: .*{phrase}"):
        parse_quantity(text, COUNTS, "--target", "")


def test_a_rounded_quantity_has_four_digits() -> None:
    assert [format_quantity(n) for n in (563_612_345, 999_999.7, 1000, 12.0, 0)] == ["563.6M", "1M", "1k", "12", "0"]


def test_a_duration_has_two_figures() -> None:
    assert [format_duration(s) for s in (0.04, 9.94, 9.96, 59.4, 60, 3599, 3600, 7530)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 05 min",
    ]


def test_a_long_text_is_cut_and_marked() -> None:
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 57 + "..."
    assert shorten([1, 2], 5) == "[1..."
