"""Numbers, flags and ids as programs write them into JSON: with quotes, as fractions, as null, or not at all."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, count
from pathlib import PurePath

from nascli.units import shorten

_LARGEST_ID = 2**63
_WHOLE = re.compile(r"[+-]?\d{1,19}(\.0*)?", re.ASCII)


def read_number(value: object) -> float | None:
    """The number that a value is or spells, finite or not; None where it is none, for instance true."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf
    except ValueError:
        return None


def read_whole(value: object) -> int | None:
    """The whole number of 64 bits that a value is or spells: 12, 12.0, "12", "12.0"; None for any other."""
    if isinstance(value, str):
        text = value.strip()
        number = int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
    return number if number is not None and -_LARGEST_ID < number < _LARGEST_ID else None


def is_blank(value: object) -> bool:
    """Whether a value says that it is not known: null, NaN, an empty text."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


class IdTable:
    """The ids of one list, and what a reference to one of them means.

    An id that spells a whole number is that number. Other texts are numbered in their order, after the largest of them.

    Args:
        noun: The entries of the list, for messages.
        values: Their ids as they are written.
        note: Called with a kind of outcome LENIENT and an example, for each id that is not written as a number.
        names: What the entries are called, by which some programs refer to them.
    """

    def __init__(
        self,
        noun: str,
        values: Collection[object],
        note: Callable[[str, str], None],
        names: Sequence[object] = (),
    ) -> None:
        self._noun, self._note = noun, note
        self._names, self._texts = names, dict[str, int]()
        self._written = {value for value in values if isinstance(value, str)}
        self.numbers = [
            value if type(value) is int and -_LARGEST_ID < value < _LARGEST_ID else self._read(value)
            for value in values
        ]
        """The id of each entry; None where there is none."""
        if any(number is None for number in self.numbers):
            self._number_texts(values)

    def look_up(self, value: object) -> int | None:
        """The id that a reference means, which may be of no entry; None where it is no id."""
        if type(value) is int:
            return value
        if isinstance(value, str):
            if value in self._texts:
                return self._texts[value]
            number, named = read_whole(value), self._named.get(value)
            if named not in (None, number) and value not in self._written:
                if number in self._known:
                    return None  # it may be the one or the other
                self._note("reference by name", f"the {self._noun} {shorten(repr(value))} is id {named}")
                return named
        return self._read(value)

    @property
    def texts(self) -> Mapping[int, str]:
        """The ids as they are written, by number, of those that are no numbers."""
        return {number: text for text, number in self._texts.items()}

    @cached_property
    def _known(self) -> set[int | None]:
        return set(self.numbers)

    @cached_property
    def _named(self) -> dict[str, int]:
        """The id of each name that one entry alone has; of a file with and without its ending."""
        found: dict[str, set[int]] = {}
        for number, name in zip(self.numbers, self._names, strict=False):
            if isinstance(name, str) and number is not None:
                found.setdefault(name, set()).add(number)
                if self._noun == "image":
                    found.setdefault(PurePath(name).stem, set()).add(number)
        return {name: numbers.pop() for name, numbers in found.items() if len(numbers) == 1}

    def _read(self, value: object) -> int | None:
        number = read_whole(value)
        if number is not None and type(value) is not int:
            self._note("id of another type", f"the {self._noun} id {shorten(repr(value))} is read as {number}")
        return number

    def _number_texts(self, values: Iterable[object]) -> None:
        taken = {number for number in self.numbers if number is not None}
        free = (n for n in chain(range(max(taken, default=0) + 1, _LARGEST_ID), count(1)) if n not in taken)
        for position, value in enumerate(values):
            if self.numbers[position] is not None or not isinstance(value, str) or not value.strip():
                continue
            if value not in self._texts:
                self._texts[value] = next(free)
                example = f"the {self._noun} id {shorten(repr(value))} is numbered {self._texts[value]}"
                self._note("id that is no number", example)
            self.numbers[position] = self._texts[value]
