"""Issues of data sets: every kind by name, how it is handled, and how often it was met."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nascli.errors import CorruptFileError, InputError
from nascli.units import count_of, shorten

_LONGEST_EXAMPLE = 1000
"""Letters of an example: names in other people's files may be of any length."""


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
        "annotation of an unknown image": "Add the image, or remove the annotation",
        "annotation of an unknown category": "Add the category, or correct the annotation",
        "box not four numbers": "COCO's boxes are x, y, width, height",
        "label file cannot be read": "Copy it again, or remove it where nothing is on its image",
        "label line not five numbers": "A line is class, x, y, width, height; or class and an outline's points",
        "label of an unknown class": "Classes are numbers from 0 in the order of the names",
        "label not between 0 and 1": "YOLO's numbers are fractions of the width and the height of the image",
        "labels are corners": "YOLO's labels are center, width and height: take half of x1 + x2 and y1 + y2, and the "
        "differences",
        "XML file cannot be read": "Repair it, or take it out",
        "object without name or box": "Give it name and bndbox with xmin, ymin, xmax, ymax",
        "row without class or box": "Give all four numbers and the class, or none of them for an image without boxes",
        "boxes from 0 to 1": "They are parts of their images; COCO's boxes are pixels: multiply x and width by the "
        "image's width, y and height by its height (first take half the sizes off where x, y are centers)",
        "boxes are corners": "COCO's boxes are x, y, width, height: take x1 and y1 off the last two",
        "boxes begin at their centers": "COCO's boxes begin at the top left: take half the sizes off x and y",
        "boxes are rows first": "COCO's boxes are x, y, width, height: exchange the numbers",
        "boxes are corners, rows first": "COCO's boxes are x, y, width, height: exchange the numbers, and take x1 and "
        "y1 off the last two",
        "area not a number": "Leave it out where it is not known",
        "crowd flag not 0 or 1": "Leave it out where the box is not a crowd",
        "categories of the splits differ": "Both need the same names",
        "result without image": "Give image_id, as the annotations have it",
        "result of one of two images": "Give image_id as the annotations have it",
        "result of an unknown category": "Give category_id, or the name, as the annotations have it",
        "result box not four numbers": "COCO's boxes are x, y, width, height",
        "result box of negative size": "COCO's boxes are x, y, width, height",
        "score not a number": "Give each entry its score",
        "no box to learn from": "Give a training split with boxes",
        "image not on disk": "Put it there, or take the image out of the file, or skip up to N such images by --set "
        "data.max_unreadable_images=N",
        "image cannot be read": "Copy it again, or take the image out of the file, or skip up to N such images by "
        "--set data.max_unreadable_images=N",
        "image too large": "Allow for more by data.max_megapixels, or reduce it",
        "image of another size": "It was resized or replaced after it was annotated; its boxes do not fit",
    },
    IssueOutcome.SKIPPED: {
        "image missing": "skipped, as data.max_unreadable_images allows",
        "image unreadable": "skipped, as data.max_unreadable_images allows",
        "image over the limit of size": "skipped, as data.max_unreadable_images allows",
        "box not finite": "the box is skipped",
        "box empty or inverted": "the box is skipped",
        "box too large": "the box is skipped: COCO scores none of more than 10,000,000,000 square pixels",
        "box outside its image": "the box is skipped",
        "image with too many boxes": "the image is not trained on",
        "image of a format that cannot be read here": 'convert it, or pip install "nascli[heif]" (pillow-heif)',
        "image with the ending of another kind": "rename it, and it is used",
        "link that leads nowhere": "there is nothing to read",
        "image in no class folder": "sort it into one, and it is used",
        "image without a label": "the image is not used",
        "image of the table that is not on disk": "the image is not used",
        "result of an unlisted image": "not scored",
        "result box too large": "not scored, as by COCO: it has more than 10,000,000,000 square pixels",
    },
    IssueOutcome.LENIENT: {
        "id of another type": "a text or fraction that spells a whole number is that number",
        "id that is no number": "numbered in the order of the file, alike where something refers to it",
        "reference by name": "the one image or category of this name",
        "annotation without id": "numbered by its position: nothing refers to it",
        "annotation id given twice": "both are used: nothing refers to it",
        "number of another type": "a text or fraction that spells a number is that number",
        "area left empty": "as if it were absent: width times height",
        "area of no box": "as if it were absent: width times height; COCO's run from 0 to 10,000,000,000 square pixels",
        "crowd flag left empty": "as if it were absent: not a crowd",
        "crowd flag of another type": "read as 0 or 1",
        "box not given": "the box around its outline",
        "image size not given": "read from the image",
        "category name as a number": "read as text",
        "image named by another key": "read as file_name",
        "image path with backslashes": "read with slashes",
        "image found under another spelling": "the one file of this name, but for capitals, accents or %20",
        "image found by its name alone": "the one file of this name, in another folder or with an ending",
        "categories numbered differently": "matched by name to those of the training split",
        "category spelled differently": "the one of this name in the training split, but for capitals",
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
        "data set in a folder of the one given": "it is the only one there",
        "class folders one level deeper": "they are the only ones there",
        "class name in another Unicode form": "it reads the same, so it is the same class",
        "table without a header": "its columns are known by their content",
        "table with a line for Excel": "the delimiter that it names is taken",
        "image in several rows": "it is the same class in all of them, so it is taken once",
        "results as JSON Lines": "each line is an entry",
        "results inside an object": "its list is read",
        "results as predictions.json": "images are found by their file names",
        "image named in place of its id": "the one image of this file name",
        "image numbered differently": "found by the file name that the results give it",
        "category named in place of its id": "the one category of this name",
        "category numbered differently": "found by the name that the results give it",
        "score under another key": "read as score",
        "table without classes": "all its boxes are of one class, called object",
    },
    IssueOutcome.KEPT: {
        "results that leave their images": "scored as they are, though COCO's boxes are x, y, width, height; "
        "where they are corners, take x1 and y1 off the last two",
        "results look like parts of their images": "scored as they are, though COCO's boxes are pixels: multiply "
        "them by the sizes of their images",
        "score not between 0 and 1": "used as it is: the order of scores is what counts",
        "image with more than 100 results": "COCO counts the 100 with the highest scores",
        "hidden or service file or folder": "passed over",
        "file that is no image": "passed over",
        "image outside the data set": "its path is absolute or has .. in it: read there, and drawn as any other",
        "folder or image beside the splits": "passed over",
        "link to a folder above": "not followed: it leads to the whole disk, or to much of it",
        "folder that links lead to again": "read once",
        "folder of results of nascli": "passed over",
        "class names that differ in case or spaces alone": "two classes",
        "class without validation images": "it is not measured",
        "split of an unknown name": "not used; train, val and test are known",
        "box over the edge of its image": "the part inside is trained on, the whole is scored",
        "outline in place of a box": "the box around it is taken",
        "label file without image": "passed over",
        "label with keypoints": "its box is taken",
        "box around the whole image": "used as it is",
        "box very long and thin": "used as it is",
        "class much rarer than others": "used as it is",
        "image more than once": "each is used; remove the copies",
        "image in two classes": "each is used; decide for one",
        "nearly the same image more than once": "each is used",
        "nearly the same image of both splits": "what is measured was nearly trained on; nascli data split keeps such "
        "images on one side",
        "image without an XML file": "passed over; an XML file without objects makes it a negative",
        "object marked difficult": "a crowd: not trained on, neither hit nor miss in scoring",
        "crowd box": "scored as COCO does, not trained on",
        "image without boxes": "a negative",
        "image that lost all its boxes": "every box of it is skipped; a negative",
        "box smaller than a pixel": "used as it is",
        "boxes within 100 pixels": "used as they are; perhaps they are percent of their images",
        "box given twice": "both are used",
        "image listed twice": "both are used: what one entry has, the other teaches as background; better join them",
        "category of the name of another": "told apart by their ids",
        "category without boxes": "a class that nothing trains, or measures",
        "category of one split alone": "the other split has no box of it",
        "image of both splits": "both use it: what is measured was learned by heart; better take it out of one",
        "image with more than 100 boxes": "COCO counts 100 detections per image, so not all can be found",
        "supercategory as a class": "a class without boxes, which others name as theirs; better left out of the file",
        "camera rotation that sizes cannot tell": "boxes are taken as drawn on the stored pixels; detect predict turns "
        "such images upright",
        "image turned upright": "as its camera says that it was held; boxes are those of the turned image",
        "image of several frames": "the first is used",
        "image with damaged camera data": "what they say of a rotation may be lost",
        "16-bit image that uses 12 bits at most": "nearly black: divided by 257, as any of 16 bits",
        "image of 32-bit numbers": "scaled to bytes by their range",
        "image very long and thin": "a side keeps at least one pixel when it is resized",
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
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count one or more of a kind of `ISSUE_KINDS`; `example` says place and value of the first in words."""
        self._counts[kind] = self._counts.get(kind, 0) + count
        if kind not in self._examples:
            self._examples[kind] = shorten(example, _LONGEST_EXAMPLE)

    def join(self, issue: Issue) -> None:
        """Add what another log counted of a kind."""
        self.add(issue.kind, issue.first, issue.count)

    def note_on(self, source: object) -> Callable[[str, str], None]:
        """A call of kind and example that adds an issue of `source`."""
        return lambda kind, example: self.add(kind, f"{source}: {example}")

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Everything met so far, in the order of the first examples."""
        return tuple(Issue(kind, count, self._examples[kind]) for kind, count in self._counts.items())


def select_refused(issues: Iterable[Issue], *, strict: bool = False) -> list[Issue]:
    """Those that keep data from being used; `strict` adds what would be skipped or read leniently."""
    refused = {IssueOutcome.REFUSED, *((IssueOutcome.SKIPPED, IssueOutcome.LENIENT) if strict else ())}
    return [each for each in issues if each.outcome in refused]


def raise_if_refused(
    source: object, issues: Iterable[Issue], *, strict: bool = False, lister: str = "nascli detect check"
) -> None:
    """Refuse data with an issue that has to be repaired first; the message holds the first example.

    Args:
        lister: The command that lists further issues; none where it is empty.

    Raises:
        CorruptFileError: The first of them is an image that cannot be read.
        InputError: It is another.
    """
    if serious := sorted(select_refused(issues, strict=strict), key=lambda each: each.outcome != IssueOutcome.REFUSED):
        first = serious[0]
        others = sum(each.count for each in serious) - 1
        listed = f" {'is' if others == 1 else 'are'} listed by {lister}" if lister else ""
        more = f"; {count_of(others, 'more issue')}{listed}" if others else ""
        error = CorruptFileError if first.kind == "image cannot be read" else InputError
        remedy = (
            first.remedy
            if first.outcome is IssueOutcome.REFUSED
            else f"Repair it, or leave --strict out ({first.remedy})"
        )
        what = first.first if first.outcome is IssueOutcome.REFUSED else f"{first.first} ({first.kind})"
        raise error(f"{source}: {what}", remedy + more, file=source)
