"""`nascli build`: a genotype as a network of any size, with what it costs; its speed, and files for other programs."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nascli.cli.build_outputs import Timing, check_exports, export, import_foreign, write_folder
from nascli.cli.build_source import Sizes, choose_size, open_folder
from nascli.cli.build_view import show_layers, show_sizes, show_speed
from nascli.cli.console import Terminal
from nascli.cli.options import JsonOption, runs_folder
from nascli.config import Preset
from nascli.errors import InputError
from nascli.genotype.resolve import find_cell
from nascli.models.families import build
from nascli.models.spec import LARGEST_CIFAR_IMAGE, NetworkSpec

if TYPE_CHECKING:
    from nascli.models.deploy.engines import EngineTiming
    from nascli.models.interface import ImageClassifier
    from nascli.models.scaling import Quantity, SizeTable

NAME = "build"


def run(
    cell: Annotated[
        str | None, typer.Option("--cell", metavar="CELL", help="A genotype file, a search run, or a zoo name.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="DIR|latest", help="Instead of --cell: a train run, or a folder of --import-weights."),
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="Published sizes to start from.", show_default="cifar10")
    ] = None,
    cells_per_stage: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="N: normal cells in each of the three stages; auto: as a target needs."),
    ] = None,
    filters: Annotated[int | None, typer.Option(help="F: filters of an op in the first stage.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Outputs of the classifier.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the input in pixels.")] = None,
    target_params: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Choose F for so many params, like 3.3M.")
    ] = None,
    target_mult_adds: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Choose F for so many mult-adds, like 600M.")
    ] = None,
    target_latency: Annotated[
        str | None, typer.Option(metavar="TIME", help="Choose F for one image in so long on this CPU, like 20ms.")
    ] = None,
    import_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Published weights of timm, pretrained-models or Keras, for --out, --export."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write network.json into this folder.")] = None,
    exports: Annotated[
        list[Path] | None,
        typer.Option(
            "--export", metavar="FILE", help="Write the trained network as .onnx, or .pt2 of torch; repeat for more."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a network.json in --out, and files of --export.")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Time the network as trained and folded, here.")] = False,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Images at once for --measure; repeat for more.", show_default="1 and 8"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads for --measure.", show_default="as torch takes")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Number format for --measure.", show_default="float32"),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let --measure time the compiled network too; compiling takes minutes.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N for --measure.", show_default="auto")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a network from a cell and show what it costs, cell by cell.

    Mult-adds are multiply-accumulates of one image at the stated size; params leave the auxiliary head out.

    A target shows the sizes around it and builds the nearest.

    Examples:

      nascli build --cell nasnet-a --preset imagenet-mobile

      nascli build --cell nasnet-a --preset imagenet-mobile --target-mult-adds 600M

      nascli build --cell best.json --target-params 3.3M --cells-per-stage auto --out net

      nascli build --cell runs/search/latest --filters 16 --cells-per-stage 2 --out net

      nascli build --cell nasnet-a --preset imagenet-large --import-weights nasnetalarge.pth --out nasnet-large

      nascli build --cell nasnet-a --preset imagenet-mobile --measure --batch 1 --threads 2

      nascli build --network latest --export model.onnx --export model.pt2
    """
    from nascli.models.cost import measure_cost, measure_layers

    terminal = Terminal(as_json=as_json)
    targets: dict[Quantity, str | None] = {
        "params": target_params,
        "mult_adds": target_mult_adds,
        "latency": target_latency,
    }
    sizes = Sizes(preset, cells_per_stage, filters, classes, image_size, targets)
    timing = Timing(batch, threads, precision, device, compiled)
    files = exports or []
    if timing.given() and not measure:
        raise InputError(f"{timing.given()[0]} is for --measure", "Give --measure too, or leave it out")
    check_exports(files, overwrite, has_weights=bool(network or import_weights))
    if import_weights and not (out or files or measure):
        raise InputError("--import-weights needs --out or --export", "A folder of --out gets the weights as they are")
    if out and (out / "network.json").exists() and not overwrite:
        raise InputError(f"{out / 'network.json'} exists", "Replace it with --overwrite, or choose another --out")
    if network and not cell:
        made = _open(network, sizes, import_weights, out)
    elif cell and not network:
        made = _size(cell, sizes, import_weights, terminal)
    else:
        raise InputError("build needs --cell or --network, one of the two", "For example --cell nasnet-a")
    spec, trained = made.spec, made.trained
    cost = measure_cost(spec)
    written = write_folder(spec, trained, out, terminal) if out else None
    if not as_json:
        show_layers(terminal, spec, measure_layers(spec), cost)
    if made.sizes:
        show_sizes(terminal, made.sizes)
    rows = _measure(made, timing, terminal) if measure else None
    if rows:
        show_speed(terminal, rows)
    exported = [export(trained, path, terminal) for path in files if trained]
    terminal.result(
        {
            **cost.to_dict(),
            "cell": spec.name,
            "network": written and str(written),
            "size_table": made.sizes and made.sizes.to_dict(),
            "speed": rows and [row.to_dict() for row in rows],
            "exported": [asdict(each) for each in exported],
        }
    )
    _say_next(made, written, import_weights is not None, terminal)


@dataclass(frozen=True)
class _Made:
    """A network to show: `source` is how the next command names it, `trained` is there where weights were given."""

    spec: NetworkSpec
    source: str
    trained: "ImageClassifier | None" = None
    sizes: "SizeTable | None" = None


def _open(network: str, sizes: Sizes, import_weights: Path | None, out: Path | None) -> _Made:
    """The network of a folder; it is what it is, so everything that would change it is refused."""
    others = [*sizes.given(), *(["--import-weights"] if import_weights else []), *(["--out"] if out else [])]
    if others:
        raise InputError(f"--network and {others[0]}: the network of a folder stays as it is", "Leave one of them out")
    folder, trained = open_folder(network)
    return _Made(trained.spec, str(folder), trained)


def _size(cell: str, sizes: Sizes, import_weights: Path | None, terminal: Terminal) -> _Made:
    """The network of a cell, with the weights of another tool where they are given."""
    source = find_cell(cell, runs_folder(), terminal.note)
    spec, table = choose_size(source, sizes, aux_head=import_weights is None)
    if import_weights is None:
        return _Made(spec, source, sizes=table)
    trained = import_foreign(spec, import_weights, terminal)
    return _Made(trained.spec, source, trained, table)


def _measure(made: _Made, timing: Timing, terminal: Terminal) -> "list[EngineTiming]":

    if made.trained is None:
        terminal.note("the weights are random: speed does not depend on them")
    network = made.trained or build(made.spec.without_aux_head())
    with terminal.notes.status("measuring"):
        return timing.measure(network)


def _say_next(made: _Made, written: Path | None, imported: bool, terminal: Terminal) -> None:
    data = _fitting_data(made.spec)
    if made.trained and (written or not imported):
        folder = written.parent if written else Path(made.source)
        terminal.note(f'from Python: nascli.load_network("{folder}")')
        own = (folder / "run.json").is_file()
        terminal.next(f"nascli evaluate {shlex.quote(str(folder))}" + ("" if own else f" --dataset {data}"))
    elif made.sizes and not written:
        terminal.note("--out DIR writes this size as network.json, for nascli train --cell DIR/network.json")
    else:
        terminal.next(f"nascli train --cell {shlex.quote(str(written or made.source))} --dataset {data}")


def _fitting_data(spec: NetworkSpec) -> str:
    """The data set whose images are of the network's size."""
    if spec.image_size > LARGEST_CIFAR_IMAGE:
        return "imagenet"
    return "digits" if spec.image_size <= 16 else "cifar10"
