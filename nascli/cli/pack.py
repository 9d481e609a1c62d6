"""`nascli pack`: an image folder as one file."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal
from nascli.cli.data_notes import VAL_FRACTION, VAL_SPLIT, note_issues, note_splits
from nascli.cli.options import JSON, MAX_MEGAPIXELS, Call, Setting, command
from nascli.units import format_quantity

if TYPE_CHECKING:
    from nascli.data.folders.index import ImageIndex

SOURCE = Setting[Path](
    "source", "A folder with train/<class>/* and val/<class>/* or test/<class>/*, or a CSV.", ..., metavar="SRC"
)
FILE = Setting[Path]("file", "The pack.", ..., metavar="FILE.h5")
SIZE = Setting[int]("--size", "Length of the shorter side; no image is enlarged.", 256, min=8, metavar="PIXELS")
QUALITY = Setting[int]("--quality", "JPEG quality.", 90, min=1, max=100, metavar="N")
MAX_UNREADABLE = Setting[int](
    "--max-unreadable", "Skip up to N images that cannot be decoded; stop at one more.", 0, min=0, metavar="N"
)
WORKERS = Setting[int | None]("--workers", "Threads that encode; one per core by default.", min=1, metavar="N")
REPLACE = Setting[bool]("--overwrite", "Replace FILE.h5, and a pack that was begun with other settings.", False)


@command(
    "pack",
    [SOURCE, FILE, SIZE, QUALITY, VAL_SPLIT, VAL_FRACTION, MAX_UNREADABLE, MAX_MEGAPIXELS, WORKERS, REPLACE, JSON],
    examples=[
        "nascli pack data/imagenet imagenet.h5",
        "nascli pack photos photos.h5 --size 128 --quality 95 --max-unreadable 10",
    ],
)
def run(call: Call) -> None:
    """Pack an image folder into one file that is faster to train on: resized, encoded, with checksums.

    Killed or stopped, the same command resumes; FILE.h5 appears once it is complete and was read back. Until then
    finished images are in the folder FILE.h5.partial.
    """
    from nascli.cli.progress import show_images
    from nascli.data.folders.index import SplitRequest
    from nascli.data.pack.build import PackCallbacks, PackSettings, pack_folder
    from nascli.signals import stop_on_signals

    terminal = call.terminal()
    issues: list[dict[str, Any]] = []
    with stop_on_signals() as stop, show_images(terminal, "packing") as on_image:
        made = pack_folder(
            call[SOURCE],
            call[FILE],
            PackSettings(call[SIZE], call[QUALITY]),
            request=SplitRequest(call[VAL_SPLIT], call[VAL_FRACTION], missing=call[MAX_UNREADABLE]),
            max_unreadable=call[MAX_UNREADABLE],
            max_megapixels=call[MAX_MEGAPIXELS],
            overwrite=call[REPLACE],
            workers=call[WORKERS],
            callbacks=PackCallbacks(
                on_image, terminal.note, lambda: stop.requested, partial(_note_index, terminal, call[SOURCE], issues)
            ),
        )
    rows = [
        ("training images", f"{made.train_images:,}"),
        (f"images of {made.val_name}", f"{made.val_images:,}"),
        ("classes", f"{made.classes:,}"),
        ("skipped", f"{len(made.skipped):,}"),
        ("bytes", format_quantity(made.bytes)),
    ]
    terminal.show_table(f"{call[SOURCE]}, packed", rows)
    terminal.show(f"\nwritten: {made.path}")
    terminal.result({**asdict(made), "issues": issues})
    terminal.next(["nascli", "train", "--cell", "nasnet-a", "--dataset", f"pack:{made.path}"])


def _note_index(terminal: Terminal, source: Path, issues: list[dict[str, Any]], index: "ImageIndex[Path]") -> None:
    """Say what is packed, and add the issues of the folder to `issues`."""
    note_splits(terminal, source, (len(index.train), len(index.val)), index.val_name, index.unused)
    note_issues(terminal, source, index.issues)
    issues += [each.to_dict() for each in index.issues]
