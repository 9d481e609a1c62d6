"""A data set as notes of a run, on stderr: its images, the splits that are used, its issues."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal
from nascli.cli.options import Setting
from nascli.text import printable

if TYPE_CHECKING:
    from nascli.data.dataset import ImageData
    from nascli.data.issues import Issue

VAL_SPLIT = Setting[str | None](
    "--val-split", "Split to measure on; by default val, valid, validation or dev, else test.", metavar="NAME"
)
VAL_FRACTION = Setting[float](
    "--val-fraction",
    "Part of the training images to hold out, where there is no split to validate on.",
    0.0,
    min=0,
    max=0.99,
    metavar="X",
)


def note_images(terminal: Terminal, data: "ImageData") -> None:
    """Say how many images of which splits are used, and the issues of the data set."""
    end = f"{len(data.test):,} of {data.test_name} to measure at the end" if data.test is not None else ""
    note_splits(terminal, data.name, (len(data.train), len(data.val)), data.val_name, data.unused, end)
    note_issues(terminal, data.name, data.issues)


def note_splits(
    terminal: Terminal, source: object, counts: tuple[int, int], val_name: str, unused: Sequence[str], end: str = ""
) -> None:
    """Say how many images are trained on, how many of which split are validated on, and which splits are not used.

    Args:
        end: What is measured at the end, in words.
    """
    from nascli.data.folders.index import HELD_OUT

    train, val = counts
    held = f"{val:,} {'held out' if val_name == HELD_OUT else f'of {val_name}'} to validate on"
    rest = (f", {end}" if end else "") + (f"; not used: {', '.join(unused)}" if unused else "")
    terminal.note(printable(f"{source}: {train:,} images to train on, {held}{rest}"))


def describe_images(data: "ImageData") -> dict[str, Any]:
    """The fields of `run.json` about the splits and the issues of a data set."""
    splits = {"val_split": data.val_name, "test_split": data.test_name or None, "unused_splits": list(data.unused)}
    return {**splits, "issues": [each.to_dict() for each in data.issues]}


def note_issues(terminal: Terminal, source: object, issues: Iterable["Issue"]) -> None:
    """Say what was read leniently or skipped, a line per kind; the remarks share one more.

    Args:
        source: The data set or file that every line begins with.
        issues: Refused ones are left out: an error says them.
    """
    from nascli.data.issues import IssueOutcome

    met = list(issues)
    for outcome, done in ((IssueOutcome.LENIENT, "read leniently"), (IssueOutcome.SKIPPED, "skipped")):
        for each in met:
            if each.outcome is outcome:
                line = f"{source}: {each.count:,} {done}: {each.kind}: {each.remedy} (first: {each.first})"
                terminal.note(printable(line))
    remarks = [
        f"{each.count:,} × {each.kind}, {each.remedy} ({each.first})"
        for each in met
        if each.outcome is IssueOutcome.KEPT
    ]
    if remarks:
        terminal.note(printable(f"{source}: {'; '.join(remarks)}"))
