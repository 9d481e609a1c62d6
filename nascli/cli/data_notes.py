"""Issues of a data set as notes of a run, on stderr."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.text import printable

if TYPE_CHECKING:
    from nascli.data.issues import Issue


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
        f"{each.count:,} {each.kind}, {each.remedy} ({each.first})" for each in met if each.outcome is IssueOutcome.KEPT
    ]
    if remarks:
        terminal.note(printable(f"{source}: {'; '.join(remarks)}"))
