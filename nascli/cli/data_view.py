"""The tables of `nascli data`: splits, classes, issues."""

from collections import Counter
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.detect_view import show_issue_lines
from nascli.units import count_of

if TYPE_CHECKING:
    from nascli.data.audit.checking import DataCheck
    from nascli.data.audit.inventory import LabeledSplit

_CLASSES = 20
"""Classes that are listed; of more, the most frequent and the rarest."""


def describe_counts(split: "LabeledSplit") -> str:
    """Images, boxes and classes of a split in words."""
    classes = {name for image in split.images for name in image.classes}
    boxes = "" if split.boxes is None else f" with {count_of(split.boxes.boxes, 'box')}"
    return f"{count_of(len(split.images), 'image')}{boxes} of {count_of(len(classes), 'class')}"


def show_check(terminal: Terminal, checked: "DataCheck") -> None:
    """Sizes, classes and issues of each split."""
    counts: Counter[str] = Counter()
    for each in checked.splits:
        sizes = [
            f"{name} {low:g}" + (f" to {high:g} (median {middle:g})" if high > low else "")
            for name, (low, middle, high) in each.describe_sizes().items()
        ]
        summary = ", ".join([describe_counts(each.split), *sizes])
        show_issue_lines(terminal, f"{each.split.name}: {summary}", each.issues)
        counts.update(each.classes)
    names = [name for name, _ in counts.most_common()]
    shown = names if len(names) <= _CLASSES else [*names[: _CLASSES // 2], *names[-_CLASSES // 2 :]]
    rows = [(name, *(f"{each.classes[name]:,}" for each in checked.splits)) for name in shown]
    what = "boxes" if checked.inventory.task == "detect" else "images"
    title = f"{what} of each class" + (f", {len(shown)} of {len(names):,}" if len(shown) < len(names) else "")
    terminal.show("")
    terminal.show_table(title, rows, ("class", *(each.split.name for each in checked.splits)))
