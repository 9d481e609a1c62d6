"""`nascli evaluate`: how good a trained network is on a data set."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nascli.artifacts import find_run, write_json
from nascli.cli.console import Terminal, table
from nascli.cli.options import DataDirOption, DeviceOption, JsonOption, runs_folder
from nascli.errors import NascliError

NAME = "evaluate"


def run(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder of nascli train or of build --import-weights, or latest.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another data set with the same classes; by default the run's own."),
    ] = None,
    data_dir: DataDirOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once; changes speed and memory only.")] = 256,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where evaluation.json goes; by default the run folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained network: top-1, top-5 and loss on the test images.

    Examples:

      nascli evaluate latest

      nascli evaluate runs/train/latest --dataset folder:photos --json

      nascli evaluate nasnet-large --dataset imagenet
    """
    from nascli.training.assess import evaluate_run
    from nascli.training.runtime import resolve_device

    terminal = Terminal(as_json=as_json)
    folder = find_run(run, "train", runs_folder())
    with terminal.notes.status("measuring"):
        results = evaluate_run(folder, dataset, data_dir, batch_size=batch_size, device=resolve_device(device))
    path = _write(results, out or folder)
    rows = [
        ("top-1", f"{results['top1']:.2%}"),
        ("top-5", f"{results['top5']:.2%}"),
        ("loss", f"{results['loss']:.4f}"),
        ("images", f"{results['images']:,}"),
        ("images/s", f"{results['images_per_second']:,.0f}"),
        ("classes", _classes(results)),
        *_input(results["preprocessing"]),
    ]
    terminal.show(table(f"{results['cell']} on the test images of {results['dataset']}", ("", ""), rows))
    terminal.show(f"\nwritten: {path}")
    terminal.result(results)
    terminal.next(f"nascli detect --backbone {folder}")


def _classes(results: Mapping[str, Any]) -> str:
    """How many the network chooses among, and how many of them the images have."""
    every, seen = results["classes"], results["classes_in_images"]
    return f"{every:,}" if seen == every else f"{seen:,} of {every:,} in the images"


def _input(used: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was done to an image, in words."""
    stretched = used["resize"] == "both_sides"
    part = "whole" if stretched and used["crop"] == 1 else f"central crop {used['crop']:g}"
    yield "input", f"{used['image_size']} px, {part}, {used['interpolation']}" + (", stretched" if stretched else "")
    for name in ("mean", "std"):
        yield name, " ".join(f"{value:.4g}" for value in used[name])


def _write(results: dict[str, object], folder: Path) -> Path:
    path = folder / "evaluation.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
    except OSError as error:
        raise NascliError(f"{path} cannot be written: {error.strerror or error}", "Choose another --out") from error
    return path
