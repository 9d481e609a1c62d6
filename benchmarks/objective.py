"""Does the reward do what the paper says? Many simulated searches for accuracy at or under a target cost.

    python benchmarks/objective.py benchmarks/tables/cifar10-two-blocks.h5 --json objective.json
    python benchmarks/objective.py nas_bench_201.csv --space nas-bench-201 --cost pixel3_latency_ms --target 10%

Each strategy searches without an objective, with the soft one of the paper (-0.07 on both sides of the target) and with
the hard one (0 and -1). A search hands over the network with the highest accuracy it has seen at or under the target;
what counts is that network's mean accuracy over all its trainings. The hypervolume is that of the front a search has
seen, by mean accuracies, as a share of the table's: its reference point is the table's worst accuracy and highest cost.
Random search proposes the same whatever the objective, and nsga2 weighs nothing, so they run once. Every strategy has
its default numbers.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import console, grid
from regret import read_table, strategies
from simulate import Rows, SimulatedRuns, simulate

from nascli.config import TRADE_OFFS, Nsga2Config
from nascli.engine.device import cpu_threads
from nascli.files import write_json
from nascli.reading import sha256_file
from nascli.runs.record import versions
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.front import Point, find_front, hypervolume, worst_of
from nascli.search.objective import Objective
from nascli.search.strategies.nsga2 import Nsga2
from nascli.search.strategies.strategy import Strategy

Floats = npt.NDArray[np.float64]

OBJECTIVES = ("none", *TRADE_OFFS)

LEARNING = ("evolution", "ppo", "bayesian")
ALONE = ("random", "nsga2")
COUNTS = ("mult_adds", "params")
"""Costs that a table has by these names."""
CHUNK = 10
"""Searches that a process runs at a time."""


@dataclass(frozen=True)
class Question:
    """A table and what is asked of it.

    Args:
        space: Of the networks of a CSV file; None for a table of nascli.
        cost: `mult_adds`, `params`, or of a CSV file a column of latencies.
        target: A cost, or a percentage of the table's networks that cost at most the target.
    """

    path: Path
    space: str | None
    cost: str
    target: str

    def open(self) -> "OpenTable":
        """The table, in this process once."""
        return open_table(self)


class OpenTable:
    """A table in memory with the cost of each network, (N,), and what no search can do better."""

    def __init__(self, table: TabularBenchmark, costs: npt.NDArray[Any], target: str) -> None:
        self.table, self.costs = table, costs.astype(np.float64)
        self.rows = Rows(table, table.space)
        share = target.removesuffix("%")
        self.target = float(np.nanquantile(self.costs, float(share) / 100)) if share != target else float(target)
        self.points = self.points_of(np.flatnonzero(~np.isnan(table.means)))
        self.reference = worst_of(self.points)
        self.largest = hypervolume(self.points, self.reference)

    def points_of(self, rows: npt.NDArray[np.int64]) -> list[Point]:
        """Mean accuracy and cost of each of these networks."""
        pairs = zip(self.table.means[rows].tolist(), self.costs[rows].tolist(), strict=True)
        return [Point(*pair) for pair in pairs]

    @property
    def best_within(self) -> float:
        """The highest mean accuracy at or under the target."""
        return max(point.accuracy for point in self.points if point.cost <= self.target)


@cache
def open_table(question: Question) -> OpenTable:
    latency = None if question.cost in COUNTS else question.cost
    if latency and question.space is None:
        raise SystemExit(f"--cost {latency}: of a table of nascli it is one of {', '.join(COUNTS)}")
    table = read_table(question.path, question.space, latency=latency)
    if latency:  # a network that the device cannot compute counts as one whose training failed
        answered = np.where(np.isnan(table.latencies)[:, None], np.nan, table.accuracies)
        table = replace(table, accuracies=answered)
    return OpenTable(table, table.latencies if latency else getattr(table, question.cost), question.target)


def weigh(objective: str, target: float) -> Callable[[Point], float]:
    """The reward of an accuracy and a cost."""
    if objective == "none":
        return lambda point: point.accuracy
    made = Objective("mult_adds", target, *TRADE_OFFS[objective])
    return lambda point: made.reward(*point)


def make_strategy(name: str, opened: OpenTable) -> Callable[[int], Strategy]:
    """The strategy of a name, from a seed."""
    space = opened.table.space
    if name == "nsga2":
        return lambda seed: Nsga2(space, Nsga2Config(), seed)
    return strategies(space)[name]


def list_variants(chosen: Sequence[str], objectives: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Strategy and objective of each row of the table of results."""
    for name in ("random", *LEARNING, "nsga2"):
        if not chosen or name in chosen:
            yield from ((name, objective) for objective in (["none"] if name in ALONE else objectives or OBJECTIVES))


def run_chunk(question: Question, name: str, objective: str, seeds: Sequence[int], counts: Sequence[int]) -> Floats:
    """Some searches, as by `search`; in a process of their own."""
    return search(question.open(), name, objective, seeds, counts)


def search(opened: OpenTable, name: str, objective: str, seeds: Sequence[int], counts: Sequence[int]) -> Floats:
    """Some searches: accuracy at or under the target and hypervolume after each count, (R, 2, C); NaN for none."""
    with cpu_threads(1):
        runs = simulate(
            make_strategy(name, opened),
            opened.table,
            opened.table.space,
            max(counts),
            seeds,
            costs=opened.costs,
            weigh=weigh(objective, opened.target),
            rows=opened.rows,
        )
    return np.array(
        [
            [
                [within_target(opened, runs, run, n) for n in counts],
                [share_of_front(opened, runs, run, n) for n in counts],
            ]
            for run in range(len(seeds))
        ]
    )


def seen(runs: SimulatedRuns, run: int, count: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The rows that a search has seen after so many trials, each once, and the accuracies that it saw."""
    rows, observed = runs.rows[run, :count], runs.observed[run, :count]
    rows, first = np.unique(rows[~np.isnan(observed)], return_index=True)
    return rows, observed[~np.isnan(observed)][first]


def within_target(opened: OpenTable, runs: SimulatedRuns, run: int, count: int) -> float:
    """The mean accuracy of the network that looks best at or under the target; NaN where none was seen."""
    rows, observed = seen(runs, run, count)
    inside = opened.costs[rows] <= opened.target
    return float(opened.table.means[rows[inside][observed[inside].argmax()]]) if inside.any() else float("nan")


def share_of_front(opened: OpenTable, runs: SimulatedRuns, run: int, count: int) -> float:
    """The hypervolume of the networks that look like the front, by their mean accuracies, of the table's."""
    rows, observed = seen(runs, run, count)
    looks = [Point(accuracy, opened.costs[row]) for accuracy, row in zip(observed.tolist(), rows, strict=True)]
    return hypervolume(opened.points_of(rows[find_front(looks)]), opened.reference) / opened.largest


def run_all(
    question: Question, variants: Sequence[tuple[str, str]], seeds: int, counts: Sequence[int], workers: int
) -> dict[tuple[str, str], Floats]:
    """The searches of each variant, (R, 2, C)."""
    chunks = [range(first, min(first + CHUNK, seeds)) for first in range(0, seeds, CHUNK)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        asked = {
            variant: [pool.submit(run_chunk, question, *variant, chunk, counts) for chunk in chunks]
            for variant in variants
        }
        return {variant: np.concatenate([each.result() for each in parts]) for variant, parts in asked.items()}


def quartiles(values: Floats) -> dict[str, float | None]:
    """First quartile, median and third quartile over the searches; a search that found nothing counts as the worst."""
    low, median, high = np.quantile(np.where(np.isnan(values), -np.inf, values), [0.25, 0.5, 0.75], method="lower")
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in (("low", low), ("median", median), ("high", high))
    }


def summarize(found: Floats, counts: Sequence[int]) -> dict[str, object]:
    """The figures of a variant, for the JSON file."""
    return {
        "within_target": {str(count): quartiles(found[:, 0, place]) for place, count in enumerate(counts)},
        "hypervolume": {str(count): quartiles(found[:, 1, place]) for place, count in enumerate(counts)},
        "found_none": float(np.isnan(found[:, 0, -1]).mean()),
    }


def show(about: Mapping[str, object], found: Mapping[tuple[str, str], Floats], counts: Sequence[int]) -> None:
    """The figures as a table."""
    console().print(json.dumps(about))
    searches = len(next(iter(found.values())))
    title = (
        f"Median (quartiles) of {searches} searches: accuracy in % at or under the target, hypervolume of the table's"
    )
    heads = [*(f"accuracy, {count}" for count in counts), *(f"hypervolume, {count}" for count in counts)]
    table = grid(title, "strategy", "objective", *heads)
    for (name, objective), values in found.items():
        accuracies = [spread(quartiles(values[:, 0, place]), 100, 2) for place in range(len(counts))]
        volumes = [spread(quartiles(values[:, 1, place]), 1, 3) for place in range(len(counts))]
        table.add_row(name, objective, *accuracies, *volumes)
    console().print(table)


def spread(values: Mapping[str, float | None], scale: float, digits: int) -> str:
    low, median, high = (
        "none" if values[name] is None else f"{scale * (values[name] or 0.0):.{digits}f}"
        for name in ("low", "median", "high")
    )
    return f"{median}\n{low}-{high}"


def describe(question: Question) -> dict[str, object]:
    opened = question.open()
    return {
        "file": question.path.name,
        "sha256": sha256_file(question.path),
        "networks": len(opened.table),
        "cost": question.cost,
        "target": opened.target,
        "at_or_under_target": float((opened.costs <= opened.target).mean()),
        "best_within_target": opened.best_within,
        "best": max(point.accuracy for point in opened.points),
        "front": len(find_front(opened.points)),
        "reference": opened.reference._asdict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="a table of trained networks: .h5 of nascli, or .csv")
    parser.add_argument("--space", help="of the networks of a .csv file")
    parser.add_argument("--cost", default="mult_adds", help="mult_adds, params, or a .csv file's column of latencies")
    parser.add_argument(
        "--target",
        default="25%",
        help="a cost (seconds of a latency), or the share of networks that cost at most so much",
    )
    parser.add_argument("--seeds", type=int, default=100, help="searches per strategy and objective")
    parser.add_argument("--trials", type=int, default=250, help="proposals per search")
    parser.add_argument("--only", action="append", default=[], choices=["random", *LEARNING, "nsga2"])
    parser.add_argument("--objective", action="append", default=[], choices=OBJECTIVES, help="default: all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    asked = parser.parse_args()
    question = Question(asked.table, asked.space, asked.cost, asked.target)
    counts = [count for count in (50, 100) if count < asked.trials] + [asked.trials]
    since = time.perf_counter()
    about = describe(question)
    found = run_all(question, list(list_variants(asked.only, asked.objective)), asked.seeds, counts, asked.workers)
    show(about, found, counts)
    if asked.json is None:
        return
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    results = [
        {"strategy": name, "objective": objective, **summarize(values, counts)}
        for (name, objective), values in found.items()
    ]
    settings = {"searches": asked.seeds, "trials": asked.trials, "seconds": round(time.perf_counter() - since, 1)}
    write_json(asked.json, {"table": about, **settings, "versions": versions(), "results": results})


if __name__ == "__main__":
    main()
