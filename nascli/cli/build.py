"""`nascli build`: a genotype as a network of any size, with what it costs; its speed, and files for other programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli.build_export import check_exports, export_network
from nascli.cli.build_optimize import check_optimize, check_timing, optimize_network
from nascli.cli.build_settings import (
    BATCH,
    BENCHMARK,
    CELLS_PER_STAGE,
    CHOOSING,
    CLASSES,
    COMPILE,
    DATA_DIR,
    DATASET,
    ENGINE,
    EXPORT,
    FOLDER,
    IMPORT_WEIGHTS,
    MAX_DROP,
    NETWORK,
    OPTIMIZE,
    PRECISION,
    REPLACE,
    SIZES,
    SIZING,
    TARGETS,
    THREADS,
    TIMING,
)
from nascli.cli.build_view import show_layers, show_sizes, show_speed
from nascli.cli.console import Terminal
from nascli.cli.options import CELL, DEVICE, JSON, Call, command, runs_folder
from nascli.config import NETWORK_SECTIONS, CellNetworkConfig, MobileNetworkConfig, parse
from nascli.errors import InputError
from nascli.files import fill_folder
from nascli.references import locate
from nascli.runs.find import find_run

if TYPE_CHECKING:
    from nascli.models.deploy.openvino import Precision
    from nascli.models.deploy.timing import EngineTiming
    from nascli.models.interface import ImageClassifier
    from nascli.models.scaling import SizeTable, Target, Timer
    from nascli.models.spec import NetworkSpec


@command(
    "build",
    [CELL, NETWORK, *SIZING, IMPORT_WEIGHTS, FOLDER, EXPORT, REPLACE, BENCHMARK, *TIMING, OPTIMIZE, *CHOOSING, JSON],
    examples=[
        "nascli build --cell nasnet-a --preset imagenet-mobile",
        "nascli build --cell nasnet-a --preset imagenet-mobile --target-mult-adds 600M",
        "nascli build --cell nasnet-a --preset imagenet-mobile --target-latency 20ms --threads 2",
        "nascli build --cell mnasnet-a1 --width 0.75",
        "nascli build --cell best.json --target-params 3.3M --cells-per-stage auto --out net",
        "nascli build --cell runs/search/latest --filters 16 --cells-per-stage 2 --out net",
        "nascli build --cell nasnet-a --preset imagenet-large --import-weights nasnetalarge.pth --out nasnet-large",
        "nascli build --cell nasnet-a --preset imagenet-large --import-weights hf:timm/nasnetalarge.tf_in1k --out net",
        "nascli build --cell nasnet-a --preset imagenet-mobile --benchmark --batch 1 --threads 2",
        "nascli build --network latest --export model.onnx --export model.xml",
        "nascli build --network latest --optimize --max-drop 0.5",
    ],
)
def run(call: Call) -> None:
    """Build a network from a genotype and show what it costs, part by part.

    Mult-adds are multiply-accumulates of one image at the stated size; params do not count the auxiliary head. With a
    target, the sizes around it are listed and the nearest is built.
    """
    from nascli.models.cost import measure_cost, measure_layers

    terminal = call.terminal()
    _check(call)
    made = _open_network(call) if call[NETWORK] else _size_cell(call, terminal)
    spec, trained = made.spec, made.trained
    cost = measure_cost(spec)
    written = _write(call, made, terminal)
    if not terminal.as_json:
        show_layers(terminal, spec, measure_layers(spec), cost)
    if made.sizes:
        show_sizes(terminal, made.sizes)
    rows = _benchmark(call, made, terminal) if call[BENCHMARK] else None
    if rows:
        show_speed(terminal, rows)
    optimized = _optimize(call, made, terminal) if call[OPTIMIZE] else None
    exported = [export_network(trained, path, terminal) for path in call[EXPORT] if trained]
    terminal.result(
        {
            **cost.to_dict(),
            "cell": spec.name,
            "network": written and str(written),
            "size_table": made.sizes and made.sizes.to_dict(),
            "speed": rows and [row.to_dict() for row in rows],
            "optimized": optimized,
            "exported": [asdict(each) for each in exported],
        }
    )
    _show_next(call, made, written, terminal)


@dataclass(frozen=True)
class _Made:
    """A network to show.

    Args:
        source: Names the network in the next command.
        trained: The network, where weights were given.
        sizes: The sizes around the target, where there is one.
    """

    spec: "NetworkSpec"
    source: str
    trained: "ImageClassifier | None" = None
    sizes: "SizeTable | None" = None


def _check(call: Call) -> None:
    """Refuse options that contradict each other, and files that are there already."""
    if bool(call[CELL]) == bool(call[NETWORK]):
        raise InputError("build needs --cell or --network, one of the two", "For example --cell nasnet-a")
    check_timing(call)
    if call[NETWORK]:
        call.refuse("the network of --network stays as it is; it excludes", [*SIZING, IMPORT_WEIGHTS, FOLDER])
    if call[EXPORT]:
        check_exports(call)
    out = call[FOLDER]
    if call[IMPORT_WEIGHTS] and not (out or call[EXPORT] or call[BENCHMARK]):
        raise InputError("--import-weights needs --out or --export", "A folder of --out gets the weights as they are")
    if out and (out / "network.json").exists() and not call[REPLACE]:
        raise InputError(f"{out / 'network.json'} exists", "Replace it with --overwrite, or choose another --out")


def _open_network(call: Call) -> _Made:
    """The network of a train run or of a folder of build, with its weights."""
    from nascli.models.serialization import WEIGHTS_FILE, load_network

    path = find_run(str(call[NETWORK]), "train", runs_folder(), call.terminal().note)
    if not (path / WEIGHTS_FILE).is_file():
        raise InputError(
            f"{path}: there is no {WEIGHTS_FILE} in it",
            "Give a folder that nascli train has finished, or that nascli build --import-weights wrote",
        )
    if call[OPTIMIZE]:
        check_optimize(path, call[MAX_DROP], replace=call[REPLACE])
    trained = load_network(path)
    return _Made(trained.spec, str(path), trained)


def _size_cell(call: Call, terminal: Terminal) -> _Made:
    """The network of a cell at the size that is asked for, with the weights of another tool where they are given."""
    from nascli.engine.device import cpu_threads
    from nascli.genotype.resolve import find_cell
    from nascli.models.families import find_family, open_architecture
    from nascli.models.scaling import scale_to_target
    from nascli.models.spec import resolve_network

    target, cells, weights = _find_target(call), call[CELLS_PER_STAGE], call[IMPORT_WEIGHTS]
    source = find_cell(str(call[CELL]), runs_folder(), terminal.note)
    opened = open_architecture(source)
    if opened.unused_weights and weights is None:
        terminal.note(f"{opened.unused_weights}; with --network in place of --cell they are shown, timed and exported")
    numbers = {key.removeprefix("network."): value for key, value in opened.numbers.items()}
    family = str(numbers.pop("family"))
    if not numbers and find_family(family).default_preset:  # a network.json has all numbers itself
        numbers["preset"] = find_family(family).default_preset
    numbers |= call.keys(CellNetworkConfig) | call.keys(MobileNetworkConfig)
    if cells is not None and cells != "auto":
        numbers["cells_per_stage"] = int(cells) if cells.isdecimal() else cells
    config = parse(NETWORK_SECTIONS[family], numbers, "options")

    def resolve(size: Mapping[str, int | float]) -> "NetworkSpec":
        sized = config.model_copy(update=size)
        return resolve_network(opened.architecture, sized, classes=call[CLASSES], aux_head=weights is None)

    spec, sizes = resolve({}), None
    if target is not None:
        knobs = find_family(family).knobs
        decided = knobs.symbols.get(knobs.width, knobs.width)
        excluded = [each for each in SIZES if each.name == knobs.width]
        call.refuse(f"a target of {target} decides {decided}; it excludes", excluded)
        with cpu_threads(call[THREADS] or 0):
            timer = _make_timer(call, spec, terminal) if target.quantity == "latency" else None
            sizes = scale_to_target(spec, resolve, target, vary_depth=cells == "auto", time=timer)
        spec = resolve(sizes.chosen.values)
    if weights is None:
        return _Made(spec, source, sizes=sizes)
    trained = _import_weights(spec, weights, terminal)
    return _Made(trained.spec, source, trained, sizes)


def _make_timer(call: Call, spec: "NetworkSpec", terminal: Terminal) -> "Timer":
    """A timer of networks like this one, in the engine that is asked for."""
    from nascli.engine.device import resolve_device
    from nascli.models.deploy.timing import measure_latency, settle_engine
    from nascli.models.families import build

    precision, device = _precision(call), resolve_device(call[DEVICE])
    engine = settle_engine(build(spec.without_aux_head()), call[ENGINE], precision, device, terminal.note)
    return lambda network: measure_latency(network, engine, precision, device)


def _precision(call: Call) -> "Precision":
    return "bfloat16" if call[PRECISION] == "bfloat16" else "float32"


def _find_target(call: Call) -> "Target | None":
    """The one target that is given, if one is."""
    from nascli.models.scaling import parse_target

    given = {quantity: call[setting] for quantity, setting in TARGETS.items()}
    targets = [parse_target(quantity, text) for quantity, text in given.items() if text is not None]
    if len(targets) > 1:
        raise InputError(
            f"two targets: {targets[0]} and {targets[1]}",
            "Give one; the table shows params and mult-adds alike",
        )
    if not targets and call[CELLS_PER_STAGE] == "auto":
        raise InputError("--cells-per-stage auto needs a target", "For example --target-mult-adds 600M")
    return targets[0] if targets else None


def _import_weights(spec: "NetworkSpec", weights: str, terminal: Terminal) -> "ImageClassifier":
    """A network with the weights of another tool's file; its spec has that tool's numbers."""
    from nascli.models.pretrained import import_network

    foreign = locate(weights, terminal.note)
    network, imported = import_network(foreign, spec)
    entry = f", its entry {imported.wrapper}" if imported.wrapper else ""
    entry += f" (not {', '.join(imported.others)})" if imported.others else ""
    terminal.note(f"{foreign}: a file of {imported.name}{entry}; images will be prepared as {imported.tool} does it")
    return network


def _write(call: Call, made: _Made, terminal: Terminal) -> Path | None:
    """Write network.json into --out, and beside it the weights of a network that has some."""
    folder = call[FOLDER]
    if folder is None:
        return None
    from nascli.models.spec import write_network

    with fill_folder(folder) as place:
        write_network(place / "network.json", made.spec)
        if made.trained is not None:
            from nascli.models.serialization import WEIGHTS_FILE, save_weights

            save_weights(place / WEIGHTS_FILE, made.trained)
    if made.trained is not None:
        terminal.note(f"wrote {folder / WEIGHTS_FILE}")
    return folder / "network.json"


def _benchmark(call: Call, made: _Made, terminal: Terminal) -> "list[EngineTiming]":
    """The speed of the network in each engine."""
    from nascli.engine.device import cpu_threads, resolve_device
    from nascli.models.deploy.engines import list_engines
    from nascli.models.deploy.timing import time_engines
    from nascli.models.families import build

    if made.trained is None:
        terminal.note("the weights are random: speed does not depend on them")
    network = made.trained or build(made.spec.without_aux_head())
    batches = list(dict.fromkeys(call[BATCH])) or [1, 8]
    device = resolve_device(call[DEVICE])
    with terminal.status("measuring"), cpu_threads(call[THREADS] or 0):
        precision = _precision(call)
        engines = (*list_engines(device, precision), *(["compiled"] if call[COMPILE] else []))
        return list(time_engines(network, batches, precision=precision, device=device, engines=engines))


def _optimize(call: Call, made: _Made, terminal: Terminal) -> dict[str, Any]:
    """The measured precisions of the network, of which one is written."""
    from nascli.engine.device import cpu_threads

    asked = call[PRECISION]
    with cpu_threads(call[THREADS] or 0):
        return optimize_network(
            terminal,
            Path(made.source),
            asked if asked in ("bfloat16", "int8") else "auto",
            max_drop=call[MAX_DROP],
            batches=list(dict.fromkeys([1, *call[BATCH]])),
            asked={"dataset": call[DATASET], "data_dir": call[DATA_DIR]},
        )


def _show_next(call: Call, made: _Made, written: Path | None, terminal: Terminal) -> None:
    data = _fitting_data(made.spec)
    if made.trained and (written or not call[IMPORT_WEIGHTS]):
        folder = written.parent if written else Path(made.source)
        terminal.note(f"from Python: nascli.load_network({str(folder)!r})")
        own = (folder / "run.json").is_file()
        terminal.next(["nascli", "evaluate", folder, *([] if own else ["--dataset", data])])
    elif made.sizes and not written:
        terminal.note("--out DIR writes this size as network.json, for nascli train --cell DIR/network.json")
    else:
        terminal.next(["nascli", "train", "--cell", written or made.source, "--dataset", data])


def _fitting_data(spec: "NetworkSpec") -> str:
    """The data set whose images are of the network's size."""
    from nascli.models.spec import LARGEST_CIFAR_IMAGE

    if spec.image_size > LARGEST_CIFAR_IMAGE:
        return "imagenet"
    return "digits" if spec.image_size <= 16 else "cifar10"
