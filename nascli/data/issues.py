"""Issues of data sets: every kind by name, how it is handled, and how often it was met."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError


class IssueOutcome(StrEnum):
    """The handling of an issue."""

    REFUSED = "refused"
    """Nothing is trained or scored before it is repaired."""

    SKIPPED = "skipped"
    """The box or image is not used, and counted."""

    LENIENT = "lenient"
    """It breaks the rules of its format and can mean one thing only: it is read as that, and counted."""

    KEPT = "kept"
    """It is used as the remedy says, and counted."""


_REMEDIES: dict[IssueOutcome, dict[str, str]] = {
    IssueOutcome.REFUSED: {
        "category id not a whole number": "Ids are whole numbers",
        "category id given twice": "Ids must differ",
        "category without name": "Give it one",
        "image id not a whole number": "Ids are whole numbers",
        "image id given twice": "Ids must differ",
        "image without file_name": "Say which file it is",
        "image size not a number of pixels": "Give width and height of the file",
        "annotation id not a whole number": "Ids are whole numbers",
        "annotation id given twice": "Ids must differ",
        "annotation of an unknown image": "Add the image, or remove the annotation",
        "annotation of an unknown category": "Add the category, or correct the annotation",
        "box not four numbers": "COCO's boxes are x, y, width, height",
        "label line not five numbers": "A line is class, x, y, width, height; or class and an outline's points",
        "label of an unknown class": "Classes are numbers from 0 in the order of the names",
        "label not between 0 and 1": "YOLO's numbers are fractions of the width and the height of the image",
        "XML file cannot be read": "Repair it, or take it out",
        "object without name or box": "Give it name and bndbox with xmin, ymin, xmax, ymax",
        "row without class or box": "Give all four numbers and the class, or none of them for an image without boxes",
        "area not a number": "Leave it out where it is not known",
        "crowd flag not 0 or 1": "Leave it out where the box is not a crowd",
        "categories of the splits differ": "Both need equal ids and names",
        "no box to learn from": "Give a training split with boxes",
        "image not on disk": "Put it there, or take the image out of the file",
        "image cannot be read": "Copy it again, or take the image out of the file",
        "image of another size": "It was resized or replaced after it was annotated; its boxes do not fit",
    },
    IssueOutcome.SKIPPED: {
        "box not finite": "the box is skipped",
        "box empty or inverted": "the box is skipped",
        "box outside its image": "the box is skipped",
        "image with too many boxes": "the image is not trained on",
        "image of a format that cannot be read here": "convert it; for .heic, pip install pillow-heif is enough",
        "link that leads nowhere": "there is nothing to read",
    },
    IssueOutcome.LENIENT: {
        "image without the ending of one": "its content is one",
        "split at another place": "the folder or list of that name beside the description is read",
        "image at another place": "the file of that name beside the list is read",
        "class number with decimals": "the whole number is taken",
        "class without a name": "it is called by its number",
        "nc is not the number of names": "the names count",
        "label with a confidence": "the box is taken, the last number is not",
        "XML file of another image's name": "the image of the XML file's own name is taken",
        "box counted from 0": "VOC counts pixels from 1; this file's boxes are taken as edges from 0",
        "number with a decimal comma": "read as a decimal point",
    },
    IssueOutcome.KEPT: {
        "hidden or service file or folder": "passed over",
        "file that is no image": "passed over",
        "folder that links lead to again": "read once",
        "box over the edge of its image": "the part inside is trained on, the whole is scored",
        "outline in place of a box": "the box around it is taken",
        "label file without image": "passed over",
        "image without an XML file": "passed over; an XML file without objects makes it a negative",
        "object marked difficult": "a crowd: not trained on, neither hit nor miss in scoring",
        "crowd box": "scored as COCO does, not trained on",
        "image without boxes": "a negative",
        "image that lost all its boxes": "every box of it is skipped; a negative",
        "category id 0": "a class like others; the detector's background is its own",
    },
}
"""Every kind of issue, in the order in which they are looked for: what to do about it, or what is done."""

ISSUE_KINDS = {kind: (outcome, remedy) for outcome, kinds in _REMEDIES.items() for kind, remedy in kinds.items()}
"""Outcome and remedy of each kind."""


@dataclass(frozen=True)
class Issue:
    """One kind of issue in one file: how often it was met, and its first example in words."""

    kind: str
    count: int
    first: str

    @property
    def outcome(self) -> IssueOutcome:
        """Its handling."""
        return ISSUE_KINDS[self.kind][0]

    @property
    def remedy(self) -> str:
        """The action of the user, or of the program."""
        return ISSUE_KINDS[self.kind][1]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "outcome": self.outcome, "remedy": self.remedy}


class IssueLog:
    """Counts the issues of one file while it is read, and keeps the first example of each kind."""

    def __init__(self) -> None:
        self._issues: dict[str, Issue] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one more of a kind of `ISSUE_KINDS`; `example` says place and value in words."""
        count, first = (self._issues[kind].count, self._issues[kind].first) if kind in self._issues else (0, example)
        self._issues[kind] = Issue(kind, count + 1, first)

    def join(self, issue: Issue) -> None:
        """Add what another log counted of a kind."""
        self.add(issue.kind, issue.first)
        self._issues[issue.kind] = replace(
            self._issues[issue.kind], count=self._issues[issue.kind].count + issue.count - 1
        )

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Everything met so far, in the order of the first examples."""
        return tuple(self._issues.values())


def select_refused(issues: Iterable[Issue], *, strict: bool = False) -> list[Issue]:
    """Those that keep data from being used; `strict` adds what would be skipped or read leniently."""
    refused = {IssueOutcome.REFUSED, *((IssueOutcome.SKIPPED, IssueOutcome.LENIENT) if strict else ())}
    return [each for each in issues if each.outcome in refused]


def raise_if_refused(source: Path, issues: Iterable[Issue], *, strict: bool = False) -> None:
    """Refuse data with an issue that has to be repaired first; the message holds the first example.

    Raises:
        CorruptFileError: The first of them is an image that cannot be read.
        InputError: It is another.
    """
    if serious := sorted(select_refused(issues, strict=strict), key=lambda each: each.outcome != IssueOutcome.REFUSED):
        first = serious[0]
        others = sum(each.count for each in serious) - 1
        more = f"; {others:,} more issues are listed by nascli detect check" if others else ""
        error = CorruptFileError if first.kind == "image cannot be read" else InputError
        remedy = (
            first.remedy
            if first.outcome is IssueOutcome.REFUSED
            else f"Repair it, or leave --strict out ({first.remedy})"
        )
        raise error(f"{source}: {first.first}", remedy + more)
