"""The worth of a start from weights: five classes of CIFAR-10 learnt from few images, after the other five.

    mkdir cifar && tar -xf cifar10_jpeg.tar.xz -C cifar
    python benchmarks/finetune.py --data cifar --folder finetune --json finetune.json --figure docs/finetune.png

A network learns airplane, automobile, bird, cat and deer from all their images. Then, for 20, 100 and 500 images of
each of dog, frog, horse, ship and truck, it is trained on these: from those weights the classifier alone, everything,
or everything with a rate that falls from stage to stage (`train.layer_decay`); and from fresh weights, which get
another rate and more epochs. All by `nascli train`, measured on the same 400 test images of each class; a seed draws
the training images, too.

Killed, the same call resumes with the trainings that `--json` does not hold yet.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Figures, Task, console, grid, mean_and_deviation, progress, serve
from trainings import experiment_arguments, format_percent, gather, list_percents

CLASSES = (
    ("airplane", "automobile", "bird", "cat", "deer"),
    ("dog", "frog", "horse", "ship", "truck"),
)
"""Those of the first training, and those of the second."""

ARMS: dict[str, tuple[str, ...]] = {
    "fresh weights": (),
    "classifier alone": ("train.freeze=backbone",),
    "everything": (),
    "rate falling by stage": ("train.layer_decay={decay}",),
}


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    parser.add_argument("--folder", type=Path, required=True, help="keeps packs and the first run")
    parser.add_argument("--counts", default="20,100,500", help="images of each new class, between commas")
    parser.add_argument("--test-images", type=int, default=400, help="of each class, measured after every epoch")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli train")
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--first-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10, help="of the second training")
    parser.add_argument("--scratch-epochs", type=int, default=20, help="of the second training from fresh weights")
    parser.add_argument("--lr", type=float, default=0.1, help="from fresh weights")
    parser.add_argument("--tuning-lr", type=float, default=0.02, help="from weights")
    parser.add_argument("--layer-decay", type=float, default=0.7)
    parser.add_argument("--figure", type=Path, help="draw it here")
    return parser


def make_pack(data: Path, pack: Path, classes: Iterable[str], count: int | None, seed: int, held: int) -> None:
    """Pack images of some classes: `count` of each to train on, or all; `held` of the test split, always the same."""
    if pack.exists():
        return
    draw, rows = random.Random(seed), []
    for name in classes:
        files = sorted((data / "train" / name).iterdir())
        chosen = files if count is None else sorted(draw.sample(files, count))
        rows += [(str(file.absolute()), name, "train") for file in chosen]
        tested = random.Random(name).sample(sorted((data / "test" / name).iterdir()), held)
        rows += [(str(file.absolute()), name, "test") for file in tested]
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary, "images.csv")
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("file", "class", "split"), *rows])
        call("pack", table, pack, "--size", 32, "--quality", 95)


def call(*words: object) -> Any:  # noqa: ANN401 - JSON
    """The result of a command of nascli, in a process of its own."""
    command = [sys.executable, "-m", "nascli", *map(str, words), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def training(task: Task) -> Figures:
    """One call of `nascli train`."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = [word for each in task["settings"] for word in ("--set", each)]
        result = call("train", *task["options"], *settings, "--seed", task["seed"], "--out", f"{temporary}/run")
    return {"top1": result["top1"], "loss": result["loss"], "seconds": result["seconds"]}


MEASURES = {"training": training}


def main() -> None:
    asked = options().parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    first, shared = asked.folder / "first", ["train.threads=1", "train.aux_weight=0"]
    make_pack(asked.data, asked.folder / "first.h5", CLASSES[0], None, 0, asked.test_images)
    recipe = ["--recipe", asked.recipe, "--device", "cpu"]
    shape = ["--cell", asked.cell, "--filters", asked.filters, "--cells-per-stage", 1, "--lr", asked.lr]
    if not (first / "weights.safetensors").exists():
        progress("training on the first five classes")
        data = ["--dataset", f"pack:{asked.folder / 'first.h5'}", "--epochs", asked.first_epochs]
        settings = [word for each in shared for word in ("--set", each)]
        call("train", *recipe, *shape, *data, *settings, "--out", first, "--overwrite")
    counts = [int(each) for each in asked.counts.split(",")]
    tasks: list[Task] = []
    for seed in range(asked.seeds):
        for count in counts:
            pack = asked.folder / f"{count}-{seed}.h5"
            make_pack(asked.data, pack, CLASSES[1], count, seed, asked.test_images)
            for arm, own in ARMS.items():
                fresh = arm == "fresh weights"
                start = (
                    [*shape, "--epochs", asked.scratch_epochs] if fresh else ["--from", first, "--lr", asked.tuning_lr]
                )
                epochs = [] if fresh else ["--epochs", asked.epochs]
                words = [*recipe, *start, *epochs, "--dataset", f"pack:{pack}"]
                keys = [each.format(decay=asked.layer_decay) for each in own]
                task = {"measure": "training", "network": arm, "images": count, "seed": seed}
                tasks.append({**task, "options": list(map(str, words)), "settings": [*shared, *keys]})
    results = gather(__file__, tasks, asked, summarize)
    reached = json.loads((first / "run.json").read_text())["results"]["top1"]
    show(results, reached)
    if asked.figure:
        draw(results, counts, asked.figure)


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each arm and number of images: top-1 and seconds over the seeds."""
    taken: dict[str, list[Figures]] = {}
    for each in measurements:
        taken.setdefault(f"{each['task']['images']}, {each['task']['network']}", []).append(each)
    return {
        name: {key: mean_and_deviation([each[key] for each in own]) for key in ("top1", "seconds")}
        for name, own in taken.items()
    }


def show(results: Mapping[str, Any], first: float) -> None:
    table = grid(
        f"five new classes; the first five reached {first:.2%}", "images per class, start", "top-1", "each", "s"
    )
    for name, each in results.items():
        seconds = f"{each['seconds']['mean']:.0f}"
        table.add_row(name, format_percent(each["top1"]), list_percents(each["top1"]), seconds)
    console().print(table)


def draw(results: Mapping[str, Any], counts: Sequence[int], path: Path) -> None:
    """Top-1 against the images of a class, a line for each start, its bars the deviation over the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from nascli.report import figures

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colors = (figures.BLACK, figures.ORANGE, figures.BLUE, figures.VERMILLION)
    for (arm, _), color, marker in zip(ARMS.items(), colors, "xos^", strict=True):
        found = [results[f"{count}, {arm}"]["top1"] for count in counts]
        means, bars = [100 * each["mean"] for each in found], [100 * each["deviation"] for each in found]
        axes.errorbar(counts, means, yerr=bars, fmt=f"{marker}-", color=color, capsize=3, label=arm)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training images per class")
    axes.set_ylabel("top-1 on five new classes in %")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=144)


if __name__ == "__main__" and not serve(MEASURES):
    main()
