"""Issues of annotated images: every kind by name, how it is handled, and how often it was met."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nascli.errors import CorruptFileError, InputError


class IssueOutcome(StrEnum):
    """How an issue is handled."""

    REFUSED = "refused"
    """Nothing is trained or scored before it is repaired."""

    SKIPPED = "skipped"
    """The box or image is not used, and counted."""

    KEPT = "kept"
    """It is used as the remedy says, and counted."""


@dataclass(frozen=True)
class IssueKind:
    """How a kind of issue is handled, and its remedy: what to do about it, or what is done."""

    outcome: IssueOutcome
    remedy: str


def _refused(remedy: str) -> IssueKind:
    return IssueKind(IssueOutcome.REFUSED, remedy)


def _skipped(remedy: str) -> IssueKind:
    return IssueKind(IssueOutcome.SKIPPED, remedy)


def _kept(remedy: str) -> IssueKind:
    return IssueKind(IssueOutcome.KEPT, remedy)


ISSUE_KINDS: dict[str, IssueKind] = {
    "category id not a whole number": _refused("Ids are whole numbers"),
    "category id given twice": _refused("Ids must differ"),
    "category without name": _refused("Give it one"),
    "image id not a whole number": _refused("Ids are whole numbers"),
    "image id given twice": _refused("Ids must differ"),
    "image without file_name": _refused("Say which file it is"),
    "image size not a number of pixels": _refused("Give width and height of the file"),
    "annotation id not a whole number": _refused("Ids are whole numbers"),
    "annotation id given twice": _refused("Ids must differ"),
    "annotation of an unknown image": _refused("Add the image, or remove the annotation"),
    "annotation of an unknown category": _refused("Add the category, or correct the annotation"),
    "box not four numbers": _refused("COCO's boxes are x, y, width, height"),
    "area not a number": _refused("Leave it out where it is not known"),
    "crowd flag not 0 or 1": _refused("Leave it out where the box is not a crowd"),
    "categories of the splits differ": _refused("Both need equal ids and names"),
    "no box to learn from": _refused("Give a training split with boxes"),
    "image not on disk": _refused("Put it there, or take the image out of the file"),
    "image cannot be read": _refused("Copy it again, or take the image out of the file"),
    "image of another size": _refused("It was resized or replaced after it was annotated; its boxes do not fit"),
    "box not finite": _skipped("the box is skipped"),
    "box empty or inverted": _skipped("the box is skipped"),
    "box outside its image": _skipped("the box is skipped"),
    "image with too many boxes": _skipped("the image is not trained on"),
    "box over the edge of its image": _kept("the part inside is trained on, the whole is scored"),
    "crowd box": _kept("scored as COCO does, not trained on"),
    "image without boxes": _kept("a negative"),
    "image that lost all its boxes": _kept("every box of it is skipped; a negative"),
    "category id 0": _kept("a class like others; the detector's background is its own"),
}
"""Every kind of issue, in the order in which they are looked for."""


@dataclass(frozen=True)
class Issue:
    """One kind of issue in one file: how often it was met, and its first example in words."""

    kind: str
    count: int
    first: str

    @property
    def outcome(self) -> IssueOutcome:
        """How it is handled."""
        return ISSUE_KINDS[self.kind].outcome

    @property
    def remedy(self) -> str:
        """What to do about it, or what is done."""
        return ISSUE_KINDS[self.kind].remedy


class IssueLog:
    """Counts the issues of one file while it is read, and keeps the first example of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one more.

        Args:
            kind: One of `ISSUE_KINDS`.
            example: Place and value, in words.
        """
        self._counts[kind] += 1
        self._first.setdefault(kind, example)

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Everything met so far, in the order of the first examples."""
        return tuple(Issue(kind, self._counts[kind], first) for kind, first in self._first.items())


def select_refused(issues: Iterable[Issue]) -> list[Issue]:
    """Those that keep data from being used."""
    return [each for each in issues if each.outcome is IssueOutcome.REFUSED]


def raise_if_refused(source: Path, issues: Iterable[Issue]) -> None:
    """Refuse data with an issue that has to be repaired first.

    Raises:
        InputError: There is one; the message holds the first example.
        CorruptFileError: The first of them is an image that cannot be read.
    """
    serious = select_refused(issues)
    if not serious:
        return
    others = sum(each.count for each in serious) - 1
    more = f"; {others:,} more issues are listed by nascli detect --check" if others else ""
    error = CorruptFileError if serious[0].kind == "image cannot be read" else InputError
    raise error(f"{source}: {serious[0].first}", serious[0].remedy + more)
