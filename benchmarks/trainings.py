"""Whole trainings, side by side in fresh processes, whose results are kept as they come; the experiments' scaffolding.

A network is named as `nascli train --cell` names it; or `random-K`, the K-th cell (from 0) that the strategy `random`
proposes in the paper's space with seed 0; or `resnet-L`, the residual network of L layers whose mult-adds are nearest
to those of NASNet-A at the recipe's size.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from common import Figures, Task, fresh, progress, write

if TYPE_CHECKING:
    from torch import nn

    from nascli.classify.job import TrainJob
    from nascli.config import TrainRecipe
    from nascli.genotype.genotype import Genotype
    from nascli.genotype.space import SearchSpace
    from nascli.models.interface import ImageClassifier

RANDOM, RESNET = "random-", "resnet-"
BESIDE = "nasnet-a"
"""The cell whose cost a ResNet has."""


def experiment_arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every experiment has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network, with the seeds 0, 1, ...")
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, of one thread each")
    parser.add_argument("--json", type=Path, help="keep every result here; what it holds already is not trained again")
    return parser


def gather(
    script: str,
    tasks: Sequence[Task],
    asked: argparse.Namespace,
    summarize: Callable[[Sequence[Figures]], Mapping[str, object]],
) -> Mapping[str, object]:
    """Make a measurement for each task, `asked.processes` at once.

    After each `asked.json` is written, so that a call that was killed resumes where it was. The file keeps results of
    other tasks.

    Args:
        script: The file of the experiment.
        tasks: Plain values; equal tasks have equal results.
        asked: The options.
        summarize: From the measurements of these tasks, each with its `task`, in the order of the tasks, to results.

    Returns:
        The results of all tasks.
    """
    done = {_key(each["task"]): each for each in _read_kept(asked.json)}
    missing = [task for task in tasks if _key(task) not in done]
    progress(f"{len(tasks)} trainings, {len(tasks) - len(missing)} of them done")

    def results() -> Mapping[str, object]:
        return summarize([done[_key(task)] for task in tasks if _key(task) in done])

    pool = ThreadPoolExecutor(asked.processes)
    try:
        running = {pool.submit(fresh, script, task): task for task in missing}
        for future in as_completed(running):
            task = running[future]
            done[_key(task)] = {"task": task, **future.result()}
            write(asked, {"results": results(), "measurements": list(done.values())})
            progress(f"{sum(_key(task) in done for task in tasks)} of {len(tasks)}: {_describe(done[_key(task)])}")
    finally:
        pool.shutdown(cancel_futures=True)
    return results()


def prepare(recipe: "TrainRecipe", name: str) -> "tuple[TrainJob, ImageClassifier]":
    """The job of a recipe's training, and the named network with the weights that follow from the seed."""
    import torch

    from nascli.classify.prepare import prepare_train_job

    layers = int(name.removeprefix(RESNET)) if name.startswith(RESNET) else 0
    job = prepare_train_job(recipe, find_genotype(BESIDE if layers else name), torch.device("cpu"))
    if layers:
        from resnets import resnet_beside

        if layers < 8 or layers % 6 != 2:
            raise SystemExit(f"{name}: a ResNet for CIFAR has 6n + 2 layers: 8, 14, 20, ...")
        job = resnet_beside(job, layers)
    return job, job.new_network()


def train(job: "TrainJob", network: "ImageClassifier") -> Figures:
    """Train to the end as `nascli train` does; accuracy after each epoch, and what the network costs."""
    from nascli.classify.task import fit_classifier
    from nascli.engine.device import cpu_threads
    from nascli.engine.meters import EpochRecord
    from nascli.engine.task import Run

    recipe, records = job.recipe, list[EpochRecord]()
    cost = count_cost(job, network)
    with cpu_threads(recipe.train.threads):
        run = Run(job.device, on_epoch=records.append)
        result = fit_classifier(network, job.data, recipe.train, recipe.data, recipe.seed, run, teacher=job.teacher)
    return {
        "top1": result.evaluation.top1,
        "loss": result.evaluation.loss,
        "top1_by_epoch": [record.metrics["top1"] for record in records],
        "train_loss_by_epoch": [record.train_loss for record in records],
        "seconds": result.seconds,
        **cost,
    }


def count_cost(job: "TrainJob", network: "nn.Module") -> Figures:
    """Params and mult-adds, without the auxiliary head."""
    from nascli.models.cost import measure_cost
    from nascli.models.resnet.family import ResNetSpec

    cost = measure_cost(job.spec)
    found = {"params": cost.params, "mult_adds": cost.mult_adds}
    return found | {"widths": list(job.spec.widths)} if isinstance(job.spec, ResNetSpec) else found


def find_genotype(name: str) -> "Genotype":
    """A cell by its name."""
    from nascli.genotype.cells.space import NASNET
    from nascli.genotype.resolve import load_genotype

    if not name.startswith(RANDOM):
        return load_genotype(name)
    return draw_member(NASNET, int(name.removeprefix(RANDOM)), name)


def draw_member(space: "SearchSpace", number: int, name: str) -> "Genotype":
    """The network of a space that the strategy `random` proposes with seed 0, by its number from 0."""
    from nascli.search.strategies.random import RandomSearch

    strategy = RandomSearch(space, seed=0)
    return space.decode([strategy.ask() for _ in range(number + 1)][-1], name=name)


def format_percent(value: Figures) -> str:
    """A mean and its deviation in percent."""
    return f"{100 * value['mean']:.2f} ± {100 * value['deviation']:.2f} %"


def list_percents(value: Figures) -> str:
    """The single values in percent."""
    return ", ".join(f"{100 * one:.2f}" for one in value["each"])


def _read_kept(path: Path | None) -> list[Figures]:
    if path is None or not path.is_file():
        return []
    kept: list[Figures] = json.loads(path.read_text())["measurements"]
    return kept


def _key(task: Task) -> str:
    return json.dumps(task, sort_keys=True)


def _describe(measurement: Figures) -> str:
    task = measurement["task"]
    return f"{task.get('arm', task['network'])}, seed {task['seed']}, {measurement['seconds']:.0f} s"
