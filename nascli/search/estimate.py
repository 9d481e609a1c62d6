"""What a search will cost, from a few real training steps of two of its own proposals."""

import resource
import statistics
from dataclasses import dataclass

import torch

from nascli.config import SearchRecipe, TrainRecipe
from nascli.genotype.encoding import decode_tokens
from nascli.genotype.space import resolve_space
from nascli.search.evaluators import proxy_training
from nascli.search.session import STRATEGIES, count_workers
from nascli.training.estimate import Estimate, estimate_job
from nascli.training.job import TrainJob

_CHILDREN = 2


@dataclass(frozen=True)
class SearchEstimate:
    """The plan of a search and its measured cost.

    Args:
        children: What was measured, child by child.
        trials: Proposals in all; repeats would make the search shorter.
        workers: Children that train at the same time, each on one thread.
        seconds_per_child: Mean over the children measured.
        seconds: Of the whole search, if the workers do not slow each other down.
        memory: Bytes that one worker needs at most.
    """

    children: tuple[Estimate, ...]
    trials: int
    workers: int
    seconds_per_child: float
    seconds: float
    memory: int


def estimate_search(recipe: SearchRecipe, device: torch.device) -> SearchEstimate:
    """Time a few steps of the first two proposals, on one thread as in a worker; nothing is written."""
    evaluator = proxy_training(recipe, device)
    space = resolve_space(recipe.space)
    strategy = STRATEGIES[recipe.search.strategy](space, recipe)
    torch.set_num_threads(1)
    child = TrainRecipe(seed=recipe.seed, data=recipe.data, network=recipe.network, train=recipe.train)
    children = []
    for number in range(_CHILDREN):
        genotype = decode_tokens(strategy.ask(), space, name=f"proposal-{number}")
        children.append(estimate_job(TrainJob(child, evaluator.spec(genotype), evaluator.data, device)))
    mean = statistics.fmean(child.seconds for child in children)
    workers = count_workers(recipe, device)
    return SearchEstimate(
        children=tuple(children),
        trials=recipe.search.trials,
        workers=workers,
        seconds_per_child=mean,
        seconds=mean * recipe.search.trials / workers,
        memory=_peak_memory(device),
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
