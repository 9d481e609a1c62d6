"""What can be wrong with annotated pictures: every kind by name, what comes of it, and how often it was met."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nascli.errors import CorruptFileError, InputError


class Outcome(StrEnum):
    """What comes of something in the data that is not plain."""

    REFUSED = "refused"
    """Nothing is trained or scored before it is repaired."""

    SKIPPED = "skipped"
    """It is left out, and counted."""

    KEPT = "kept"
    """It is used as the remedy says, and counted."""


@dataclass(frozen=True)
class Kind:
    """What comes of a kind of fault, and what to do about it, or what is done."""

    outcome: Outcome
    remedy: str


KINDS: dict[str, Kind] = {
    "category id not a whole number": Kind(Outcome.REFUSED, "Ids are whole numbers"),
    "category id given twice": Kind(Outcome.REFUSED, "Ids must differ"),
    "category without name": Kind(Outcome.REFUSED, "Give it one"),
    "image id not a whole number": Kind(Outcome.REFUSED, "Ids are whole numbers"),
    "image id given twice": Kind(Outcome.REFUSED, "Ids must differ"),
    "image without file_name": Kind(Outcome.REFUSED, "Say which file it is"),
    "image size not a number of pixels": Kind(Outcome.REFUSED, "Give width and height of the file"),
    "annotation id not a whole number": Kind(Outcome.REFUSED, "Ids are whole numbers"),
    "annotation id given twice": Kind(Outcome.REFUSED, "Ids must differ"),
    "annotation of an unknown image": Kind(Outcome.REFUSED, "Add the image, or remove the annotation"),
    "annotation of an unknown category": Kind(Outcome.REFUSED, "Add the category, or correct the annotation"),
    "box not four numbers": Kind(Outcome.REFUSED, "COCO's boxes are x, y, width, height"),
    "area not a number": Kind(Outcome.REFUSED, "Leave it out where it is not known"),
    "crowd flag not 0 or 1": Kind(Outcome.REFUSED, "Leave it out where the box is not a crowd"),
    "categories of the splits differ": Kind(Outcome.REFUSED, "Both need equal ids and names"),
    "no box to learn from": Kind(Outcome.REFUSED, "Give a training split with boxes"),
    "picture not on disk": Kind(Outcome.REFUSED, "Put it there, or take the image out of the file"),
    "picture cannot be read": Kind(Outcome.REFUSED, "Copy it again, or take the image out of the file"),
    "picture of another size": Kind(
        Outcome.REFUSED, "It was resized or replaced after it was annotated; its boxes do not fit"
    ),
    "box not finite": Kind(Outcome.SKIPPED, "the box is left out"),
    "box empty or inverted": Kind(Outcome.SKIPPED, "the box is left out"),
    "box outside its image": Kind(Outcome.SKIPPED, "the box is left out"),
    "image with too many boxes": Kind(Outcome.SKIPPED, "the image is not trained on"),
    "box over the edge of its image": Kind(Outcome.KEPT, "the part inside is trained on, the whole is scored"),
    "crowd box": Kind(Outcome.KEPT, "scored as COCO does, not trained on"),
    "image without boxes": Kind(Outcome.KEPT, "a negative"),
    "image that lost all its boxes": Kind(Outcome.KEPT, "every box of it is left out; a negative"),
    "category id 0": Kind(Outcome.KEPT, "a class like others; the detector's background is its own"),
}
"""Every kind of fault, in the order in which they are looked for."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file: how often it was met, and its first example in words."""

    kind: str
    count: int
    first: str

    @property
    def outcome(self) -> Outcome:
        """What comes of it."""
        return KINDS[self.kind].outcome

    @property
    def remedy(self) -> str:
        """What to do about it, or what is done."""
        return KINDS[self.kind].remedy


class Faults:
    """Counts what is met while data are read, and keeps the first example of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one more.

        Args:
            kind: One of `KINDS`.
            example: Where it is and what is there, in words.
        """
        self._counts[kind] += 1
        self._first.setdefault(kind, example)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything met so far, in the order of the first examples."""
        return tuple(Finding(kind, self._counts[kind], first) for kind, first in self._first.items())


def refused(findings: Iterable[Finding]) -> list[Finding]:
    """Those that keep data from being used."""
    return [each for each in findings if each.outcome is Outcome.REFUSED]


def refuse(source: Path, findings: Iterable[Finding]) -> None:
    """Nothing, where the data can be used.

    Raises:
        InputError: Something must be repaired first; the message holds the first example.
        CorruptFileError: The first of these is a picture that cannot be read.
    """
    serious = refused(findings)
    if not serious:
        return
    others = sum(each.count for each in serious) - 1
    more = f"; {others:,} more faults are listed by nascli detect --check" if others else ""
    error = CorruptFileError if serious[0].kind == "picture cannot be read" else InputError
    raise error(f"{source}: {serious[0].first}", serious[0].remedy + more)
