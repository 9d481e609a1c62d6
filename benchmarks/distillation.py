"""A small network with and without a teacher, in equal steps: what the teacher's answers are worth.

    nascli train --cell nasnet-a --dataset folder:cifar --recipe cifar10-cpu --epochs 12 --out teacher
    python benchmarks/distillation.py --data folder:cifar --teacher teacher --cell docs/found-cell.json --filters 8 \\
      --epochs 8 --seeds 3 --json distillation.json

Both arms have the same recipe, images, initial weights and order of images for a seed; the loss alone differs. Killed,
the same call resumes with the trainings that `--json` does not hold yet. Seconds are those of a training as it ran,
the teacher's answers included: nothing else should run, and `--processes 1`, where they are to be compared.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import Figures, Task, console, grid, mean_and_deviation, plus_minus, serve
from trainings import experiment_arguments, format_percent, gather, list_percents, prepare, train

ALONE = "alone"


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--data", required=True, help="as --dataset of nascli train")
    parser.add_argument("--teacher", required=True, help="as --teacher of nascli train")
    parser.add_argument("--cell", default="nasnet-a", help="of the small network; a zoo name or a JSON file")
    parser.add_argument("--filters", type=int, default=8, help="of the small network")
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli train")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--weights", default="0.9", help="train.teacher_weight of each arm, between commas")
    parser.add_argument("--temperature", type=float, default=4.0, help="train.teacher_temperature")
    return parser


def training(task: Task) -> Figures:
    """One network, one seed."""
    from nascli.config import TrainRecipe, find_recipe, load_recipe

    recipe = load_recipe(TrainRecipe, find_recipe("train", task["recipe"]), {**task["flags"], "seed": task["seed"]})
    return train(*prepare(recipe, task["network"]))


MEASURES = {"training": training}


def main() -> None:
    asked = options().parse_args()
    results = gather(__file__, list_trainings(asked), asked, summarize)
    title = f"{asked.cell}, F = {asked.filters}: {asked.epochs} epochs of {asked.data}, teacher {asked.teacher}"
    table = grid(title, "arm", "final top-1", "each seed", "seconds")
    for arm, each in results.items():
        assert isinstance(each, Mapping)
        seconds = plus_minus(each["seconds"]) if "seconds" in each else ""
        table.add_row(arm, format_percent(each["top1"]), list_percents(each["top1"]), seconds)
    console().print(table)


def list_trainings(asked: argparse.Namespace) -> list[Task]:
    """The trainings, all arms with the first seed first."""
    flags = {
        "data.dataset": asked.data,
        "network.filters": asked.filters,
        "train.epochs": asked.epochs,
        "train.threads": 1,
    }
    teacher = {"train.teacher": _absolute(asked.teacher), "train.teacher_temperature": asked.temperature}
    arms: dict[str, dict[str, object]] = {ALONE: {}}
    for weight in asked.weights.split(","):
        arms[f"taught, weight {weight}"] = {**teacher, "train.teacher_weight": float(weight)}
    shared = {"measure": "training", "network": asked.cell, "recipe": asked.recipe}
    return [
        {**shared, "arm": arm, "flags": flags | more, "seed": seed}
        for seed in range(asked.seeds)
        for arm, more in arms.items()
    ]


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """Each arm: top-1 and seconds over the seeds; and what each has more than the one alone, seed by seed."""
    taken: dict[str, dict[int, Figures]] = {}
    for each in measurements:
        taken.setdefault(each["task"]["arm"], {})[each["task"]["seed"]] = each
    results = {
        arm: {
            "params": next(iter(own.values()))["params"],
            "top1": mean_and_deviation([each["top1"] for each in own.values()]),
            "seconds": mean_and_deviation([each["seconds"] for each in own.values()]),
        }
        for arm, own in taken.items()
    }
    alone = taken.get(ALONE, {})
    for arm, own in taken.items():
        if arm != ALONE and (pairs := [(own[seed], alone[seed]) for seed in own if seed in alone]):
            gains = [taught["top1"] - other["top1"] for taught, other in pairs]
            results[f"{arm}, more than alone"] = {"top1": mean_and_deviation(gains)}
    return results


def _absolute(teacher: str) -> str:
    """A folder by its full path, since a measurement may run elsewhere; any other teacher as it is."""
    path = Path(teacher)
    return str(path.absolute()) if path.exists() else teacher


if __name__ == "__main__" and not serve(MEASURES):
    main()
