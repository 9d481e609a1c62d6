"""The cost of a search, estimated from a few real training steps of two of its own proposals."""

import statistics
import time
from dataclasses import dataclass

import torch

from nascli.classify.estimate import CostEstimate, estimate_train_job
from nascli.classify.job import TrainJob
from nascli.config import FineTuneConfig, SearchRecipe, TrainRecipe, find_evaluator
from nascli.engine.estimate import peak_memory
from nascli.errors import InputError
from nascli.genotype.space import SearchSpace, first_genotype, resolve_space
from nascli.search.builders import build_strategy, count_workers, needs_latency
from nascli.search.evaluators.costs import build_meter
from nascli.search.evaluators.proxy import ChildSetup, load_child_setup
from nascli.search.gpu_share import share_gpus
from nascli.search.objective import describe_reward

_CHILDREN = 2


@dataclass(frozen=True)
class SearchEstimate:
    """The plan of a search and its measured cost.

    Args:
        trials: Proposals in all; duplicates would make the search shorter.
        workers: Children that train at the same time, each on one thread.
        reward_is: The reward in words.
        seconds_per_latency: Duration of measuring one latency; 0 where none is asked for. One at a time is measured.
        seconds_per_child: Mean over the children measured; with rungs, over what a child is trained on average.
        ranking_seconds: Duration of the trainings after the search.
        seconds: Duration of the whole search, ranking included, if the workers do not slow each other down.
        memory: Bytes that one worker needs at most.
    """

    children: tuple[CostEstimate, ...]
    trials: int
    workers: int
    reward_is: str
    seconds_per_latency: float
    seconds_per_child: float
    ranking_seconds: float
    seconds: float
    memory: int


def estimate_search(recipe: SearchRecipe, device: torch.device) -> SearchEstimate:
    """Time a few steps of the first two proposals, on one thread as in a worker; nothing is written.

    Raises:
        InputError: The recipe's evaluator does not train.
    """
    if not find_evaluator(recipe.search.evaluator).trains_children:
        raise InputError(
            f"--dry-run times trainings, and search.evaluator = {recipe.search.evaluator} is none",
            "Start the search; the live view shows the time left",
        )
    setup = load_child_setup(recipe, device)
    space = resolve_space(recipe.space)
    strategy = build_strategy(recipe, space)
    torch.set_num_threads(1)
    train = FineTuneConfig.model_validate(recipe.train.model_dump())
    child = TrainRecipe(seed=recipe.seed, data=recipe.data, network=recipe.network, train=train)
    children = []
    for number in range(_CHILDREN):
        tokens = strategy.ask()
        if tokens is None:
            break
        genotype = space.decode(tokens, name=f"proposal-{number}")
        children.append(estimate_train_job(TrainJob(child, setup.spec(genotype), setup.data, device)))
    measuring = _time_latency(recipe, setup, space) if needs_latency(recipe) else 0.0
    whole = statistics.fmean(child.seconds for child in children)
    workers = count_workers(share_gpus(recipe, setup, device).settle(recipe.search), device)
    mean = whole * recipe.search.num_seeds * _share_trained(recipe)
    epochs = recipe.rerank.epochs or recipe.train.epochs
    trainings = min(recipe.rerank.top, recipe.search.trials) * recipe.rerank.num_seeds
    ranking = trainings * whole * epochs / recipe.train.epochs / workers
    return SearchEstimate(
        children=tuple(children),
        trials=recipe.search.trials,
        workers=workers,
        reward_is=describe_reward(recipe),
        seconds_per_latency=measuring,
        seconds_per_child=mean,
        ranking_seconds=ranking,
        seconds=(mean / workers + measuring) * recipe.search.trials + ranking,
        memory=peak_memory(device),
    )


def _time_latency(recipe: SearchRecipe, setup: ChildSetup, space: SearchSpace) -> float:
    """Seconds that the latency of a network takes to measure."""
    meter = build_meter(recipe, setup).settle(space, lambda message: None)
    started = time.monotonic()
    meter.latency(first_genotype(space))
    return time.monotonic() - started


def _share_trained(recipe: SearchRecipe) -> float:
    """Epochs that a child is trained on average over all rungs, in epochs of the full training."""
    halving = recipe.halving
    epochs = (*halving.rungs, recipe.train.epochs)
    before = (0, *(0 if halving.restart else rung for rung in halving.rungs))
    trained = (end - start for start, end in zip(before, epochs, strict=True))
    return sum(each * halving.promote_fraction**rung for rung, each in enumerate(trained)) / recipe.train.epochs
