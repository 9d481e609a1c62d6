"""Final top-1 on CIFAR-10 of cells and of residual networks of equal cost, all trained alike.

    mkdir cifar && tar -xf cifar10_jpeg.tar.xz -C cifar
    python benchmarks/cifar10_cells.py --data cifar --networks nasnet-a,resnet,random --json cells.json

Each training is what this command does, in a fresh process with one thread, and with the same numbers by default:

    nascli train --cell CELL --dataset folder:DIR --recipe cifar10-cpu --filters 8 --image-size 16 --epochs 3 \\
      --set train.threads=1 --set data.crop_padding=2 --seed S

`random` stands for the first cells that the strategy `random` proposes with seed 0, `resnet` for the residual networks
of 8, 14 and 20 layers, each as wide as NASNet-A's mult-adds at the same image size allow (`resnets.py`). All see the
same images in the same order, varied in the same way, under the same learning rates. The recipe's auxiliary head is
part of a cell's network in training; a ResNet has none.

Killed, the same call resumes with the trainings that `--json` does not hold yet.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from common import Figures, Task, console, grid, mean_and_deviation, serve
from trainings import RANDOM, RESNET, experiment_arguments, format_percent, gather, list_percents, prepare, train

from nascli.config import TrainRecipe, find_recipe, load_recipe

RESNETS = tuple(f"{RESNET}{layers}" for layers in (8, 14, 20))


def training(task: Task) -> Figures:
    """One network, one seed."""
    recipe = load_recipe(TrainRecipe, find_recipe("train", task["recipe"]), {**task["flags"], "seed": task["seed"]})
    return train(*prepare(recipe, task["network"]))


MEASURES = {"training": training}


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--data", required=True, help="folder with train/<class>/*.jpg and test/<class>/")
    parser.add_argument(
        "--networks", default="nasnet-a,resnet,random", help="cells by name or file, random, resnet; between commas"
    )
    parser.add_argument("--random-cells", type=int, default=3, help="that random stands for")
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli train")
    parser.add_argument("--filters", type=int, default=8, help="F of the cells' networks")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--crop-padding", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    return parser


def main() -> None:
    asked = options().parse_args()
    flags = {
        "data.dataset": f"folder:{asked.data}",
        "data.crop_padding": asked.crop_padding,
        "network.filters": asked.filters,
        "network.image_size": asked.image_size,
        "train.epochs": asked.epochs,
        "train.threads": 1,
    }
    shared = {"measure": "training", "recipe": asked.recipe, "flags": flags}
    names = expand(asked.networks.split(","), asked.random_cells)
    tasks = [{**shared, "network": name, "seed": seed} for seed in range(asked.seeds) for name in names]
    show(gather(__file__, tasks, asked, summarize), f"{asked.epochs} epochs at {asked.image_size} pixels")


def expand(names: Sequence[str], random_cells: int) -> list[str]:
    """The names of single networks."""
    several: dict[str, Sequence[str]] = {"resnet": RESNETS, "random": [f"{RANDOM}{k}" for k in range(random_cells)]}
    return list(dict.fromkeys(one for name in names for one in several.get(name, [name])))


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each network: its cost, and top-1 over the seeds."""
    taken: dict[str, list[Figures]] = {}
    for each in measurements:
        taken.setdefault(each["task"]["network"], []).append(each)
    return {
        name: {
            **{key: own[0][key] for key in ("params", "mult_adds", "widths") if key in own[0]},
            "top1": mean_and_deviation([each["top1"] for each in own]),
            "seconds": mean_and_deviation([each["seconds"] for each in own]),
        }
        for name, own in taken.items()
    }


def show(results: Mapping[str, Any], title: str) -> None:
    table = grid(title, "network", "params", "mult-adds", "final top-1", "each seed")
    for name, each in results.items():
        cost = f"{each['params']:,}", f"{each['mult_adds'] / 1e6:.2f}M"
        table.add_row(name, *cost, format_percent(each["top1"]), list_percents(each["top1"]))
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
