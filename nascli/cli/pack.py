"""`nascli pack`: an image folder as one file."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nascli.cli.console import Terminal, count, table
from nascli.cli.options import JsonOption
from nascli.cli.progress import images_shown

NAME = "pack"


def run(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A folder with train/<class>/* and val/<class>/* or test/<class>/*.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="The pack.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of the shorter side; no image is enlarged.")] = 256,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 90,
    max_bad: Annotated[
        int, typer.Option(min=0, metavar="N", help="Leave out up to N images that cannot be decoded; then stop.")
    ] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that encode; by default one a core.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE.h5, and what was begun with other settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack an image folder into one file that is quicker to train on: resized, encoded, with checksums.

    Killed or stopped, the same command resumes; FILE.h5 appears when it is whole and was read back. Until then finished
    images lie in the folder FILE.h5.partial.

    Examples:

      nascli pack data/imagenet imagenet.h5

      nascli pack photos photos.h5 --size 128 --quality 95 --max-bad 10
    """
    from nascli.data.pack.build import PackCallbacks, PackSettings, pack_folder
    from nascli.signals import stop_on_signals

    terminal = Terminal(as_json=as_json)
    with stop_on_signals() as stop, images_shown(terminal, "packing") as on_image:
        callbacks = PackCallbacks(on_image, terminal.note, lambda: stop.requested)
        made = pack_folder(
            source,
            file,
            PackSettings(size, quality),
            max_unreadable=max_bad,
            overwrite=overwrite,
            workers=workers,
            callbacks=callbacks,
        )
    rows = [
        ("training images", f"{made.train_images:,}"),
        ("test images", f"{made.val_images:,}"),
        ("classes", f"{made.classes:,}"),
        ("skipped", f"{len(made.skipped):,}"),
        ("bytes", count(made.bytes)),
    ]
    terminal.show(table(f"{source}, packed", ("", ""), rows))
    terminal.show(f"\nwritten: {made.path}")
    terminal.result(asdict(made))
    terminal.next(f"nascli train --cell nasnet-a --dataset {shlex.quote(f'pack:{made.path}')}")
