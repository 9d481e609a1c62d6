"""The tables of `nascli detect`: a split of the data, what was found wrong in it, scores."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal
from nascli.units import count_of

if TYPE_CHECKING:
    from nascli.data.detection.dataset import DetectionSplit
    from nascli.data.issues import Issue

ALL_CLASSES = 20
"""Up to this number of classes all are listed; of more, the best and the worst few."""

FEW_CLASSES = 5


def describe_split(split: "DetectionSplit") -> str:
    """The counts of a split in words."""
    refused = any(each.outcome == "refused" for each in split.issues)  # then an image may have lost its boxes
    empty = sum(1 for image in split.images if not len(image.boxes))
    crowds = sum(int(image.crowd.sum()) for image in split.images)
    more = f", {count_of(crowds, 'crowd')}" if crowds else ""
    more += f", {count_of(empty, 'image')} without boxes" if empty and not refused else ""
    own_name = f"{split.own_name}: " if split.own_name else ""
    return f"{own_name}{count_of(len(split.images), 'image')} with {count_of(split.boxes, 'box')}{more}"


def show_issues(terminal: Terminal, splits: Sequence["DetectionSplit"]) -> None:
    """The issues of each split: how each is handled, how many, of what kind, the first example."""
    for split in splits:
        summary = f"{split.source}: {describe_split(split)}, {count_of(len(split.categories), 'class')}"
        show_issue_lines(terminal, summary, split.issues)


def show_issue_lines(terminal: Terminal, summary: str, issues: Iterable["Issue"]) -> None:
    """A summary of a split, and its issues below it."""
    from rich.text import Text

    from nascli.data.issues import ISSUE_KINDS

    colors = {"refused": "red", "skipped": "yellow", "lenient": "yellow", "kept": "dim"}
    order = list(ISSUE_KINDS)  # by outcome, then as they are looked for
    terminal.show(Text(summary, style="bold"))
    met = sorted(issues, key=lambda each: order.index(each.kind))
    for each in met:
        line = Text(f"  {each.outcome:7} ", style=colors[each.outcome])
        line.append(f"{each.count:>7,}  {each.kind}: {each.remedy}", style="default")
        terminal.show(line)
        terminal.show(Text(f"                   first: {each.first}", style="dim"))
    if not met:
        terminal.show("  nothing to remark")


def show_scores(terminal: Terminal, title: str, report: dict[str, Any], more: Sequence[tuple[str, str]]) -> None:
    """COCO's twelve numbers and the classes as tables.

    Args:
        report: `DetectionScore.to_dict`, perhaps with more keys.
        more: Rows to stand below the numbers.
    """
    rows = [
        ("AP, mean over IoU 0.50 to 0.95", _points(report["ap"])),
        ("AP at IoU 0.50 / 0.75", _row(report, "ap50", "ap75")),
        ("AP small / medium / large", _row(report, "ap_small", "ap_medium", "ap_large")),
        ("AR of 1 / 10 / 100 boxes per image", _row(report, "ar_1", "ar_10", "ar_100")),
        ("AR small / medium / large", _row(report, "ar_small", "ar_medium", "ar_large")),
        ("images / boxes", f"{report['images']:,} / {report['boxes']:,}"),
        *more,
    ]
    terminal.show_table(f"{title}: COCO average precision and recall in %", rows)
    present = [each for each in report["per_class"] if each["boxes"]]
    ranked = sorted(present, key=lambda each: -(each["ap"] or 0))
    if len(present) <= ALL_CLASSES:
        _show_classes(terminal, "by class", present)
    else:
        _show_classes(terminal, f"the best {FEW_CLASSES} of {len(present)} classes with boxes", ranked[:FEW_CLASSES])
        _show_classes(terminal, f"the worst {FEW_CLASSES}", ranked[-FEW_CLASSES:])


def _show_classes(terminal: Terminal, title: str, classes: Sequence[dict[str, Any]]) -> None:
    rows = [(each["name"], str(each["boxes"]), _points(each["ap"]), _points(each["ap50"])) for each in classes]
    terminal.show_table(title, rows, ("class", "boxes", "AP", "AP50"))


def _row(report: dict[str, Any], *keys: str) -> str:
    return " / ".join(_points(report[key]) for key in keys)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
