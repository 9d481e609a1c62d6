"""Regret of each strategy over time: many simulated searches on a table of trained cells.

    python benchmarks/regret.py TABLE --seeds 100 --trials 250 --out docs/regret
    python benchmarks/regret.py nas_bench_201.csv --space nas-bench-201 --seeds 20 --trials 100

Writes OUT.json, OUT.png and OUT.svg. Regret is the mean accuracy of the table's best cell minus that of the cell with
the highest reward so far, in percentage points; beside it stands that of the cell that a search would recommend. Every
strategy runs with its default numbers and the same seeds; ppo with the paper's as well, which are made for 20,000
trials. The controllers and the Bayesian strategy take nearly all of the time.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import console, grid
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.table import Table as Grid
from simulate import (
    RegretAt,
    SimulatedRuns,
    compare,
    rank_correlation,
    recommend_at,
    regret_at,
    regret_at_seconds,
    simulate,
    trials_to_reach,
)

from nascli.config import TableConfig
from nascli.engine.device import cpu_threads
from nascli.files import write_json
from nascli.genotype.space import SearchSpace, find_space
from nascli.reading import sha256_file
from nascli.runs.record import versions
from nascli.search.evaluators.csv_table import read_csv_table
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.gaussian_process import Features, Floats
from nascli.search.strategies.strategy import Strategy

BASELINE = "random"
_EQUAL = 1e-9
"""Regret of the best network, but for rounding."""
LEVELS = (0.02, 0.01, 0.005)
"""Regrets, in accuracy, whose first trial is counted."""
TICKS = (0, 0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 50)
"""Ticks of the regret axis, as far as they lie on it."""
LOOKS = {  # colors of Okabe and Ito, told apart by every kind of color vision, and by line alone in print
    "random": ("#000000", "-"),
    "evolution": ("#D55E00", "--"),
    "ppo": ("#0072B2", "-."),
    "ppo, paper": ("#E69F00", (0, (6, 1))),
    "ppo, warmed up": ("#56B4E9", (0, (5, 1, 1, 1, 1, 1))),
    "reinforce": ("#009E73", ":"),
    "bayesian": ("#CC79A7", "-"),
}


def strategies(space: SearchSpace) -> dict[str, Callable[[int], Strategy]]:
    """The strategies to compare: a new one from a seed, by name."""
    from nascli.config import BayesianConfig, EvolutionConfig, PpoConfig, ReinforceConfig
    from nascli.search.strategies.bayesian import BayesianSearch
    from nascli.search.strategies.evolution import Evolution
    from nascli.search.strategies.policy_gradient import ppo, reinforce
    from nascli.search.strategies.random import RandomSearch
    from nascli.search.strategies.warm_start import WarmStarted

    paper = PpoConfig(batch_size=20, lr=0.00035, entropy_weight=0.00001)
    return {
        "random": lambda seed: RandomSearch(space, seed),
        "evolution": lambda seed: Evolution(space, EvolutionConfig(), seed),
        "ppo": lambda seed: ppo(space, PpoConfig(), seed),
        "ppo, paper": lambda seed: ppo(space, paper, seed),
        "ppo, warmed up": lambda seed: WarmStarted(
            Evolution(space, EvolutionConfig(), seed), ppo(space, PpoConfig(), seed), 60
        ),
        "reinforce": lambda seed: reinforce(space, ReinforceConfig(), seed),
        "bayesian": lambda seed: BayesianSearch(space, BayesianConfig(), seed),
    }


def read_table(
    path: Path, space: str | None, accuracy: str | None = None, latency: str | None = None
) -> TabularBenchmark:
    """The table of a file; one in CSV is of networks of this space, and columns of it can be named."""
    if space is None:
        return TabularBenchmark.read(path)
    return read_csv_table(path, find_space(space), TableConfig(accuracy=accuracy, latency=latency))


def list_features(table: TabularBenchmark) -> list[Features]:
    """The features of each row."""
    return [table.space.features(table.genotype(each)) for each in table.hashes]


def checkpoints(trials: int) -> list[int]:
    """The numbers of trials that are tabulated, with the last."""
    return [count for count in (10, 25, 50, 100, 150, 250, 500, 1000, 2500) if count < trials] + [trials]


def list_times(table: TabularBenchmark, counts: Sequence[int]) -> list[float]:
    """The seconds that so many trainings of the table take on average; none where it does not say."""
    mean = float(table.seconds.sum() / max(table.counts.sum(), 1))
    return [count * mean for count in counts] if mean > 0 else []


def run_all(
    table: TabularBenchmark, chosen: list[str], trials: int, seeds: int
) -> dict[str, tuple[SimulatedRuns, float]]:
    """The searches of each strategy, and the seconds they took."""
    found = {}
    makers = strategies(table.space)
    for name in chosen or makers:
        since = time.perf_counter()
        with cpu_threads(1):
            runs = simulate(makers[name], table, table.space, trials, range(seeds))
        found[name] = (runs, time.perf_counter() - since)
    return found


def figures(
    runs: SimulatedRuns,
    baseline: SimulatedRuns | None,
    recommended: Floats,
    counts: list[int],
    table: TabularBenchmark,
) -> dict[str, object]:
    """All numbers of a strategy, for the JSON file."""
    times = list_times(table, counts)
    by_cells = runs.by_evaluations()
    reach = {str(level): trials_to_reach(runs, level) for level in LEVELS}
    return {
        "regret_at_trials": [asdict(each) for each in regret_at(runs, counts)],
        "regret_at_cells": [asdict(each) for each in regret_at(by_cells, within(by_cells, counts))],
        "regret_at_seconds": [
            {"seconds": time, "mean": float(column.mean()), "standard_error": standard_error(column)}
            for time, column in zip(times, regret_at_seconds(runs, table, times).T, strict=True)
        ],
        "recommended": [
            {
                "trials": count,
                "mean": float(column.mean()),
                "standard_error": standard_error(column),
                "median": float(np.median(column)),
                "is_best": float((column <= _EQUAL).mean()),
            }
            for count, column in zip(counts, recommended.T, strict=True)
        ],
        "trials_to_regret": {
            level: {"median": finite(float(np.median(each))), "reached": float(np.isfinite(each).mean())}
            for level, each in reach.items()
        },
        "cells_mean": float(runs.evaluations[:, -1].mean()),
        "against_random": [] if baseline is None else [asdict(compare(runs, baseline, count)) for count in counts],
    }


def within(runs: SimulatedRuns, counts: list[int]) -> list[int]:
    """Those counts of distinct cells that every one of the searches came to."""
    return [count for count in counts if count <= runs.evaluations[:, -1].min()]


def finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def describe(path: Path, table: TabularBenchmark) -> dict[str, object]:
    known = table.means[~np.isnan(table.means)]
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "space": json.loads(table.space.model_dump_json()),
        "cells": len(table),
        "failed": len(table) - len(known),
        "trainings": table.trainings,
        "training_seconds": float(table.seconds.sum(dtype=np.float64)),
        "accuracy": {
            "least": round(float(known.min()), 6),
            "median": round(float(np.median(known)), 6),
            "best": round(float(known.max()), 6),
        },
        "rank_correlation": {name: finite(value) for name, value in asdict(rank_correlation(table)).items()},
        "about": dict(table.about),
    }


def standard_error(values: Floats) -> float:
    return float(values.std() / math.sqrt(len(values)))


def show(
    about: Mapping[str, object],
    found: Mapping[str, SimulatedRuns],
    recommended: Mapping[str, Floats],
    counts: list[int],
    benchmark: TabularBenchmark,
) -> None:
    """The numbers as tables."""
    console().print(f"{about['cells']} cells, up to {about['trainings']} trainings each, {about['failed']} failed")
    for name in ("accuracy", "rank_correlation"):
        console().print(f"{name.replace('_', ' ')}: {json.dumps(about[name])}")
    searches = len(next(iter(found.values())).rewards)
    title = f"Median regret in percentage points after the given trials, 95 % interval; {searches} searches"
    table = grid(title, "strategy", *map(str, counts), "cells")
    for name, runs in found.items():
        cells = f"{runs.evaluations[:, -1].mean():.0f}"
        table.add_row(name, *(interval(each) for each in regret_at(runs, counts)), cells)
    console().print(table)
    title = (
        "Mean regret of the network with the highest reward, of the recommended one; probability that it is the best"
    )
    table = grid(title, "strategy", *map(str, counts))
    for name, runs in found.items():
        luckiest = runs.regret[:, np.array(counts) - 1]
        columns = zip(luckiest.T, recommended[name].T, strict=True)
        table.add_row(name, *(compare_choices(first, second) for first, second in columns))
    console().print(table)
    if times := list_times(benchmark, counts):
        title = "Mean regret after as much training time as so many trainings take on average"
        table = grid(title, "strategy", *(f"{count}: {time:.0f} s" for count, time in zip(counts, times, strict=True)))
        for name, runs in found.items():
            table.add_row(name, *map(mean_and_error, regret_at_seconds(runs, benchmark, times).T))
        console().print(table)
    if BASELINE in found:
        console().print(against_baseline(found, counts))


def mean_and_error(regret: Floats) -> str:
    return f"{100 * regret.mean():.3f} ± {100 * standard_error(regret):.3f}"


def compare_choices(luckiest: Floats, recommended: Floats) -> str:
    lines = map(mean_and_error, (luckiest, recommended))
    return "\n".join([*lines, f"{(luckiest <= _EQUAL).mean():.0%}, {(recommended <= _EQUAL).mean():.0%}"])


def against_baseline(found: Mapping[str, SimulatedRuns], counts: list[int]) -> Grid:
    table = grid(
        "Probability of less regret than random after the given trials, p (Mann-Whitney); median trials to a regret",
        "strategy",
        *map(str, counts),
        *(f"to {100 * x:g} pp" for x in LEVELS),
    )
    for name, runs in found.items():
        tests = [compare(runs, found[BASELINE], count) for count in counts]
        reach = [float(np.median(trials_to_reach(runs, level))) for level in LEVELS]
        table.add_row(
            name,
            *("" if name == BASELINE else f"{test.better:.2f}\np={test.p_value:.1g}" for test in tests),
            *(f"{each:.0f}" if np.isfinite(each) else "never" for each in reach),
        )
    return table


def interval(regret: RegretAt) -> str:
    median = regret.median
    return f"{100 * median.value:.2f}\n{100 * median.low:.2f}-{100 * median.high:.2f}"


def draw(found: Mapping[str, SimulatedRuns], title: str) -> Figure:
    """Regret against trials and against distinct cells: median, and a band from the first to the third quartile."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    least, most = np.inf, 0.0
    for axes, heading in ((left, "proposals, duplicates included"), (right, "distinct cells trained")):
        for name, runs in found.items():
            shown = runs if axes is left else runs.by_evaluations()
            reached = runs.rewards.shape[1] if axes is left else int(shown.evaluations[:, -1].min())
            regret = 100 * shown.regret[:, :reached]
            trials = np.arange(1, reached + 1)
            low, median, high = np.quantile(regret, [0.25, 0.5, 0.75], axis=0)
            color, line = LOOKS[name]
            axes.fill_between(trials, low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(trials, median, color=color, linestyle=line, linewidth=2, label=name)
            least, most = min(least, float(low.min())), max(most, float(high.max()))
        axes.set_xlabel(heading)
        axes.set_xlim(left=1)
        axes.grid(alpha=0.3)
    scale_regret(left, least, most)
    right.legend(frameon=False, loc="upper right")
    figure.suptitle(title, fontsize=11)
    return figure


def scale_regret(axes: Axes, least: float, most: float) -> None:
    """Logarithmic from the least to the most that is drawn; where 0 is reached, linear below 1 percentage point."""
    label = "regret, percentage points"
    if least > 0:
        axes.set_yscale("log")
        low, high = least / 1.1, most * 1.05
    else:
        axes.set_yscale("symlog", linthresh=1.0, linscale=1.0)
        low, high = -0.03, most
        label += "\n(linear below 1)"
    axes.minorticks_off()
    axes.set_yticks([tick for tick in TICKS if low <= tick <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(low, high)
    axes.set_ylabel(label)


def save(figure: Figure, out: Path) -> None:
    import matplotlib as mpl

    FigureCanvasAgg(figure)
    figure.savefig(f"{out}.png", dpi=150)
    with mpl.rc_context({"svg.hashsalt": "nascli"}):  # the same numbers give the same file
        figure.savefig(f"{out}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="a table of trained networks: HDF5, or CSV with --space")
    parser.add_argument("--space", help="search space of the networks in a CSV file")
    parser.add_argument("--accuracy", help="its column of accuracies; default: the first")
    parser.add_argument("--seeds", type=int, default=100, help="searches per strategy")
    parser.add_argument("--trials", type=int, default=250, help="proposals per search")
    parser.add_argument("--only", action="append", default=[], choices=list(LOOKS), help="these strategies alone")
    parser.add_argument("--out", type=Path, help="where to write, without suffix")
    asked = parser.parse_args()
    table = read_table(asked.table, asked.space, asked.accuracy)
    about = describe(asked.table, table)
    timed = run_all(table, asked.only, asked.trials, asked.seeds)
    found = {name: runs for name, (runs, _) in timed.items()}
    counts = checkpoints(asked.trials)
    features = list_features(table)
    recommended = {name: recommend_at(runs, table, counts, features) for name, runs in found.items()}
    show(about, found, recommended, counts, table)
    if asked.out is None:
        return
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    baseline = found.get(BASELINE)
    numbers = {
        "table": about,
        "searches": asked.seeds,
        "trials": asked.trials,
        "versions": versions(),
        "strategies": {
            name: {
                "seconds": round(seconds, 1),
                **figures(runs, None if name == BASELINE else baseline, recommended[name], counts, table),
            }
            for name, (runs, seconds) in timed.items()
        },
    }
    write_json(Path(f"{asked.out}.json"), numbers)
    title = f"{len(table)} cells of space {table.space.name!r}: median of {asked.seeds} searches, quartiles shaded"
    save(draw(found, title), asked.out)


if __name__ == "__main__":
    main()
