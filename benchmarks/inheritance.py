"""What inherited weights are worth to a search: how its rewards rank networks, beside trainings from fresh weights.

    python benchmarks/inheritance.py --data pack:cifar.h5 --trials 200 --networks 60 --epochs 8 --folder inherit \\
      --json inheritance.json

A search by `evolution` goes first, whose children inherit weights (`search.inherit_weights`). Some of its networks,
evenly spread over its second half, are then trained from fresh weights: as its children are, and for `--epochs` epochs.
With what they reach in the longer trainings are compared the rewards that they had in the search, and what the short
trainings reach.

Intervals hold 95 % of the correlations of networks that are drawn again from these (bootstrap). Killed, the same call
resumes where it was.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Figures, Task, console, grid, serve
from proxies import correlate, train_child
from trainings import experiment_arguments, gather

SHORT, LONG = "short", "long"


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--recipe", default="cifar10-table", help="of nascli search: its space, children, images")
    parser.add_argument("--data", required=True, help="as --dataset of nascli search")
    parser.add_argument("--folder", type=Path, required=True, help="the run folder of the search")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--networks", type=int, default=60, help="of the search that are trained again")
    parser.add_argument("--epochs", type=int, default=8, help="of the longer trainings")
    parser.set_defaults(seeds=1)
    return parser


def search(asked: argparse.Namespace) -> None:
    """Search, or resume."""
    new = ["--recipe", asked.recipe, "--dataset", asked.data, "--strategy", "evolution", "--trials", str(asked.trials)]
    new += ["--set", "search.inherit_weights=true", "--set", "search.num_seeds=1", "--set", "train.threads=1"]
    new += ["--workers", str(asked.processes), "--out", str(asked.folder)]
    how = ["--resume", str(asked.folder)] if (asked.folder / "run.json").exists() else new
    subprocess.run([sys.executable, "-m", "nascli", "search", *how], check=True)


def list_tasks(asked: argparse.Namespace) -> list[Task]:
    """The trainings from fresh weights of networks of the second half of the search, each network once."""
    from nascli.search.recorded import read_recorded
    from nascli.search.trial import TrialState

    trials = read_recorded(asked.folder).trials
    trained = [each for each in trials if each.state is TrialState.COMPLETE and each.duplicate_of is None]
    late = trained[len(trained) // 2 :]
    places = np.linspace(0, len(late) - 1, min(asked.networks, len(late))).astype(int)
    shared = {"measure": "child", "folder": str(asked.folder.absolute())}
    return [
        {**shared, "network": late[k].genotype.name, "trial": late[k].id, "arm": arm, "epochs": epochs, "seed": seed}
        for seed in range(asked.seeds)
        for k in places
        for arm, epochs in ((SHORT, None), (LONG, asked.epochs))
    ]


def child(task: Task) -> Figures:
    """A training from fresh weights; and the reward that the network had in the search, and its seconds."""
    import torch

    from nascli.search.evaluators.proxy import load_child_setup
    from nascli.search.recorded import read_recorded

    recorded = read_recorded(Path(task["folder"]))
    trial, train = recorded.trials[task["trial"]], recorded.recipe.train
    if task["epochs"] is not None:
        train = train.model_copy(update={"epochs": task["epochs"]})
    setup = load_child_setup(recorded.recipe, torch.device("cpu"))
    assert trial.score is not None
    found = train_child(setup, trial.genotype, train, task["seed"])
    return {**found, "inherited": trial.score.accuracy, "inherited_seconds": trial.score.seconds}


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each look at the networks its rank correlation with the longer trainings, mean accuracy and seconds."""
    by_arm: dict[str, dict[tuple[int, int], Figures]] = {SHORT: {}, LONG: {}}
    for each in measurements:
        task = each["task"]
        by_arm[task["arm"]][task["trial"], task["seed"]] = each
    both = [key for key in by_arm[LONG] if key in by_arm[SHORT]]
    long = {key: by_arm[LONG][key]["top1"][-1] for key in both}
    looks = {
        "inherited weights": {
            key: (by_arm[LONG][key]["inherited"], by_arm[LONG][key]["inherited_seconds"]) for key in both
        },
        "fresh weights": {key: (by_arm[SHORT][key]["top1"][-1], by_arm[SHORT][key]["seconds"]) for key in both},
    }
    return {
        name: {
            **correlate([[(own[key][0], long[key]) for key in both]]),
            "top1": statistics.fmean(value for value, _ in own.values()),
            "long_top1": statistics.fmean(long.values()),
            "seconds": statistics.fmean(seconds for _, seconds in own.values()),
        }
        for name, own in looks.items()
        if both
    }


def show(results: Mapping[str, Any], asked: argparse.Namespace) -> None:
    title = f"rank correlation with trainings of {asked.epochs} epochs, {asked.recipe}"
    table = grid(title, "children begin with", "seconds", "top-1", "of the longer trainings", "Spearman", "95 %")
    for name, each in results.items():
        if each["spearman"] is not None:
            means = f"{100 * each['top1']:.2f} %", f"{100 * each['long_top1']:.2f} %"
            interval = f"{each['low']:.2f} to {each['high']:.2f}"
            table.add_row(name, f"{each['seconds']:.2f}", *means, f"{each['spearman']:.2f}", interval)
    console().print(table)


def main() -> None:
    asked = options().parse_args()
    search(asked)
    show(gather(__file__, list_tasks(asked), asked, summarize), asked)


if __name__ == "__main__" and not serve({"child": child}):
    main()
