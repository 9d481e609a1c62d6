"""What a cheap look at a network tells of a longer training: rank correlations over random networks of a space.

    python benchmarks/proxies.py --recipe cifar10-cpu --data pack:cifar.h5 --networks 40 --epochs 4 --json proxies.json

Random networks of the space of a search recipe are trained as its children, for `--epochs` epochs. With what they reach
on the images held out are compared: what they had after each epoch on the way; what trainings of their own for each of
`--short` reach, whose learning rate falls to zero; the scores without training. Of several seeds each is compared with
itself, and the longer trainings with each other: that is as much as any look can tell.

Intervals hold 95 % of the correlations of networks that are drawn again from these (bootstrap). Killed, the same call
resumes with the trainings that `--json` does not hold yet.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Figures, Task, console, grid, serve
from trainings import RANDOM, draw_member, experiment_arguments, gather

if TYPE_CHECKING:
    from nascli.config import TrainConfig
    from nascli.genotype.genotype import Genotype
    from nascli.search.evaluators.proxy import ChildSetup

LONG, SCORES = "long", "scores"
_RESAMPLES = 2000


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--recipe", default="cifar10-cpu", help="of nascli search: its space, children, images")
    parser.add_argument("--data", required=True, help="as --dataset of nascli search")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=NUMBER", help="of the recipe; repeatable")
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=4, help="of the longer trainings")
    parser.add_argument("--short", default="1,2", help="epochs of trainings of their own, between commas")
    parser.set_defaults(seeds=1)
    return parser


def list_tasks(asked: argparse.Namespace) -> list[Task]:
    """The trainings, all networks with the first seed first, and the scores."""
    own = {key: json.loads(value) for key, _, value in (each.partition("=") for each in asked.set)}
    shared = {"recipe": asked.recipe, "flags": {**own, "data.dataset": asked.data}}
    arms = {LONG: asked.epochs, **{each: int(each) for each in asked.short.split(",")}}
    trainings = [
        {"measure": "child", **shared, "network": f"{RANDOM}{k}", "arm": arm, "epochs": epochs, "seed": seed}
        for seed in range(asked.seeds)
        for k in range(asked.networks)
        for arm, epochs in arms.items()
    ]
    scores = [
        {"measure": "scores", **shared, "network": f"{RANDOM}{k}", "arm": SCORES, "seed": 0}
        for k in range(asked.networks)
    ]
    return [*trainings, *scores]


def open_child(task: Task, epochs: int = 1) -> "tuple[ChildSetup, Genotype, TrainConfig]":
    """The data of a recipe's children, a random network of its space, and how it is trained."""
    import torch

    from nascli.config import SearchRecipe, find_recipe, load_recipe
    from nascli.genotype.space import resolve_space
    from nascli.search.evaluators.proxy import load_child_setup

    flags = {**task["flags"], "train.epochs": epochs, "train.threads": 1}
    recipe = load_recipe(SearchRecipe, find_recipe("search", task["recipe"]), flags)
    name = task["network"]
    genotype = draw_member(resolve_space(recipe.space), int(name.removeprefix(RANDOM)), name)
    return load_child_setup(recipe, torch.device("cpu")), genotype, recipe.train


def child(task: Task) -> Figures:
    """Train a network as a child; what it reaches on the images held out, after each epoch."""
    return train_child(*open_child(task, task["epochs"]), task["seed"])


def train_child(setup: "ChildSetup", genotype: "Genotype", train: "TrainConfig", seed: int) -> Figures:
    """The same of any network of a search."""
    from nascli.classify.task import fit_classifier
    from nascli.engine.device import cpu_threads
    from nascli.engine.task import Run

    network, run = setup.child(genotype, seed), Run(setup.device, retry_on_oom=False)
    with cpu_threads(1):
        result = fit_classifier(network, setup.resident, train, setup.augmentation, seed, run)
    return {"top1": [record.metrics["top1"] for record in result.records], "seconds": result.seconds}


def scores(task: Task) -> Figures:
    """The scores of a network that need no training."""
    from nascli.engine.device import cpu_threads
    from nascli.search.evaluators.zero_cost import ZERO_COST_SCORES, ZeroCostScore

    setup, genotype, _ = open_child(task)
    with cpu_threads(1):
        found = {kind: ZeroCostScore(kind, setup).evaluate(genotype, task["seed"]) for kind in ZERO_COST_SCORES}
    seconds = {kind: score.seconds for kind, score in found.items()}
    return {
        "scores": {kind: score.reward for kind, score in found.items()},
        "each": seconds,
        "seconds": sum(seconds.values()),
    }


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each look its rank correlation with the longer trainings, and the seconds that it takes per network."""
    long: dict[int, dict[str, float]] = defaultdict(dict)
    looks: dict[str, dict[int, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for each in measurements:
        network, seed, arm = (each["task"][key] for key in ("network", "seed", "arm"))
        for look, value, seconds in _list_looks(arm, each):
            looks[look][seed][network] = value, seconds
        if arm == LONG:
            long[seed][network] = each["top1"][-1]
    found = {}
    for look, seeds in looks.items():
        pairs = [
            [(own[name][0], long[seed][name]) for name in long[seed] if name in own]
            for seed in long
            if (own := seeds.get(seed) or (seeds[0] if look in _SCORES else {}))
        ]
        spent = [seconds for own in seeds.values() for _, seconds in own.values()]
        found[look] = {**correlate(pairs), "seconds": statistics.fmean(spent)}
    again = [[(long[a][name], long[b][name]) for name in long[a] if name in long[b]] for a, b in combinations(long, 2)]
    return {**found, **({"the longer training, another seed": correlate(again)} if again else {})}


_SCORES = ("params", "mult_adds", "naswot", "grad_norm")


def _list_looks(arm: str, measured: Figures) -> Iterator[tuple[str, float, float]]:
    """Name, value and seconds of each look that a measurement gives."""
    if arm == SCORES:
        yield from ((kind, value, measured["each"][kind]) for kind, value in measured["scores"].items())
    elif arm == LONG:
        epochs = len(measured["top1"])
        for done, value in enumerate(measured["top1"][:-1], 1):
            yield f"after epoch {done} of {epochs}", value, measured["seconds"] * done / epochs
    else:
        yield f"a training of {arm}", measured["top1"][-1], measured["seconds"]


def correlate(samples: Sequence[Sequence[tuple[float, float]]]) -> Figures:
    """Spearman's rho, the mean over the samples, and its interval where each has two networks or more."""
    from scipy import stats

    arrays = [np.array(sample) for sample in samples if len(sample) > 1]
    if not arrays:
        return {"spearman": None, "low": None, "high": None, "networks": 0}

    def rho(rows: Sequence[Any]) -> float:
        drawn = [stats.rankdata(array[row], axis=0).T for array, row in zip(arrays, rows, strict=True)]
        with np.errstate(invalid="ignore"):  # where one network was drawn again and again
            return float(np.mean([np.corrcoef(ranks)[0, 1] for ranks in drawn]))

    draw = np.random.default_rng(0)
    again = [rho([draw.integers(len(array), size=len(array)) for array in arrays]) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(again, [0.025, 0.975])
    own = rho([np.arange(len(array)) for array in arrays])
    return {"spearman": own, "low": float(low), "high": float(high), "networks": len(arrays[0])}


def show(results: Mapping[str, Any], asked: argparse.Namespace) -> None:
    title = f"rank correlation with trainings of {asked.epochs} epochs, {asked.recipe}"
    table = grid(title, "look", "seconds per network", "Spearman", "95 %")
    for look, each in results.items():
        if each["spearman"] is not None:
            took = f"{each['seconds']:.2f}" if "seconds" in each else ""
            table.add_row(look, took, f"{each['spearman']:.2f}", f"{each['low']:.2f} to {each['high']:.2f}")
    console().print(table)


def main() -> None:
    asked = options().parse_args()
    show(gather(__file__, list_tasks(asked), asked, summarize), asked)


if __name__ == "__main__" and not serve({"child": child, "scores": scores}):
    main()
