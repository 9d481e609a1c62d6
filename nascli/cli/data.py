"""`nascli data`: a data set of either task checked, shown, converted and divided."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nascli.cli.console import Terminal
from nascli.cli.data_notes import note_issues
from nascli.cli.detect_view import show_issue_lines
from nascli.cli.options import (
    JSON,
    MAX_MEGAPIXELS,
    OVERWRITE,
    Call,
    Setting,
    command,
    command_group,
    run_label,
    runs_folder,
)
from nascli.errors import InputError
from nascli.files import fill_folder
from nascli.text import quote_command
from nascli.units import count_of

if TYPE_CHECKING:
    from nascli.data.audit.checking import DataCheck
    from nascli.data.audit.exporting import Plan
    from nascli.data.audit.inventory import Inventory, LabeledSplit

DATASET = Setting[str](
    "dataset", "A path, or a data set by name as in nascli train and nascli detect.", ..., metavar="DATASET"
)
DATA_DIR = Setting[str]("--data-dir", "Folder of the data sets that have a name alone.", "data", metavar="DIR")
STRICT = Setting[bool](
    "--strict", "Refuse what breaks the rules of its format, instead of reading it leniently.", False
)
QUICK = Setting[bool]("--quick", "Read headers alone: no image is decoded, and none compared with others.", False)
PAGE = Setting[Path | None]("--out", "Write a page with examples into this folder.", metavar="DIR")
SHEETS = Setting[Path | None]("--out", "Folder to draw into.", metavar="DIR")
COUNT = Setting[int](
    "--images", "Images of each split, or of each class in it, that are drawn.", 12, min=1, metavar="N"
)
OUT = Setting[Path]("out", "An empty or new folder.", ..., metavar="OUT")
COPY = Setting[bool]("--copy", "Copy images; by default they are hard links, which take no space.", False)
VAL = Setting[float]("--val", "Part of the images to validate on.", 0.2, min=0, max=1, metavar="PART")
TEST = Setting[float]("--test", "Part of the images to test on.", 0.0, min=0, max=1, metavar="PART")
SEED = Setting[int]("--seed", "Seed of the division.", 0, metavar="N")

REMARKS = 3
"""Exit code of a check that found something to remark."""

_CLASSES = 20
"""Classes that are listed; of more, the most frequent and the rarest."""


@command(
    "check",
    [DATASET, DATA_DIR, QUICK, STRICT, MAX_MEGAPIXELS, PAGE, OVERWRITE, JSON],
    examples=["nascli data check photos", "nascli data check yolo:export --out page", "nascli data check coco --quick"],
)
def check(call: Call) -> None:
    """Check a data set: counts, classes, sizes, unreadable and repeated images, odd boxes, what was read leniently.

    Exit code 0: nothing to remark; 3: remarks; 2: something has to be repaired before the data can be used.
    """
    from nascli.cli.progress import show_images
    from nascli.data.audit.checking import check_data
    from nascli.data.audit.inventory import take_inventory
    from nascli.detect.predict import check_output_folder
    from nascli.report.data_page import write_data_page

    terminal, page = call.terminal(), call[PAGE]
    folder = check_output_folder(page, call[OVERWRITE]) if page else None
    inventory = take_inventory(call[DATASET], call[DATA_DIR], call[MAX_MEGAPIXELS])
    with show_images(terminal, "checking") as on_image:
        checked = check_data(inventory, quick=call[QUICK], on_image=on_image)
    refused = sum(each.count for each in checked.list_refused(strict=call[STRICT]))
    _show_check(terminal, checked)
    terminal.result({**checked.to_dict(), "usable": not refused, "page": None})  # a full disk shall not take it
    if folder:
        written = write_data_page(checked, folder)
        terminal.show(f"\npage: {written}")
        terminal.result({"page": str(written)})
    if refused:
        raise InputError(
            f"{inventory.dataset}: {count_of(refused, 'issue')} to repair before it can be used",
            "They are marked refused" + (", skipped or lenient" if call[STRICT] else ""),
        )
    _suggest_training(terminal, inventory)
    if checked.issues:
        raise typer.Exit(REMARKS)


@command(
    "show",
    [DATASET, DATA_DIR, COUNT, MAX_MEGAPIXELS, SHEETS, OVERWRITE, JSON],
    examples=["nascli data show photos", "nascli data show yolo:export --images 30 --out drawn"],
)
def show(call: Call) -> None:
    """Draw images of a data set: each with its boxes, or a sheet per split with some of each class."""
    from nascli.data.audit.inventory import take_inventory
    from nascli.detect.predict import choose_output_folder
    from nascli.report.contact_sheet import draw_inventory

    terminal = call.terminal()
    inventory = take_inventory(call[DATASET], call[DATA_DIR], call[MAX_MEGAPIXELS])
    label = run_label(inventory.dataset, "data")
    folder = choose_output_folder(runs_folder() / "data", label, call[SHEETS], call[OVERWRITE])
    with fill_folder(folder) as place:
        drawn = [folder / file.name for file in draw_inventory(inventory, place, call[COUNT])]
    for split in inventory.splits:
        terminal.show(f"{split.name}: {_describe_counts(split)}")
    terminal.show(f"drawn in {folder}: {count_of(len(drawn), 'file')}")
    terminal.result({"dataset": inventory.dataset, "out": str(folder), "drawn": [str(file) for file in drawn]})
    _suggest_training(terminal, inventory)


@command(
    "convert",
    [DATASET, OUT, DATA_DIR, STRICT, MAX_MEGAPIXELS, COPY, JSON],
    examples=["nascli data convert yolo:export as-coco", "nascli data convert csv:labels.csv as-folders --copy"],
)
def convert(call: Call) -> None:
    """Write a data set as COCO's files (boxes) or as class folders (classes), and read it back.

    What is read leniently here is plain there; boxes and images that are skipped here are not there.
    """
    from nascli.data.audit.exporting import keep_splits
    from nascli.data.audit.inventory import take_inventory

    inventory = take_inventory(call[DATASET], call[DATA_DIR], call[MAX_MEGAPIXELS])
    _write(call, inventory, keep_splits(inventory))


@command(
    "split",
    [DATASET, OUT, VAL, TEST, SEED, DATA_DIR, STRICT, MAX_MEGAPIXELS, COPY, JSON],
    examples=["nascli data split photos divided --val 0.2 --test 0.1", "nascli data split voc:scans divided --seed 1"],
)
def split(call: Call) -> None:
    """Divide all images of a data set anew: classes in proportion, nearly equal images on one side.

    The splits that it has are joined first. It is written as nascli data convert does.
    """
    from nascli.cli.progress import show_images
    from nascli.data.audit.checking import check_data
    from nascli.data.audit.inventory import take_inventory
    from nascli.data.audit.splitting import plan_splits

    parts = {"train": 1 - call[VAL] - call[TEST], "val": call[VAL], "test": call[TEST]}
    if parts["train"] <= 0 or parts["val"] + parts["test"] <= 0:
        raise InputError(f"--val {call[VAL]:g} and --test {call[TEST]:g} leave nothing", "Their sum is between 0 and 1")
    inventory = take_inventory(call[DATASET], call[DATA_DIR], call[MAX_MEGAPIXELS])
    with show_images(call.terminal(), "comparing") as on_image:
        checked = check_data(inventory, on_image=on_image)
    parts = {name: part for name, part in parts.items() if part}
    _write(call, inventory, plan_splits(inventory, parts, checked.duplicates, call[SEED]))


def _write(call: Call, inventory: "Inventory", plan: "Plan") -> None:
    """Write a data set into the folder that was given, and show what is there then."""
    from nascli.data.audit.exporting import require_usable, write_dataset
    from nascli.detect.predict import check_output_folder

    terminal = call.terminal()
    for each in inventory.splits:
        note_issues(terminal, each.name, each.issues)
    require_usable(inventory, strict=call[STRICT])
    folder = check_output_folder(call[OUT], False, "Name another folder, or empty it")
    written = write_dataset(inventory, plan, folder, copy=call[COPY])
    for each in written.splits:
        terminal.show(f"{each.name}: {_describe_counts(each)}")
    terminal.show(f"written: {call[OUT]}")
    counts = {each.name: len(each.images) for each in written.splits}
    terminal.result({"dataset": inventory.dataset, "written": written.dataset, "images": counts})
    _suggest_training(terminal, written)


def _show_check(terminal: Terminal, checked: "DataCheck") -> None:
    """Sizes, classes and issues of each split."""
    counts: Counter[str] = Counter()
    for each in checked.splits:
        sizes = [
            f"{name} {low:g}" + (f" to {high:g} (median {middle:g})" if high > low else "")
            for name, (low, middle, high) in each.describe_sizes().items()
        ]
        summary = ", ".join([_describe_counts(each.split), *sizes])
        show_issue_lines(terminal, f"{each.split.name}: {summary}", each.issues)
        counts.update(each.classes)
    names = [name for name, _ in counts.most_common()]
    shown = names if len(names) <= _CLASSES else [*names[: _CLASSES // 2], *names[-_CLASSES // 2 :]]
    rows = [(name, *(f"{each.classes[name]:,}" for each in checked.splits)) for name in shown]
    what = "boxes" if checked.inventory.task == "detect" else "images"
    title = f"{what} of each class" + (f", {len(shown)} of {len(names):,}" if len(shown) < len(names) else "")
    terminal.show("")
    terminal.show_table(title, rows, ("class", *(each.split.name for each in checked.splits)))


def _describe_counts(split: "LabeledSplit") -> str:
    """Images, boxes and classes of a split in words."""
    classes = {name for image in split.images for name in image.classes}
    boxes = "" if split.boxes is None else f" with {count_of(split.boxes.boxes, 'box')}"
    return f"{count_of(len(split.images), 'image')}{boxes} of {count_of(len(classes), 'class')}"


def _suggest_training(terminal: Terminal, inventory: "Inventory") -> None:
    """The command that trains on a data set, where one can."""
    from nascli.data.folders.split_names import find_role

    roles = [find_role(split.name) for split in inventory.splits]
    is_detection = inventory.task == "detect"
    if {"train", None} & {*roles} and (is_detection or len(inventory.class_names) > 1):
        words = ["detect", "train"] if is_detection else ["train"]
        held_out = ["--val-fraction", "0.2"] if len(roles) == 1 else []
        terminal.next(
            quote_command(["nascli", *words, "--cell", "nasnet-a", "--dataset", inventory.dataset, *held_out])
        )


run = command_group(
    "data",
    """Check, show, convert and divide a data set of images with classes or boxes.

    DATASET is a path (nascli says as what it reads it), or a name with its format: folder:PATH, csv:FILE, pack:FILE.h5,
    coco:PATH, yolo:PATH, voc:PATH, csv:PATH.""",
    [check, show, convert, split],
)
