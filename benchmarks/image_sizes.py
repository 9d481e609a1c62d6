"""Training images that grow over the epochs, against images of one size: the time to equal accuracy.

    python benchmarks/image_sizes.py --data folder:cifar --recipe cifar10-cpu --sizes 20,24,28,32 --epochs 4,8,12 \\
      --seeds 3 --json sizes.json

Both arms are trained to the end of their schedule for each number of epochs; the curve of final top-1 over seconds
says how long the growing arm takes to what the fixed one reaches. Seconds are steps times the median step at each size,
timed at the end in fresh processes, so trainings may share a machine; evaluation is not among them. Nothing else should
run while steps are timed. Killed, the same call resumes with what `--json` does not hold yet.
"""

import argparse
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common import Figures, Task, console, grid, mean_and_deviation, serve
from trainings import experiment_arguments, format_percent, gather, list_percents, prepare, train

if TYPE_CHECKING:
    from nascli.config import TrainRecipe

FIXED, GROWING = "fixed", "growing"


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--data", required=True, help="as --dataset of nascli train")
    parser.add_argument("--cell", default="nasnet-a", help="a zoo name or a JSON file")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli train")
    parser.add_argument("--sizes", default="20,24,28,32", help="train.image_sizes of the growing arm; the last is full")
    parser.add_argument("--epochs", default="4,8,12", help="lengths of a training, between commas, rising")
    parser.add_argument("--rounds", type=int, default=5, help="times that a step at each size is timed")
    return parser


def training(task: Task) -> Figures:
    """One network, one seed."""
    from nascli.classify.image_sizes import find_side

    job, network = prepare(*_read(task))
    epochs, full = job.recipe.train.epochs, job.spec.image_size
    sides = Counter(find_side(job.recipe.train, epoch, full) for epoch in range(epochs))
    steps = {str(side): count * job.plan.steps_per_epoch for side, count in sides.items()}
    return {**train(job, network), "steps_by_side": steps}


def step(task: Task) -> Figures:
    """Seconds of a step at one size."""
    from nascli.classify.estimate import estimate_train_job

    job, _ = prepare(*_read(task))
    return {"seconds": estimate_train_job(job).seconds_per_step}


MEASURES = {"training": training, "step": step}


def _read(task: Task) -> tuple["TrainRecipe", str]:
    from nascli.config import TrainRecipe, find_recipe, load_recipe

    flags = {**task["flags"], "seed": task["seed"]}
    return load_recipe(TrainRecipe, find_recipe("train", task["recipe"]), flags), task["network"]


def main() -> None:
    asked = options().parse_args()
    sizes = tuple(map(int, asked.sizes.split(",")))
    trainings, steps = list_trainings(asked, sizes), list_steps(asked, sizes)
    gather(__file__, trainings, asked, summarize)
    asked.processes = 1
    results: Mapping[str, Any] = gather(__file__, [*trainings, *steps], asked, summarize)
    title = f"{asked.cell}, F = {asked.filters}, {asked.data}"
    table = grid(title, "arm, epochs", "final top-1", "each seed", "seconds")
    for name, each in results["arms"].items():
        table.add_row(name, format_percent(each["top1"]), list_percents(each["top1"]), f"{each['seconds']:.1f}")
    console().print(table)
    for name, each in results["equal_top1"].items():
        reached = f"reach it in {each['seconds']:.1f} s" if each["seconds"] else "do not reach it"
        print(f"{name}: {each['fixed_seconds']:.1f} s; growing images {reached}")
    for side, seconds in results["step_seconds"].items():
        print(f"a step at {side} pixels: {1e3 * seconds:.1f} ms")


def list_trainings(asked: argparse.Namespace, sizes: tuple[int, ...]) -> list[Task]:
    """The trainings, all arms with the first seed first."""
    arms: dict[str, tuple[int, ...]] = {FIXED: (), GROWING: sizes}
    return [
        {**_shared(asked, int(epochs), chosen, sizes[-1]), "measure": "training", "arm": arm, "seed": seed}
        for seed in range(asked.seeds)
        for epochs in asked.epochs.split(",")
        for arm, chosen in arms.items()
    ]


def list_steps(asked: argparse.Namespace, sizes: tuple[int, ...]) -> list[Task]:
    """A step at each size, in turn."""
    return [
        {**_shared(asked, 1, (side,), sizes[-1]), "measure": "step", "arm": f"step at {side}", "seed": number}
        for number in range(asked.rounds)
        for side in dict.fromkeys(sizes)
    ]


def _shared(asked: argparse.Namespace, epochs: int, sizes: tuple[int, ...], full: int) -> Task:
    flags = {
        "data.dataset": asked.data,
        "network.filters": asked.filters,
        "network.image_size": full,
        "train.epochs": epochs,
        "train.image_sizes": list(sizes),
        "train.threads": 1,
    }
    return {"network": asked.cell, "recipe": asked.recipe, "flags": flags}


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """Of each arm and length top-1 over the seeds, and seconds; those of the growing arm to the fixed one's top-1."""
    timed: dict[str, list[float]] = {}
    taken: dict[tuple[str, int], list[Figures]] = {}
    for each in measurements:
        flags = each["task"]["flags"]
        if each["task"]["measure"] == "step":
            timed.setdefault(str(flags["train.image_sizes"][0]), []).append(each["seconds"])
        else:
            taken.setdefault((each["task"]["arm"], flags["train.epochs"]), []).append(each)
    per_step = {side: statistics.median(seconds) for side, seconds in timed.items()}
    arms = {name: _describe(own, per_step) for name, own in sorted(taken.items())}
    curve = sorted((each["seconds"], each["top1"]["mean"]) for (arm, _), each in arms.items() if arm == GROWING)
    equal = {
        f"{each['top1']['mean']:.2%} of {epochs} epochs at one size": {
            "fixed_seconds": each["seconds"],
            "seconds": interpolate(curve, each["top1"]["mean"]),
        }
        for (arm, epochs), each in arms.items()
        if arm == FIXED and per_step and curve
    }
    named = {f"{arm}, {epochs}": each for (arm, epochs), each in arms.items()}
    return {"arms": named, "equal_top1": equal, "step_seconds": per_step}


def interpolate(curve: Sequence[tuple[float, float]], top1: float) -> float | None:
    """The seconds at which a curve of (seconds, top-1) first reaches a top-1; None where it does not."""
    before = curve[0]
    for point in curve:
        if point[1] >= top1:
            rise = point[1] - before[1]
            return point[0] - (point[0] - before[0]) * (point[1] - top1) / rise if rise > 0 else point[0]
        before = point
    return None


def _describe(own: Sequence[Figures], per_step: Mapping[str, float]) -> Figures:
    steps = own[0]["steps_by_side"]
    return {
        "top1": mean_and_deviation([each["top1"] for each in own]),
        "steps_by_side": steps,
        "seconds": sum(count * per_step.get(side, 0.0) for side, count in steps.items()),  # 0 until steps are timed
        "seconds_as_run": mean_and_deviation([each["seconds"] for each in own]),
    }


if __name__ == "__main__" and not serve(MEASURES):
    main()
