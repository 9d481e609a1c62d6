"""The cost of a search beside its children: 1,000 trials whose evaluation returns at once, in nascli and in its peers.

    uv pip install optuna "ray[tune]"
    python benchmarks/search_overhead.py --folder . --json search_overhead.json

Every tool makes the 50 decisions of the paper's space and keeps every trial on disk: nascli in its journal, two events
per trial, each flushed; Optuna in its journal file or in SQLite, its defaults; Ray Tune in its experiment folder. Only
nascli makes a cell of the decisions, hashes it and looks for duplicates. PPO has the paper's controller, whose update
is the larger part of its time; the peers draw at random, as nascli's `random` does. Start-up is reported apart: worker
processes, Ray's cluster, the data base. A peer that is not installed is skipped.
"""

import argparse
import importlib
import importlib.util
import os
import random
import time
from pathlib import Path
from typing import Any

from common import Column, Figures, InstantEvaluator, Silent, Task, arguments, compare, paper_search, progress, serve

from nascli.genotype.cells.space import NASNET
from nascli.genotype.space import first_genotype

OURS = ("nascli random", "nascli evolution", "nascli ppo")
WORKERS = " 2 workers"
PEERS = {"optuna journal": "optuna", "optuna sqlite": "optuna", "ray tune": "ray.tune"}
"""The packages that they need; Ray Tune needs pandas besides, which its extra installs."""
BASELINE = "nascli random"


def nascli(task: Task) -> Figures:
    """A whole search, in this process or with two workers that are started before."""
    from nascli.search.executors.executor import Executor, InProcessExecutor, Job
    from nascli.search.executors.local import LocalExecutor
    from nascli.search.journal import Journal
    from nascli.search.loop import SearchLoop
    from nascli.signals import StopRequest

    since = time.perf_counter()
    evaluator = InstantEvaluator()
    strategy, plan = paper_search(task["strategy"], task["trials"], task["round"])
    for _ in range(20):  # the first proposals and the first update load parts of torch
        strategy.tell(strategy.ask() or (), 0.5)
    strategy, plan = paper_search(task["strategy"], task["trials"], task["round"])
    executor: Executor = (
        LocalExecutor(evaluator, workers=2, retries=0) if task["workers"] else InProcessExecutor(evaluator)
    )
    with executor:
        while executor.free:
            genotype = first_genotype(plan.space)
            executor.submit(Job(-1, genotype, executor.free))
        while executor.busy:
            executor.collect(1.0)
        start = time.perf_counter() - since
        since = time.perf_counter()
        with Journal(Path(task["scratch"]) / "trials.jsonl") as journal:
            SearchLoop(strategy, executor, journal, plan, Silent()).run(StopRequest())
            trials = len(journal.trials)
        seconds = time.perf_counter() - since
    return figures(start, seconds, trials)


def optuna(task: Task) -> Figures:
    """A study with the random sampler."""
    package = importlib.import_module("optuna")
    storages = importlib.import_module("optuna.storages")
    backends = importlib.import_module("optuna.storages.journal")
    package.logging.set_verbosity(package.logging.WARNING)
    since = time.perf_counter()
    folder = Path(task["scratch"])
    if task["storage"] == "sqlite":
        storage: Any = storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    else:
        storage = storages.JournalStorage(backends.JournalFileBackend(str(folder / "optuna.log")))
    sampler = package.samplers.RandomSampler(seed=task["round"])
    study = package.create_study(storage=storage, sampler=sampler, direction="maximize")
    start = time.perf_counter() - since

    def objective(trial: Any) -> float:  # noqa: ANN401 - optuna may not be installed
        for number, size in enumerate(NASNET.decision_sizes):
            trial.suggest_categorical(f"decision_{number}", list(range(size)))
        return random.Random(trial.number).random()

    since = time.perf_counter()
    study.optimize(objective, n_trials=task["trials"])
    seconds = time.perf_counter() - since
    return figures(start, seconds, len(study.trials)) | {"version": package.__version__}


def ray_tune(task: Task) -> Figures:
    """Ray Tune with random search and a function that reports at once."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray = importlib.import_module("ray")
    tune = importlib.import_module("ray.tune")
    since = time.perf_counter()
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
    start = time.perf_counter() - since

    def child(config: dict[str, int]) -> None:
        tune.report({"reward": random.Random(sum(config.values())).random()})

    decisions = {f"decision_{number}": tune.choice(range(size)) for number, size in enumerate(NASNET.decision_sizes)}
    since = time.perf_counter()
    tuner = tune.Tuner(
        child,
        param_space=decisions,
        tune_config=tune.TuneConfig(num_samples=task["trials"], metric="reward", mode="max"),
        run_config=tune.RunConfig(storage_path=str(Path(task["scratch"]).resolve()), verbose=0),
    )
    found = tuner.fit()
    seconds = time.perf_counter() - since
    ray.shutdown()
    return figures(start, seconds, len(found)) | {"version": ray.__version__}


def figures(start: float, seconds: float, trials: int) -> Figures:
    per_trial = 1000 * seconds / trials
    return {"start_seconds": start, "seconds": seconds, "trials": trials, "ms_per_trial": per_trial}


MEASURES = {"nascli": nascli, "optuna": optuna, "ray tune": ray_tune}


def describe(variant: str, asked: argparse.Namespace) -> Task:
    """The settings of a variant."""
    if variant == "ray tune":
        return {"measure": variant, "trials": asked.ray_trials}
    kind, detail = variant.split(" ", 1)
    if kind == "optuna":
        trials = asked.sqlite_trials if detail == "sqlite" else asked.trials
        return {"measure": kind, "storage": detail, "trials": trials}
    return {"measure": kind, "strategy": detail.removesuffix(WORKERS), "workers": detail.endswith(WORKERS)}


def is_installed(variant: str) -> bool:
    name, *needs = PEERS.get(variant, "nascli").split(".")
    return all(importlib.util.find_spec(each) for each in (name, *(["pandas"] if needs else [])))


def main() -> None:
    variants = [*OURS, *(f"{name}{WORKERS}" for name in OURS), *PEERS]
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--ray-trials", type=int, default=100, help="of Ray Tune, which is slow")
    parser.add_argument("--sqlite-trials", type=int, default=100, help="of Optuna with SQLite, which is slow, too")
    parser.add_argument("--only", action="append", choices=variants, help="these alone")
    parser.add_argument("--folder", type=Path, help="where histories are written: on the disk that is to be measured")
    asked = parser.parse_args()
    wanted = asked.only or variants
    for variant in wanted:
        if not is_installed(variant):
            progress(f"{variant} is skipped: it is not installed")
    columns = [
        Column("ms_per_trial", "ms per trial"),
        Column("over_nascli_random", f"x {BASELINE}", figure="ms_per_trial", under=BASELINE),
        Column("start_seconds", "start-up, s"),
        Column("trials", "trials", ".0f"),
    ]
    chosen = {variant: describe(variant, asked) for variant in wanted if is_installed(variant)}
    compare(__file__, asked, "A search with instant children", chosen, columns)


if __name__ == "__main__" and not serve(MEASURES):
    main()
