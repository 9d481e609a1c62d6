"""Options that several commands share, with one wording."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Shipped recipe by name, or a TOML file.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe; repeat for more.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Everything random follows from it.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Run folder; by default runs/<command>/<time>-<name>.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")]
ResumeOption = Annotated[
    str | None, typer.Option("--resume", metavar="RUN|latest", help="Go on with an earlier run; needs nothing else.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its measured cost; write nothing.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Folder under which data sets lie (default: data).")
]
CellOption = Annotated[
    str | None, typer.Option("--cell", metavar="CELL", help="Genotype: a JSON file, a search run, or a zoo name.")
]


def runs_folder() -> Path:
    """The folder of all runs: `$NASCLI_RUNS`, else `runs` here."""
    return Path(os.environ.get("NASCLI_RUNS", "runs"))


_SHORTER_OPTIONS = {"detector.rpn_post_nms_top_n": "--proposals"}


def option_name(key: str) -> str:
    """The option that sets a key of a recipe: `train.batch_size` is `--batch-size`."""
    return _SHORTER_OPTIONS.get(key, "--" + key.rpartition(".")[2].replace("_", "-"))


def run_name(data: str, cell: str) -> str:
    """Data set and cell, fit for the name of a folder."""
    place = re.sub(r"^(folder|pack):", "", data)
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{Path(place).name}-{cell}").strip("-")
