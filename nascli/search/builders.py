"""The components of a search, made from its recipe: strategy, evaluator, executor.

`nascli.config` names the strategies and evaluators, with a line on each; the same names stand here with their
constructors.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nascli.config import EVALUATORS, TABLE, SearchConfig, SearchRecipe, suggestion
from nascli.errors import InputError
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.search.evaluators.constraints import ConstrainedEvaluator, parse_constraint, resolve_percentages
from nascli.search.evaluators.evaluator import Evaluator, SeedAverage
from nascli.search.evaluators.one_shot import Progress, build_one_shot
from nascli.search.evaluators.proxy import ProxyTask, ProxyTraining, load_proxy_task
from nascli.search.evaluators.tabular import TabularBenchmark, TabularEvaluator
from nascli.search.evaluators.zero_cost import ZERO_COST_SCORES, ZeroCostScore
from nascli.search.executors.executor import Executor
from nascli.search.executors.local import LocalExecutor
from nascli.search.executors.ray import RayExecutor
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.search.strategies.policy_gradient import ppo, reinforce
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.strategy import Strategy, SupportsPretraining
from nascli.search.strategies.warm_start import WarmStarted
from nascli.signals import StopRequest

STRATEGY_BUILDERS: Mapping[str, Callable[[SearchSpace, SearchRecipe], Strategy]] = {
    "ppo": lambda space, recipe: ppo(space, recipe.ppo, recipe.seed),
    "reinforce": lambda space, recipe: reinforce(space, recipe.reinforce, recipe.seed),
    "random": lambda space, recipe: RandomSearch(space, recipe.seed),
    "evolution": lambda space, recipe: Evolution(space, recipe.evolution, recipe.seed),
    "bayesian": lambda space, recipe: BayesianSearch(space, recipe.bayesian, recipe.seed),
    "exhaustive": lambda space, recipe: ExhaustiveSearch(space),
}


EVALUATOR_BUILDERS: Mapping[str, Callable[..., Evaluator]] = {  # given recipe, proxy task, run folder, and callbacks
    "proxy": lambda recipe, task, folder, **how: ProxyTraining(task, recipe.train),
    "one_shot": build_one_shot,
    **dict.fromkeys(ZERO_COST_SCORES, lambda recipe, task, folder, **how: ZeroCostScore(recipe.search.evaluator, task)),
}


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of a search.

    Args:
        scorer: Gives the reward.
        trainer: Trains the best again, from scratch; None where there is no data set to train on (a table).
    """

    scorer: Evaluator
    trainer: ProxyTraining | None


def check_recipe(recipe: SearchRecipe) -> None:
    """Refuse a recipe whose sections contradict each other, before anything is loaded.

    Raises:
        InputError: The message names the key.
    """
    search, rungs = recipe.search, recipe.halving.rungs
    kind = search.evaluator
    if kind not in EVALUATOR_BUILDERS and not kind.startswith(TABLE):
        raise InputError(f"search.evaluator = {kind!r}: no such evaluator", suggestion(kind, EVALUATORS))
    if search.warm_start_trials:
        build_strategy(recipe, resolve_space(recipe.space))
    if search.num_seeds > 1 and kind == "one_shot":
        raise InputError(
            f"search.num_seeds = {search.num_seeds}: a supernet scores a cell the same each time", "Leave it out"
        )
    if rungs and kind != "proxy":
        raise InputError(f"halving.rungs need a training, but search.evaluator is {kind}", "Leave one of the two out")
    if list(rungs) != sorted({*rungs}) or any(not 0 < rung < recipe.train.epochs for rung in rungs):
        raise InputError(
            f"halving.rungs = {list(rungs)}: they must rise and lie below train.epochs = {recipe.train.epochs}",
            "For example rungs = [1, 3] below 9 epochs",
        )
    for text in search.constraints:
        parse_constraint(text)
    if kind.startswith(TABLE):
        for name, given in (("search.constraints", search.constraints), ("rerank.top", recipe.rerank.top)):
            if given:
                raise InputError(
                    f"{name} needs networks to be built, but a table only holds numbers", "Leave one of the two out"
                )


def build_strategy(recipe: SearchRecipe, space: SearchSpace) -> Strategy:
    """The strategy of a recipe, warm-started if it asks for that.

    Raises:
        InputError: The strategy cannot be warm-started.
    """
    search = recipe.search
    strategy = STRATEGY_BUILDERS[search.strategy](space, recipe)
    if not search.warm_start_trials:
        return strategy
    if not isinstance(strategy, SupportsPretraining):
        raise InputError(
            f"search.warm_start_trials = {search.warm_start_trials}: {search.strategy} cannot be warm-started",
            "Use it with ppo or reinforce, or leave it out",
        )
    first = STRATEGY_BUILDERS[search.warm_start_strategy](space, recipe)
    return WarmStarted(first, strategy, search.warm_start_trials)


def build_proxy_task(recipe: SearchRecipe, device: torch.device) -> ProxyTask | None:
    """The proxy task with its data loaded; None if the rewards come from a table."""
    return None if recipe.search.evaluator.startswith(TABLE) else load_proxy_task(recipe, device)


def open_table(search: SearchConfig, space: SearchSpace) -> TabularBenchmark | None:
    """The table that the rewards come from; None if they do not.

    Raises:
        InputError: There is no such file, or it is of another space.
    """
    if not search.evaluator.startswith(TABLE):
        return None
    table = TabularBenchmark.read(Path(search.evaluator.removeprefix(TABLE)))
    if table.space != space:
        raise InputError(
            f"{search.evaluator}: its space is not that of the recipe ({space.name})",
            f"Give the recipe the space {table.space.name!r} of the table",
        )
    return table


def resolve_constraints(recipe: SearchRecipe, task: ProxyTask | None, space: SearchSpace) -> SearchRecipe:
    """The recipe with every percentage in its constraints replaced by a number, with which a resumed run continues."""
    if task is None or not any("%" in text for text in recipe.search.constraints):
        return recipe
    constraints = resolve_percentages(map(parse_constraint, recipe.search.constraints), task, space, recipe.seed)
    resolved = recipe.search.model_copy(update={"constraints": tuple(map(str, constraints))})
    return recipe.model_copy(update={"search": resolved})


def build_evaluators(
    recipe: SearchRecipe,
    task: ProxyTask | None,
    space: SearchSpace,
    folder: Path,
    *,
    stop: StopRequest,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Evaluators:
    """The evaluators of a search; a supernet is trained first where the recipe asks for one.

    Args:
        recipe: The resolved recipe, its constraints as numbers.
        task: None where the rewards come from a table.
        folder: The run folder, where a supernet is saved.
        stop, progress, log: For the training of a supernet; see `build_one_shot`.

    Raises:
        InputError: The table is not there, or of another space.
        Interrupted: `stop` was requested.
    """
    search = recipe.search
    if task is None:
        table = open_table(search, space)
        assert table is not None, "without a proxy task the rewards come from a table"
        return Evaluators(_average_seeds(TabularEvaluator(table), search), None)
    scorer = EVALUATOR_BUILDERS[search.evaluator](recipe, task, folder, stop=stop, progress=progress, log=log)
    scorer = _average_seeds(scorer, search)
    constraints = tuple(map(parse_constraint, search.constraints))
    if constraints:
        scorer = ConstrainedEvaluator(scorer, constraints, task)
    return Evaluators(scorer, ProxyTraining(task, recipe.train))


def build_executor(evaluator: Evaluator, search: SearchConfig, device: torch.device) -> Executor:
    """Worker processes for an evaluator; none is started before its first job."""
    workers = count_workers(search, device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if search.executor == "ray":
        share = 1 / search.workers_per_gpu if gpus else 0.0
        return RayExecutor(evaluator, workers=workers, retries=search.retries, gpus_per_worker=share)
    if device.index is not None:  # every worker computes on that one GPU, and sees it under its number
        gpus = 0
    return LocalExecutor(evaluator, workers=workers, retries=search.retries, gpus=gpus)


def count_workers(search: SearchConfig, device: torch.device) -> int:
    """Worker processes: as configured, else one per core or GPU slot; never more than trials."""
    if device.type == "cuda":
        gpus = torch.cuda.device_count() if device.index is None else 1
        slots = max(1, gpus) * search.workers_per_gpu
    else:
        slots = len(os.sched_getaffinity(0))
    return min(search.workers or slots, search.trials)


def _average_seeds(evaluator: Evaluator, search: SearchConfig) -> Evaluator:
    return SeedAverage(evaluator, search.num_seeds) if search.num_seeds > 1 else evaluator
