"""Final top-1 on CIFAR-10 against measured latency: networks of equal latency, all trained alike.

    mkdir cifar && tar -xf cifar10_jpeg.tar.xz -C cifar
    python benchmarks/latency_accuracy.py --data folder:cifar --found cells=runs/search/cells \\
      --found mobile=runs/search/mobile --folder equal --json equal.json --figure equal.png

For each budget of latency every network gets the largest width that keeps it, in the engine that is deployed and with
one thread: of a search the most accurate of its front that is no slower, or the one in a file; the published ones,
residual networks, and random members of each space. `--folder` keeps the `network.json` of each. Each is trained with
the same recipe, epochs and images for every seed; of the random ones each seed trains another member. Then all are
timed again, in turn.

Nothing else should run while widths are chosen and networks are timed (`--only sizes`, `--only times`); trainings may
share a machine. Killed, the same call resumes with the trainings that `--json` does not hold yet.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Figures, Task, console, fresh, grid, mean_and_deviation, progress, serve
from trainings import draw_member, experiment_arguments, format_percent, gather, list_percents, train

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier
    from nascli.models.latency import Latency
    from nascli.models.spec import NetworkSpec

BUDGETS = ("0.8ms", "1.3ms")
IMAGE_SIZE, CLASSES = 32, 10
AROUND = 3
"""Widths below and above the nearest that are timed: OpenVINO computes eight channels in the time of five."""


@dataclass(frozen=True)
class Contender:
    """A network without its width.

    Args:
        source: As `--cell` takes it; `random:RECIPE:K` is a random member of the space of a search recipe.
        numbers: Keys of its section `[network]`.
        kind: Decides the color.
        seeds: Those that it is trained with; None is all.
    """

    source: str
    numbers: Mapping[str, Any]
    kind: str
    seeds: tuple[int, ...] | None = None


CELLS: dict[str, Any] = {"cells_per_stage": 1, "filters": 8}
MOBILE: dict[str, Any] = {"preset": "mnasnet-cifar", "width": 0.35}
CHAINS: dict[str, Any] = {"preset": "mnasnet-cifar", "stem": "whole", "head_filters": 256, "width": 1.0}
MADE_BY_HAND = {
    "ResNet-14": Contender("resnet-14", {}, "by hand"),
    "ResNet-20": Contender("resnet-20", {}, "by hand"),
    "MobileNetV2": Contender("mobilenetv2", MOBILE, "by hand"),
    "MnasNet-A1": Contender("mnasnet-a1", MOBILE, "published"),
    "NASNet-A": Contender("nasnet-a", CELLS, "published"),
}
SPACES: dict[str, tuple[str, dict[str, Any]]] = {
    "cells": ("cifar10-cpu", CELLS),
    "mobile": ("cifar10-mnasnet", MOBILE),
    "chains": ("cifar10-chains", CHAINS),
}
"""The spaces that are searched: the recipe of the search, and numbers of the networks."""


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--data", required=True, help="as --dataset of nascli train")
    parser.add_argument("--folder", type=Path, required=True, help="keeps network.json of each network")
    parser.add_argument(
        "--found",
        action="append",
        default=[],
        metavar="SPACE=RUN",
        help="cells=, mobile= or chains=RUN, or a genotype; repeatable",
    )
    parser.add_argument(
        "--network", action="append", help='one of them by name, or "random, SPACE"; repeatable; default: all'
    )
    parser.add_argument("--budgets", default=",".join(BUDGETS), help="latencies, between commas")
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli train")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", help="train on so many of the images, or as many for each budget; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="times that each network is timed")
    parser.add_argument("--only", choices=("sizes", "trainings", "times"), help="one step of the three")
    parser.add_argument("--figure", type=Path, help="draw it here")
    return parser


def list_contenders(found: Iterable[str], seeds: int, wanted: Sequence[str] | None = None) -> dict[str, Contender]:
    """All by name, or those that are wanted."""
    contenders = {}
    for each in found:
        space, _, source = each.partition("=")
        contenders[f"found, {space}"] = Contender(source, SPACES[space][1], "found")
    contenders |= MADE_BY_HAND
    for space, (recipe, numbers) in SPACES.items():
        for seed in range(seeds):
            contenders[f"random, {space} {seed}"] = Contender(f"random:{recipe}:{seed}", numbers, "random", (seed,))
    unknown = set(wanted or ()) - set(map(find_group, contenders))
    if unknown:
        raise SystemExit(
            f"--network {min(unknown)}: choose among {', '.join(dict.fromkeys(map(find_group, contenders)))}"
        )
    return {name: each for name, each in contenders.items() if not wanted or find_group(name) in wanted}


def find_group(name: str) -> str:
    """The name under which a network is shown: the random ones of a space are one."""
    return name.rsplit(" ", 1)[0] if name.startswith("random") else name


def choose_member(run: Path, budget: str) -> str:
    """A genotype file itself; of a search the most accurate network of its front that is no slower than the budget."""
    from nascli.models.scaling import parse_target

    if run.is_file():
        return str(run)
    most = parse_target("latency", budget).amount
    members = [(file, json.loads(file.read_text())["provenance"]) for file in run.glob("front/*.json")]
    fit = [(said["accuracy"], str(file)) for file, said in members if said["cost"] <= most]
    return max(fit)[1]


def size(task: Task) -> Figures:
    """Choose the width of a network for a budget, and write it."""
    import torch

    from nascli.config import NETWORK_SECTIONS, parse
    from nascli.engine.device import cpu_threads
    from nascli.models.deploy.timing import measure_latency
    from nascli.models.families import build, open_architecture
    from nascli.models.scaling import measure_size, parse_target, scale_to_target
    from nascli.models.spec import resolve_network, write_network

    source = task["source"]
    architecture = draw_random(source) if source.startswith("random:") else open_architecture(source).architecture

    def resize(values: Mapping[str, int | float]) -> "NetworkSpec":
        numbers = {"image_size": IMAGE_SIZE, "dropout": 0.0, **task["numbers"], **values}
        section = parse(NETWORK_SECTIONS[architecture.family], numbers, source)
        return resolve_network(architecture, section, classes=CLASSES)

    def time(network: "ImageClassifier") -> "Latency":
        return measure_latency(network, "openvino", "float32", torch.device("cpu"))

    target = parse_target("latency", task["budget"])
    with cpu_threads(1):
        near = scale_to_target(resize({}), resize, target, time=time).chosen
        widths = range(max(1, near.width - AROUND), near.width + AROUND + 1)
        sizes = [measure_size(resize(near.knobs.values(width, near.depth))) for width in widths]
        networks = [build(resize(size.values)) for size in sizes]
        rounds = [[time(network).seconds for network in networks] for _ in range(3)]
    seconds = [min(each) for each in zip(*rounds, strict=True)]
    chosen = max((number for number, each in enumerate(seconds) if each <= target.amount), default=0)
    path = Path(task["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_network(path, resize(sizes[chosen].values))
    return {**sizes[chosen].to_dict(), "distance": seconds[chosen] / target.amount - 1}


def draw_random(source: str) -> Any:  # noqa: ANN401 - a genotype of either family
    """A member of the space of a recipe, each choice with the same probability."""
    from nascli.config import SearchRecipe, find_recipe, load_recipe
    from nascli.genotype.space import resolve_space

    _, recipe, number = source.split(":")
    space = resolve_space(load_recipe(SearchRecipe, find_recipe("search", recipe)).space)
    return draw_member(space, int(number), f"{space.name}-random-{number}")


def training(task: Task) -> Figures:
    """One network, one seed."""
    import torch

    from nascli.classify.prepare import prepare_train_job
    from nascli.config import TrainRecipe, find_recipe, load_recipe
    from nascli.models.families import open_architecture

    source = open_architecture(task["path"])
    flags = {**source.numbers, **task["flags"], "seed": task["seed"]}
    recipe = load_recipe(TrainRecipe, find_recipe("train", task["recipe"]), flags)
    job = prepare_train_job(recipe, source.architecture, torch.device("cpu"))
    return train(job, job.new_network())


def times(task: Task) -> Figures:
    """Milliseconds of each network, timed one after the other with one thread."""
    import torch

    from nascli.engine.device import cpu_threads
    from nascli.models.deploy.timing import measure_latency
    from nascli.models.families import build
    from nascli.models.spec import read_network

    with cpu_threads(1):
        return {
            path: 1e3
            * measure_latency(build(read_network(Path(path))), "openvino", "float32", torch.device("cpu")).seconds
            for path in task["paths"]
        }


MEASURES = {"size": size, "training": training, "times": times}


def main() -> None:
    asked = options().parse_args()
    contenders, budgets = list_contenders(asked.found, asked.seeds, asked.network), asked.budgets.split(",")
    networks = {
        (budget, name): asked.folder / f"{budget}-{name.replace(', ', '-').replace(' ', '-')}.json"
        for budget in budgets
        for name in contenders
    }
    # what is wrong with the options shows before minutes have passed
    tasks = list_trainings(asked, networks, contenders)
    for (budget, name), path in networks.items():
        if asked.only in (None, "sizes") and not path.exists():
            contender = contenders[name]
            source = choose_member(Path(contender.source), budget) if contender.kind == "found" else contender.source
            task = {"measure": "size", "source": source, "numbers": dict(contender.numbers)}
            made = fresh(__file__, {**task, "budget": budget, "path": str(path.absolute())})
            progress(f"{budget}, {name}: {made['mult_adds'] / 1e6:.1f}M mult-adds, {made['distance']:+.1%}")
    results: Mapping[str, Any] = {}
    if asked.only in (None, "trainings"):
        results = gather(__file__, tasks, asked, summarize)
    if asked.only in (None, "times"):
        task = {"measure": "times", "paths": [str(each.absolute()) for each in networks.values()]}
        found = [fresh(__file__, task) for _ in range(asked.rounds)]
        write_times(asked.folder, networks, found)
    if results:
        show(results, asked)


def list_trainings(
    asked: argparse.Namespace, networks: Mapping[tuple[str, str], Path], contenders: Mapping[str, Contender]
) -> list[Task]:
    """The trainings, all networks with the first seed first."""
    flags = {
        "data.dataset": asked.data,
        "train.epochs": asked.epochs,
        "train.threads": 1,
        "train.aux_weight": 0.0,
        "train.clip_grad_norm": 5.0,
    }
    own = {budget: {**flags, **images} for budget, images in find_images(asked).items()}
    shared = {"measure": "training", "recipe": asked.recipe}
    return [
        {**shared, "flags": own[budget], "network": name, "budget": budget, "path": str(path.absolute()), "seed": seed}
        for seed in range(asked.seeds)
        for (budget, name), path in networks.items()
        if contenders[name].seeds is None or seed in (contenders[name].seeds or ())
    ]


def find_images(asked: argparse.Namespace) -> dict[str, dict[str, int]]:
    """For each budget the flag that says how many images are trained on; none for all of them."""
    budgets, counts = asked.budgets.split(","), [int(each) for each in (asked.images or "").split(",") if each]
    if counts and len(counts) not in (1, len(budgets)):
        raise SystemExit(f"--images has {len(counts)} numbers, --budgets {len(budgets)}: give one, or one for each")
    counts = counts * len(budgets) if len(counts) == 1 else counts
    return {budget: {"data.max_train_images": counts[k]} if counts else {} for k, budget in enumerate(budgets)}


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each budget and network, the random ones of a family as one: top-1 over the seeds."""
    taken: dict[str, list[Figures]] = {}
    for each in measurements:
        task = each["task"]
        taken.setdefault(f"{task['budget']}, {find_group(task['network'])}", []).append(each)
    return {
        name: {
            "params": statistics.median(each["params"] for each in own),
            "mult_adds": statistics.median(each["mult_adds"] for each in own),
            "top1": mean_and_deviation([each["top1"] for each in own]),
            "seconds": mean_and_deviation([each["seconds"] for each in own]),
            "paths": sorted({each["task"]["path"] for each in own}),
        }
        for name, own in taken.items()
    }


def write_times(folder: Path, networks: Mapping[tuple[str, str], Path], rounds: Sequence[Figures]) -> None:
    """Keep the milliseconds of every round beside the networks."""
    values = {str(path.absolute()): [each[str(path.absolute())] for each in rounds] for path in networks.values()}
    (folder / "times.json").write_text(json.dumps(values, indent=2) + "\n")


def read_times(folder: Path, paths: Iterable[str]) -> list[float]:
    """The median milliseconds of some networks; none before they were timed."""
    file = folder / "times.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    return [statistics.median(kept[path]) for path in paths if path in kept]


def show(results: Mapping[str, Any], asked: argparse.Namespace) -> None:
    title = f"{asked.epochs} epochs of {asked.data} at {IMAGE_SIZE} pixels"
    table = grid(title, "budget, network", "ms", "params", "mult-adds", "final top-1", "each seed")
    for name, each in results.items():
        ms = read_times(asked.folder, each["paths"])
        cost = f"{each['params']:,.0f}", f"{each['mult_adds'] / 1e6:.2f}M"
        shown = f"{statistics.fmean(ms):.3f}" if ms else ""
        table.add_row(name, shown, *cost, format_percent(each["top1"]), list_percents(each["top1"]))
    console().print(table)
    if asked.figure:
        draw(results, asked)


def draw(results: Mapping[str, Any], asked: argparse.Namespace) -> None:
    """Accuracy against latency: a point for each network, its bar the deviation over the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from nascli.report import figures

    kinds = {name: contender.kind for name, contender in MADE_BY_HAND.items()}
    colors = {
        "found": figures.VERMILLION,
        "published": figures.BLUE,
        "by hand": figures.BLACK,
        "random": figures.ORANGE,
    }
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    seen: set[str] = set()
    for name, each in results.items():
        _, _, network = name.partition(", ")
        kind = kinds.get(network, network.split(",")[0])
        ms = read_times(asked.folder, each["paths"])
        if not ms:
            continue
        x, y = statistics.fmean(ms), 100 * each["top1"]["mean"]
        marker = "s" if "cells" in network or network == "NASNet-A" else "^" if network.startswith("ResNet") else "o"
        axes.errorbar(
            [x], [y], yerr=[100 * each["top1"]["deviation"]], fmt=marker, color=colors[kind], capsize=3,
            label=None if kind in seen else kind,
        )  # fmt: skip
        seen.add(kind)
        axes.annotate(network, (x, y), xytext=(6, 3), textcoords="offset points", fontsize=8)
    axes.set_xlabel("latency of one image in ms, one thread, OpenVINO float32 (lower is better)")
    axes.set_ylabel("final top-1 in % (higher is better)")
    axes.margins(x=0.12)
    axes.legend(loc="upper right")
    figure.savefig(asked.figure, dpi=144)


if __name__ == "__main__" and not serve(MEASURES):
    main()
