"""The parts of a search, made from its recipe: strategy, evaluators, executors."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nascli.config import SearchRecipe, suggestion
from nascli.errors import InputError
from nascli.genotype.space import SearchSpace
from nascli.search.evaluators.constraints import ConstrainedEvaluator, Constraint, parse_constraint, resolve_percentages
from nascli.search.evaluators.one_shot import Progress, shared_weights
from nascli.search.evaluators.proxy import Evaluator, ProxyTraining, Repeated, proxy_training
from nascli.search.evaluators.tabular import TableEvaluator
from nascli.search.evaluators.zero_cost import ZERO_COST_SCORES, ZeroCostScore
from nascli.search.executors.executor import Executor
from nascli.search.executors.local import LocalWorkers
from nascli.search.executors.ray import RayExecutor
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.search.strategies.ppo import Ppo
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.reinforce import Reinforce
from nascli.search.strategies.strategy import Strategy
from nascli.search.strategies.warm_start import SupportsPretraining, WarmStarted
from nascli.signals import StopRequest

TABLE = "table:"
EVALUATORS = ("proxy", "one_shot", *ZERO_COST_SCORES)

STRATEGIES: dict[str, Callable[[SearchSpace, SearchRecipe], Strategy]] = {
    "ppo": lambda space, recipe: _warm_started(Ppo(space, recipe.ppo, recipe.seed), space, recipe),
    "reinforce": lambda space, recipe: _warm_started(Reinforce(space, recipe.reinforce, recipe.seed), space, recipe),
    "random": lambda space, recipe: RandomSearch(space, recipe.seed),
    "evolution": lambda space, recipe: Evolution(space, recipe.evolution, recipe.seed),
    "bayesian": lambda space, recipe: BayesianSearch(space, recipe.bayesian, recipe.seed),
    "exhaustive": lambda space, recipe: ExhaustiveSearch(space),
}


@dataclass(frozen=True)
class Evaluators:
    """Who scores the cells of a search.

    Args:
        scorer: Gives the reward.
        trainer: Trains the best again, from scratch; None where there is no data set to train on (a table).
    """

    scorer: Evaluator
    trainer: ProxyTraining | None


def check_recipe(recipe: SearchRecipe) -> None:
    """Refuse what does not go together, before anything is loaded.

    Raises:
        InputError: Sections of the recipe contradict each other.
    """
    search, rungs = recipe.search, recipe.halving.rungs
    kind = search.evaluator
    if kind not in EVALUATORS and not kind.startswith(TABLE):
        raise InputError(
            f"search.evaluator = {kind!r}: no such evaluator", suggestion(kind, [*EVALUATORS, f"{TABLE}FILE"])
        )
    if search.warm_start_trials and search.strategy not in ("ppo", "reinforce"):
        raise InputError(
            f"search.warm_start_trials = {search.warm_start_trials}: {search.strategy} cannot be warm-started",
            "Use it with ppo or reinforce, or leave it out",
        )
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


def make_proxy(recipe: SearchRecipe, device: torch.device) -> ProxyTraining | None:
    """The proxy task with its data loaded; None if the rewards come from a table."""
    return None if recipe.search.evaluator.startswith(TABLE) else proxy_training(recipe, device)


def open_table(recipe: SearchRecipe, space: SearchSpace) -> TableEvaluator | None:
    """The table that a recipe's rewards come from; None if they do not.

    Raises:
        InputError: There is no such file, or it is of another space.
    """
    if not recipe.search.evaluator.startswith(TABLE):
        return None
    evaluator = TableEvaluator(Path(recipe.search.evaluator.removeprefix(TABLE)))
    if evaluator.table.space != space:
        raise InputError(
            f"{recipe.search.evaluator}: its space is not that of the recipe ({space.name})",
            f"Give the recipe the space {evaluator.table.space.name!r} of the table",
        )
    return evaluator


def resolve_constraints(recipe: SearchRecipe, proxy: ProxyTraining | None, space: SearchSpace) -> SearchRecipe:
    """The recipe with every percentage among its constraints replaced by a number, which a resumed run goes on with."""
    if proxy is None or not any("%" in text for text in recipe.search.constraints):
        return recipe
    constraints = resolve_percentages(map(parse_constraint, recipe.search.constraints), proxy, space, recipe.seed)
    settled = recipe.search.model_copy(update={"constraints": tuple(map(str, constraints))})
    return recipe.model_copy(update={"search": settled})


def make_evaluators(
    recipe: SearchRecipe,
    proxy: ProxyTraining | None,
    space: SearchSpace,
    folder: Path,
    *,
    stop: StopRequest,
    progress: Progress | None = None,
) -> Evaluators:
    """Who scores the cells; trains the shared weights first, if they are asked for.

    Args:
        recipe: With its constraints settled.
        proxy: The proxy task.
        space: The search space.
        folder: The run folder, where shared weights are kept.
        stop: Looked at while shared weights are trained.
        progress: Told of each step of that training.

    Raises:
        InputError: The table is not there, or of another space.
        Interrupted: `stop` was requested.
    """
    if proxy is None:
        table = open_table(recipe, space)
        assert table is not None, "without a proxy task the rewards come from a table"
        return Evaluators(_repeated(table, recipe), None)
    scorer: Evaluator = proxy
    if recipe.search.evaluator == "one_shot":
        scorer = shared_weights(recipe, proxy, folder, stop=stop, progress=progress)
    elif recipe.search.evaluator != "proxy":
        scorer = ZeroCostScore(recipe.search.evaluator, proxy)
    constraints: tuple[Constraint, ...] = tuple(map(parse_constraint, recipe.search.constraints))
    scorer = _repeated(scorer, recipe)
    return Evaluators(ConstrainedEvaluator(scorer, constraints, proxy) if constraints else scorer, proxy)


def make_executor(evaluator: Evaluator, recipe: SearchRecipe, device: torch.device) -> Executor:
    """Worker processes for an evaluator; none is started before its first job."""
    search, workers = recipe.search, count_workers(recipe, device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    named = device.index is not None  # every worker computes on that one GPU, and sees it under its number
    if search.executor == "ray":
        share = 1 / search.workers_per_gpu if gpus else 0.0
        return RayExecutor(evaluator, workers=workers, retries=search.retries, gpus_per_worker=share)
    return LocalWorkers(evaluator, workers=workers, retries=search.retries, gpus=0 if named else gpus)


def count_workers(recipe: SearchRecipe, device: torch.device) -> int:
    """Worker processes: as the recipe says, else one a core, or one a GPU slot; never more than trials."""
    if device.type == "cuda":
        gpus = torch.cuda.device_count() if device.index is None else 1
        slots = max(1, gpus) * recipe.search.workers_per_gpu
    else:
        slots = len(os.sched_getaffinity(0))
    return min(recipe.search.workers or slots, recipe.search.trials)


def _warm_started(learner: SupportsPretraining, space: SearchSpace, recipe: SearchRecipe) -> Strategy:
    search = recipe.search
    if not search.warm_start_trials:
        return learner
    first: Strategy = RandomSearch(space, recipe.seed)
    if search.warm_start_strategy == "evolution":
        first = Evolution(space, recipe.evolution, recipe.seed)
    return WarmStarted(first, learner, search.warm_start_trials)


def _repeated(evaluator: Evaluator, recipe: SearchRecipe) -> Evaluator:
    times = recipe.search.num_seeds
    return Repeated(evaluator, times) if times > 1 else evaluator
