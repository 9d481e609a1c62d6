"""`nascli build`: a genotype as a network of any size, with what it costs."""

from pathlib import Path
from typing import Annotated

import typer

from nascli.cli.console import Terminal, count, table
from nascli.cli.options import JsonOption, find_cell
from nascli.config import NetworkConfig, Preset, parse
from nascli.errors import InputError, NascliError
from nascli.genotype.sources import load_genotype
from nascli.models.spec import NetworkSpec, resolve_network, write_network

NAME = "build"


def run(
    cell: Annotated[str, typer.Option("--cell", metavar="CELL", help="A genotype file, a search run, or a zoo name.")],
    preset: Annotated[Preset, typer.Option(help="Published sizes to start from.")] = "cifar10",
    cells_per_stage: Annotated[int | None, typer.Option(help="N: normal cells in each of the three stages.")] = None,
    filters: Annotated[int | None, typer.Option(help="F: filters of an op in the first stage.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Outputs of the classifier.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the input in pixels.")] = None,
    import_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Published weights of timm, pretrained-models or Keras, for --out."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write network.json into this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a network.json in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a network from a cell and show what it costs, cell by cell.

    Mult-adds are multiply-accumulates of one image at the stated size; params leave the auxiliary head out.

    Examples:

      nascli build --cell nasnet-a --preset imagenet-mobile

      nascli build --cell runs/search/latest --filters 16 --cells-per-stage 2 --out net

      nascli build --cell nasnet-a --preset imagenet-large --import-weights nasnetalarge.pth --out nasnet-large
    """
    from nascli.models.cost import measure_cost, measure_layers

    terminal = Terminal(as_json=as_json)
    source = find_cell(cell, terminal.note)
    given = {"preset": preset, "filters": filters, "cells_per_stage": cells_per_stage, "image_size": image_size}
    config = parse(NetworkConfig, {k: v for k, v in given.items() if v is not None}, "options")
    spec = resolve_network(load_genotype(source), config, classes=classes, aux_head=import_weights is None)
    cost = measure_cost(spec)
    if import_weights and not out:
        raise InputError("--import-weights needs --out", "That folder gets network.json and weights.safetensors")
    written = _write(spec, out, overwrite, import_weights, terminal) if out else None
    if not as_json:
        _show(
            terminal,
            spec,
            [
                (row.name, str(row.filters), "×".join(map(str, row.shape)), f"{row.params:,}", count(row.mult_adds))
                for row in measure_layers(spec)
            ],
        )
        terminal.show(
            f"\n[bold]{cost.params:,}[/] params, [bold]{count(cost.mult_adds)}[/] mult-adds at {cost.image_size}×"
            f"{cost.image_size} px; auxiliary head {cost.params_auxiliary:,} params more, in training only"
        )
    terminal.result({**cost.to_dict(), "cell": spec.genotype.name, "network": written and str(written)})
    if import_weights:
        terminal.note(f'from Python: nascli.load_network("{out}")')
    else:
        terminal.next(f"nascli train --cell {written or source} --dataset {_fitting_data(spec)}")


def _write(spec: NetworkSpec, folder: Path, overwrite: bool, foreign: Path | None, terminal: Terminal) -> Path:
    path = folder / "network.json"
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists", "Replace it with --overwrite, or choose another --out")
    if foreign:
        from nascli.models.folders import WEIGHTS_FILE, save_weights
        from nascli.models.network import Network
        from nascli.models.pretrained import import_weights

        network = Network(spec)
        terminal.note(f"{foreign}: a file of {import_weights(foreign, network)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_network(path, spec)
        if foreign:
            save_weights(folder / WEIGHTS_FILE, network)
            terminal.note(f"wrote {folder / WEIGHTS_FILE}")
    except OSError as error:
        raise NascliError(f"{path} cannot be written: {error.strerror or error}", "Choose another --out") from error
    return path


def _fitting_data(spec: NetworkSpec) -> str:
    """The data set whose images are of the network's size."""
    if spec.stem == "imagenet":
        return "imagenet"
    return "digits" if spec.image_size <= 16 else "cifar10"


def _show(terminal: Terminal, spec: NetworkSpec, rows: list[tuple[str, ...]]) -> None:
    title = f"{spec.genotype.name}: N = {spec.cells_per_stage}, F = {spec.filters}, {spec.classes} classes"
    terminal.show(table(title, ("layer", "F", "output C×H×W", "params", "mult-adds"), rows))
