"""Splits of a data set: the names that people give them, the choice among those that are there, a part held out."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from nascli.errors import InputError

T = TypeVar("T")

ROLES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev", "minival", "eval"),
    "test": ("test", "testing"),
}
"""The words that a split's name may begin or end with, by what the split is for; numbers and the like may follow."""


def find_role(name: str) -> str | None:
    """The use of a split of this name, a key of `ROLES`, in any case: `Val2017`, `valid_small`, `my_val` are `val`."""
    words = re.findall(r"[a-z]+", name.lower())
    ends = [words[0], words[-1]] if words else []
    return next((role for word in ends for role, known in ROLES.items() if word in known), None)


def choose_training(names: Collection[str], source: Path, describe: Callable[[str], str] = str) -> str | None:
    """The split to train on: the one whose name says so, or the only one if its name says nothing; None for none.

    Args:
        source: The data set; errors name it.
        describe: The words for a split in errors.

    Raises:
        InputError: Several are for training.
    """
    found = [name for name in names if find_role(name) == "train"]
    return (
        _take_one([*map(describe, found)], found, source, "")
        if found or [*map(find_role, names)] != [None]
        else next(iter(names))
    )


def choose_validation(
    names: Collection[str],
    source: Path,
    asked: str | None = None,
    describe: Callable[[str], str] = str,
    *,
    test_first: bool = False,
) -> str | None:
    """The split to validate on: `asked` in any case, else one for validation, else one for tests; None for none.

    With `test_first` one for tests is taken before one for validation.

    Raises:
        InputError: There is none of the name that was asked for, or several are for the same.
    """
    if asked is not None:
        found = [name for name in names if name == asked] or [n for n in names if n.lower() == asked.lower()]
        if not found:
            raise InputError(f"{source}: there is no split {asked!r}", f"There is {' and '.join(names)}")
        return found[0]
    by_role = {role: [name for name in names if find_role(name) == role] for role in ("val", "test")}
    first, second = ("test", "val") if test_first else ("val", "test")
    found = by_role[first] or by_role[second]
    return _take_one([*map(describe, found)], found, source, "name one by --val-split, ")


def choose_held_out(items: Iterable[T], fraction: float, name: Callable[[T], str]) -> set[T]:
    """A part of several items to hold out, at least one and not all.

    It follows from their names, so that all runs hold the same out on every machine, and other items hardly count.
    """
    ordered = sorted(items, key=lambda item: hashlib.sha256(name(item).encode("utf-8", "surrogateescape")).digest())
    return set(ordered[: min(max(1, round(len(ordered) * fraction)), len(ordered) - 1)])


def _take_one(described: list[str], names: list[str], source: Path, hint: str) -> str | None:
    if len(names) > 1:
        raise InputError(
            f"{source} holds {' and '.join(described)}, which are for the same",
            f"Keep one of them there, {hint}or give one alone",
        )
    return names[0] if names else None
