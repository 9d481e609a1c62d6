"""`nascli table`: the table of a public benchmark as a file that searches are answered from."""

from pathlib import Path

from nascli.cli.options import JSON, Call, Setting, command
from nascli.errors import InputError
from nascli.units import count_of

SOURCE = Setting[Path](
    "source",
    "NATS-Bench's folder with a .pickle.pbz2 per cell, or its file; or NAS-Bench-201's .pth.",
    ...,
    metavar="SRC",
)
FILE = Setting[Path]("file", "The table.", ..., metavar="FILE.h5")
EPOCHS = Setting[int | None](
    "--epochs", "Trainings of this many epochs, 12 or 200; by default the longest.", min=1, metavar="N"
)
REPLACE = Setting[bool]("--overwrite", "Replace FILE.h5.", False)


@command(
    "table",
    [SOURCE, FILE, EPOCHS, REPLACE, JSON],
    examples=[
        "nascli table NATS-tss-v1_0-3ffb9-simple nats.h5",
        "nascli table NAS-Bench-201-v1_1-096897.pth nb201.h5 --epochs 12",
    ],
)
def run(call: Call) -> None:
    """Import a public table of trained networks, NATS-Bench or NAS-Bench-201, for searches in seconds.

    Read are the validation accuracy on CIFAR-10 of each training, params, mult-adds and seconds, without the packages
    of those tables and without running code of their files. A single file needs much memory; the folder little.
    """
    from nascli.search.evaluators.nats_bench import import_table

    terminal, path = call.terminal(), call[FILE]
    if path.exists() and not call[REPLACE]:
        raise InputError(f"{path} exists", "Replace it with --overwrite, or choose another name")
    with terminal.status(f"reading {call[SOURCE]}"):
        table = import_table(call[SOURCE], path, call[EPOCHS])
    trainings = int(table.counts.sum())
    terminal.show(
        f"table: {path}, {count_of(len(table), 'network')} with {count_of(trainings, 'training')} "
        f"of {table.about['epochs']} epochs"
    )
    terminal.result(
        {"table": str(path), "networks": len(table), "trainings": trainings, "epochs": table.about["epochs"]}
    )
    terminal.next(
        [
            "nascli",
            "search",
            "--space",
            table.space.name,
            "--evaluator",
            f"table:{path}",
            "--strategy",
            "bayesian",
            "--trials",
            "100",
        ]
    )
