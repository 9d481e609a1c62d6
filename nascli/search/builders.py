"""The components of a search, made from its recipe: strategy, evaluator, executor.

`nascli.config` names the strategies and evaluators, with a line on each; the same names stand here with their
constructors.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nascli.config import EVALUATORS, TABLE, SearchConfig, SearchRecipe, TableConfig, find_evaluator, suggestion
from nascli.engine.device import check_precision
from nascli.errors import InputError
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.models.families import find_supernet
from nascli.search.evaluators.child_files import find_kept, find_paused
from nascli.search.evaluators.constraints import (
    ConstrainedEvaluator,
    parse_constraint,
    resolve_percentages,
)
from nascli.search.evaluators.costs import CostEvaluator, build_meter
from nascli.search.evaluators.csv_table import read_csv_table
from nascli.search.evaluators.evaluator import Evaluator, SeedAverage
from nascli.search.evaluators.one_shot import Progress, build_one_shot
from nascli.search.evaluators.proxy import ChildSetup, ProxyTraining, load_child_setup
from nascli.search.evaluators.tabular import TabularBenchmark, TabularEvaluator
from nascli.search.evaluators.zero_cost import ZERO_COST_SCORES, ZeroCostScore
from nascli.search.executors.executor import Executor
from nascli.search.executors.local import LocalExecutor
from nascli.search.executors.ray import RayExecutor
from nascli.search.front import cost_quantity
from nascli.search.objective import find_objective
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.search.strategies.nsga2 import Nsga2
from nascli.search.strategies.policy_gradient import ppo, reinforce
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.strategy import MultiObjective, Strategy, SupportsPretraining
from nascli.search.strategies.warm_start import WarmStarted
from nascli.signals import StopRequest

_CPU = torch.device("cpu")

# Given the space, the recipe's section of the strategy's name (None where there is none), and the seed: a strategy
# gets no other setting, so a snapshot of it is bound to all that it was made from.
STRATEGY_BUILDERS: Mapping[str, Callable[[SearchSpace, Any, int], Strategy]] = {
    "ppo": ppo,
    "reinforce": reinforce,
    "random": lambda space, section, seed: RandomSearch(space, seed),
    "evolution": Evolution,
    "bayesian": BayesianSearch,
    "nsga2": Nsga2,
    "exhaustive": lambda space, section, seed: ExhaustiveSearch(space),
}


EVALUATOR_BUILDERS: Mapping[
    str, Callable[..., Evaluator]
] = {  # given recipe, setup of the children, run folder, and callbacks
    "proxy": lambda recipe, setup, folder, **how: ProxyTraining(
        setup, recipe.train, find_paused(recipe, folder), find_kept(recipe, folder)
    ),
    "one_shot": build_one_shot,
    **dict.fromkeys(
        ZERO_COST_SCORES, lambda recipe, setup, folder, **how: ZeroCostScore(recipe.search.evaluator, setup)
    ),
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


def check_recipe(recipe: SearchRecipe, device: torch.device = _CPU) -> None:
    """Refuse a recipe whose sections contradict each other or the device, before anything is loaded.

    Raises:
        InputError: The message names the key.
    """
    if recipe.search.executor == "ray" and device.index is not None:
        raise InputError(
            f"--device {device} names one GPU, and a Ray cluster gives each worker one that it chooses",
            "Give --device cuda; CUDA_VISIBLE_DEVICES, set where ray start is called, limits the choice",
        )
    search, rungs = recipe.search, recipe.halving.rungs
    kind = search.evaluator
    if kind not in EVALUATOR_BUILDERS and not kind.startswith(TABLE):
        raise InputError(f"search.evaluator = {kind!r}: no such evaluator", suggestion(kind, EVALUATORS))
    if kind == "one_shot":
        find_supernet(resolve_space(recipe.space).family)
        check_precision(recipe.supernet, device)
    if find_evaluator(kind).trains_children or recipe.rerank.top:
        check_precision(recipe.train, device)
    if search.warm_start_trials:
        build_strategy(recipe, resolve_space(recipe.space))
    if search.num_seeds > 1 and not find_evaluator(kind).uses_seed:
        raise InputError(
            f"search.num_seeds = {search.num_seeds}: {kind} scores a cell the same each time", "Leave it out"
        )
    if search.inherit_weights and not find_evaluator(kind).trains_children:
        raise InputError(
            f"search.inherit_weights needs trainings, but search.evaluator is {kind}", "Leave one of the two out"
        )
    if rungs and not find_evaluator(kind).trains_children:
        raise InputError(f"halving.rungs need a training, but search.evaluator is {kind}", "Leave one of the two out")
    if list(rungs) != sorted({*rungs}) or any(not 0 < rung < recipe.train.epochs for rung in rungs):
        raise InputError(
            f"halving.rungs = {list(rungs)}: they must rise and lie below train.epochs = {recipe.train.epochs}",
            "For example rungs = [1, 3] below 9 epochs",
        )
    if not recipe.halving.restart and not rungs:
        raise InputError(
            "halving.restart = false continues trainings from rung to rung, but halving.rungs is empty",
            "Set halving.rungs, or leave it out",
        )
    for text in search.constraints:
        parse_constraint(text)
    if find_objective(recipe) and not find_evaluator(kind).is_accuracy:
        raise InputError(
            f"objective.quantity = {recipe.objective.quantity}: {kind} gives no accuracy that could be weighed by it",
            "Use search.evaluator = proxy, or leave one of the two out",
        )
    if recipe.latency.table and not needs_latency(recipe):
        raise InputError(
            f"latency.table = {recipe.latency.table!r}: neither objective nor constraint names the latency",
            "Give --target-latency TIME, or leave the table out",
        )
    if not kind.startswith(TABLE) and recipe.table != TableConfig():
        raise InputError(
            f"[table] names columns of a table, but search.evaluator is {kind}", "Leave one of the two out"
        )
    if kind.startswith(TABLE):
        for name, given in (
            ("search.constraints", search.constraints),
            ("rerank.top", recipe.rerank.top),
            ("objective.network", recipe.objective.network),
            ("latency.table", recipe.latency.table),
        ):
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
    strategy = _build_strategy(search.strategy, recipe, space)
    if not search.warm_start_trials:
        return strategy
    if not isinstance(strategy, SupportsPretraining):
        raise InputError(
            f"search.warm_start_trials = {search.warm_start_trials}: {search.strategy} cannot be warm-started",
            "Use it with ppo or reinforce, or leave it out",
        )
    first = _build_strategy(search.warm_start_strategy, recipe, space)
    return WarmStarted(first, strategy, search.warm_start_trials)


def _build_strategy(name: str, recipe: SearchRecipe, space: SearchSpace) -> Strategy:
    return STRATEGY_BUILDERS[name](space, getattr(recipe, name, None), recipe.seed)


def build_child_setup(recipe: SearchRecipe, device: torch.device) -> ChildSetup | None:
    """The setup of the children, its data loaded; None if the rewards come from a table."""
    return None if recipe.search.evaluator.startswith(TABLE) else load_child_setup(recipe, device)


def open_table(recipe: SearchRecipe, space: SearchSpace) -> TabularBenchmark | None:
    """The table that the rewards come from; None if they do not.

    Raises:
        InputError: There is no such file, it is of another space, or it lacks the cost that the objective weighs.
    """
    evaluator = recipe.search.evaluator
    if not evaluator.startswith(TABLE):
        return None
    path = Path(evaluator.removeprefix(TABLE))
    if path.suffix.lower() == ".csv":
        table = read_csv_table(path, space, recipe.table)
    elif recipe.table.accuracy or recipe.table.latency:
        raise InputError(f"[table] names columns of a CSV file, and {path} is none", "Leave the section out")
    else:
        table = TabularBenchmark.read(path)
    if table.space != space:
        raise InputError(
            f"{evaluator}: its space is not that of the recipe ({space.name})",
            f"Give the recipe the space {table.space.name!r} of the table",
        )
    _check_costs(recipe, table, path)
    return table


def _check_costs(recipe: SearchRecipe, table: TabularBenchmark, path: Path) -> None:
    """Refuse a table without the cost that the objective, or a strategy of two goals, asks for (InputError)."""
    asks = recipe.weighs_cost or isinstance(build_strategy(recipe, table.space), MultiObjective)
    quantity = cost_quantity(recipe)
    if asks and not table.has(quantity):
        name = "objective.quantity" if recipe.weighs_cost else f"search.strategy = {recipe.search.strategy}"
        raise InputError(
            f"{name}: {path} has no {quantity} that is read",
            "Of a CSV file name a column of latencies: --set table.latency=NAME",
        )


def resolve_costs(
    recipe: SearchRecipe, setup: ChildSetup | None, space: SearchSpace, log: Callable[[str], None]
) -> SearchRecipe:
    """The recipe with which a resumed run continues.

    Every percentage in its constraints is a number; and where they or the objective name the latency, it says which
    engine is timed, on which device, and both work here.

    Args:
        log: Is told of an engine that cannot take the networks.

    Raises:
        InputError: The engine does not work here, or a percentage cannot be measured.
    """
    if setup is None:  # a run may be resumed from another folder
        table = f"{TABLE}{Path(recipe.search.evaluator.removeprefix(TABLE)).absolute()}"
        return recipe.model_copy(update={"search": recipe.search.model_copy(update={"evaluator": table})})
    if recipe.latency.table:  # a run may be resumed from another folder
        latency = recipe.latency.model_copy(update={"table": str(Path(recipe.latency.table).absolute())})
        recipe = recipe.model_copy(update={"latency": latency})
    meter = build_meter(recipe, setup)
    if needs_latency(recipe):
        meter = meter.settle(space, log)
        recipe = recipe.model_copy(update={"latency": meter.form})
    constraints = tuple(map(parse_constraint, recipe.search.constraints))
    if any(constraint.percent for constraint in constraints):
        numbers = resolve_percentages(constraints, setup, space, recipe.seed, meter)
        resolved = recipe.search.model_copy(update={"constraints": tuple(map(str, numbers))})
        recipe = recipe.model_copy(update={"search": resolved})
    return recipe


def needs_latency(recipe: SearchRecipe) -> bool:
    """Whether a constraint or the objective names the latency."""
    named = (parse_constraint(text).quantity for text in recipe.search.constraints)
    return "latency" in (recipe.objective.quantity, *named)


def build_evaluators(
    recipe: SearchRecipe,
    setup: ChildSetup | None,
    table: TabularBenchmark | None,
    folder: Path,
    *,
    stop: StopRequest,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Evaluators:
    """The evaluators of a search; a supernet is trained first where the recipe asks for one.

    Args:
        recipe: The resolved recipe, its constraints as numbers.
        setup: None where the rewards come from a table.
        table: From `open_table`.
        folder: The run folder, where a supernet is saved.
        stop, progress, log: For the training of a supernet; see `build_one_shot`.

    Raises:
        Interrupted: `stop` was requested.
    """
    search = recipe.search
    if setup is None:
        assert table is not None, "without a setup the rewards come from a table"
        return Evaluators(_average_seeds(TabularEvaluator(table, needs_latency(recipe)), search), None)
    scorer = EVALUATOR_BUILDERS[search.evaluator](recipe, setup, folder, stop=stop, progress=progress, log=log)
    scorer = _average_seeds(scorer, search)
    constraints = tuple(map(parse_constraint, search.constraints))
    meter, first_epochs = build_meter(recipe, setup), next(iter(recipe.halving.rungs), None)
    if constraints:
        scorer = ConstrainedEvaluator(scorer, constraints, setup, meter, first_epochs)
    if recipe.weighs_cost:
        scorer = CostEvaluator(scorer, meter, recipe.objective.quantity == "latency", first_epochs)
    return Evaluators(scorer, ProxyTraining(setup, recipe.train))


def build_executor(evaluator: Evaluator, search: SearchConfig, device: torch.device) -> Executor:
    """Worker processes for an evaluator; none is started before its first job."""
    workers = count_workers(search, device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if search.executor == "ray":
        share = 1 / max(1, search.workers_per_gpu) if gpus else 0.0
        return RayExecutor(evaluator, workers=workers, retries=search.retries, gpus_per_worker=share)
    if device.index is not None:  # every worker computes on that one GPU, and sees it under its number
        gpus = 0
    return LocalExecutor(evaluator, workers=workers, retries=search.retries, gpus=gpus)


def count_workers(search: SearchConfig, device: torch.device) -> int:
    """Worker processes: as configured, else one per core or GPU slot; never more than trials."""
    if device.type == "cuda":
        gpus = torch.cuda.device_count() if device.index is None else 1
        slots = max(1, gpus) * max(1, search.workers_per_gpu)
    else:
        slots = len(os.sched_getaffinity(0))
    return min(search.workers or slots, search.trials)


def _average_seeds(evaluator: Evaluator, search: SearchConfig) -> Evaluator:
    return SeedAverage(evaluator, search.num_seeds) if search.num_seeds > 1 else evaluator
