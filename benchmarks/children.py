"""Children per hour: nascli's proxy training as a search worker runs it, beside the plain loop that one would write.

    mkdir cifar && tar -xf cifar10_jpeg.tar.xz -C cifar
    python benchmarks/children.py --data cifar --train-images 2000 --epochs 2 --cores 1 --json children.json

The plain loop: torchvision's transforms on PIL images (random crop with padding, flip, to tensor, normalize), a
DataLoader with 0 or 1 workers, and the same cell as a straightforward module in the default memory layout, in which
every op has a ReLU, convolution and batch norm of its own. Both have the same images, sizes, batches, SGD, weight
decay, gradient clipping and cosine, the same rule of initial weights, and measure the held-out images after every
epoch. Both find the images decoded in memory; `--decode-each-epoch` adds the loop that reads JPEGs with ImageFolder as
it goes.

Each measurement is a fresh process with one thread of computation that trains one short child first, untimed. `--cores`
binds it to so many cores, the DataLoader's worker included: with 1 all have the same core. On a GPU (--device) all are
made in one process, which has all cores.

Before anything is timed the two networks are compared: as many parameters, as many mult-adds. That they learn alike is
seen in their losses, after each epoch and over the seeds. (On maps of even size they are not quite the same function:
where a stride needs padding, nascli pads as TensorFlow does, the plain network alike on both sides.)
"""

import json
import random
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from common import (
    Column,
    Figures,
    Measures,
    Task,
    arguments,
    compare,
    console,
    grid,
    mean_and_deviation,
    plus_minus,
    refuse_unequal,
    serve,
)
from on_device import add_device_options, add_precision_option, measured_here, name_gpu
from PIL import Image

from nascli.data.folders.folder import scan_folder
from nascli.genotype.cells.genotype import CellGenotype, require_cells
from nascli.genotype.cells.space import NASNET
from nascli.genotype.resolve import load_genotype

if TYPE_CHECKING:
    from nascli.search.evaluators.proxy import ProxyTraining

NASCLI, PLAIN, PLAIN_WORKER, DECODING = "nascli", "plain", "plain, 1 worker", "plain, decoding"
PADDING = 4
OPTIMIZER = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "clip_grad_norm": 5.0}
"""The numbers of the recipes; the same for both."""


def nascli(task: Task) -> Figures:
    """One child through the evaluator."""
    import torch

    from nascli.engine.task import Run
    from nascli.search import evaluators

    torch.set_num_threads(1)
    genotype = CellGenotype.model_validate(task["genotype"])
    evaluator = proxy(task)
    evaluator.evaluate(genotype.model_copy(update={"name": "warm-up"}), 0, epochs=1)  # its cost is not remembered
    records: list[Any] = []
    # the evaluator hands out the accuracy alone, so the losses are taken where it calls the training
    with mock.patch.object(evaluators.proxy, "Run", partial(Run, on_epoch=records.append)):
        since = time.perf_counter()
        score = evaluator.evaluate(genotype, task["round"])
        seconds = time.perf_counter() - since
    return {
        "seconds": seconds,
        "children_per_hour": 3600 / seconds,
        "train_loss": [record.train_loss for record in records],
        "loss": [record.metrics["loss"] for record in records],
        "accuracy": [record.metrics["top1"] for record in records],
        "params": score.params,
        "mult_adds": score.mult_adds,
    }


def proxy(task: Task) -> "ProxyTraining":
    """nascli's proxy training on the prepared images."""
    import torch

    from nascli.config import CellNetworkConfig, DataConfig, TrainConfig
    from nascli.data.registry import load_dataset
    from nascli.search.evaluators.proxy import ChildSetup, ProxyTraining

    source = DataConfig(dataset=f"folder:{task['images']}", crop_padding=PADDING, flip=True, workers=0)
    precision: dict[str, Any] = {"precision": task["precision"]}
    train = TrainConfig(epochs=task["epochs"], batch_size=task["batch_size"], **OPTIMIZER, **precision)
    network = CellNetworkConfig(preset="cifar10", filters=task["filters"], cells_per_stage=task["cells_per_stage"])
    data = load_dataset(source)
    return ProxyTraining(ChildSetup(data, network, source, torch.device(task["device"])), train)


def plain(task: Task) -> Figures:
    """One child through the plain loop."""
    import plain_loop

    figures = plain_loop.measure(CellGenotype.model_validate(task["genotype"]), task, PADDING, OPTIMIZER)
    return figures | {"children_per_hour": 3600 / figures["seconds"]}


MEASURES: Measures = {NASCLI: nascli, PLAIN: plain}


def prepare(source: Path, folder: Path, train: int, held_out: int, size: int | None) -> tuple[int, int]:
    """So many images of `source`'s training split, of each class alike, as a folder of their own; the side, classes.

    With another size than the image's own they are written anew, as JPEG.
    """
    index = scan_folder(source)
    by_class: dict[int, list[Path]] = {}
    for path, label in index.train:
        by_class.setdefault(label, []).append(path)
    with Image.open(index.train[0][0]) as first:
        own = first.width
    for label, paths in by_class.items():
        shares = {"train": train // len(by_class), "test": held_out // len(by_class)}
        drawn = iter(random.Random(label).sample(paths, min(len(paths), sum(shares.values()))))
        for split, share in shares.items():
            place = folder / split / index.class_names[label]
            place.mkdir(parents=True)
            for _, path in zip(range(share), drawn, strict=False):
                _put(path, place, size if size != own else None)
    return size or own, len(by_class)


def _put(path: Path, place: Path, size: int | None) -> None:
    if size is None:
        (place / path.name).symlink_to(path.resolve())
        return
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    resized.save(place / f"{path.stem}.jpg", quality=95)


def choose_cells(names: Sequence[str], count: int) -> list[CellGenotype]:
    """Named cells, then random ones of the paper's space that read both of their inputs."""
    draw, found = random.Random(0), [require_cells(load_genotype(name), "this benchmark") for name in names]
    while len(found) < len(names) + count:
        tokens = [draw.randrange(size) for size in NASNET.decision_sizes]
        genotype = NASNET.decode(tokens, name=f"random-{len(found) - len(names)}")
        if all({0, 1} <= cell.live for cell in (genotype.normal, genotype.reduction)):
            found.append(genotype)
    return found


VARIANTS: dict[str, Task] = {
    NASCLI: {},
    PLAIN: {"workers": 0, "decoding": False},
    PLAIN_WORKER: {"measure": PLAIN, "workers": 1, "decoding": False},
    DECODING: {"measure": PLAIN, "workers": 0, "decoding": True},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*.jpg and test/<class>/")
    parser.add_argument("--train-images", type=int, default=2000, help="that are trained on")
    parser.add_argument("--held-out", type=int, default=500, help="training images that are measured after an epoch")
    parser.add_argument("--image-size", type=int, help="height and width in pixels; default: their own")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--cells-per-stage", type=int, default=1)
    parser.add_argument("--cell", action="append", default=[], help="a genotype; nasnet-a when none is asked for")
    parser.add_argument("--random-cells", type=int, default=0, help="so many random cells of the paper's space besides")
    parser.add_argument("--cores", type=int, default=1, help="that each measurement may use")
    parser.add_argument("--decode-each-epoch", action="store_true", help="also the loop that decodes as it goes")
    add_device_options(parser)
    add_precision_option(parser)
    asked = parser.parse_args()
    cells = choose_cells(asked.cell or ([] if asked.random_cells else ["nasnet-a"]), asked.random_cells)
    variants = {name: task for name, task in VARIANTS.items() if name != DECODING or asked.decode_each_epoch}
    columns = [
        Column("children_per_hour", "children per hour", ".1f"),
        Column("nascli_times_as_fast", "nascli, times as fast", figure="children_per_hour", over=NASCLI),
        Column("params", "params", ",.0f"),
        Column("mult_adds", "mult-adds", ",.0f"),
    ]
    gpu = name_gpu(asked)
    genotypes = {cell.name: json.loads(cell.to_json()) for cell in cells}
    with tempfile.TemporaryDirectory(prefix="nascli-children-") as temporary:
        size, classes = prepare(asked.data, Path(temporary), asked.train_images, asked.held_out, asked.image_size)
        measurements = compare(
            __file__,
            asked,
            f"{size}x{size} pixels, {classes} classes",
            variants,
            columns,
            cases={name: {"genotype": genotype, "images": temporary} for name, genotype in genotypes.items()},
            check=refuse_unequal("params", "mult_adds"),
            about=lambda taken: {"cells": genotypes, "learning": learning_curves(taken), **gpu},
            here=measured_here(asked, MEASURES),
        )
    table = grid("Mean and standard deviation after each epoch", "training", "epoch", *CURVES.values())
    for variant, curves in learning_curves(measurements).items():
        for epoch, row in enumerate(zip(*(curves[key] for key in CURVES), strict=True), start=1):
            table.add_row(variant, str(epoch), *map(plus_minus, row))
    console().print(table)


CURVES = {"train_loss": "training loss", "loss": "held-out loss", "accuracy": "held-out accuracy"}


def learning_curves(measurements: Sequence[Figures]) -> dict[str, dict[str, list[Figures]]]:
    """Losses and accuracy of each variant over all cells and seeds, epoch by epoch: all learn alike."""
    taken = {variant: [each for each in measurements if each["variant"] == variant] for variant in VARIANTS}
    return {
        variant: {
            key: [mean_and_deviation(one) for one in zip(*(each[key] for each in own), strict=True)] for key in CURVES
        }
        for variant, own in taken.items()
        if own
    }


if __name__ == "__main__" and not serve(MEASURES):
    main()
