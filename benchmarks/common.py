"""What the benchmarks share: measurements in fresh processes, ratios with their spread, and the file of raw figures.

A script holds its measurements in a dict by name and ends with

    if __name__ == "__main__" and not serve(MEASURES):
        main()

`fresh` runs the script again, as a process that makes one of these measurements in a scratch folder of its own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from nascli.config import SearchRecipe, find_recipe, load_recipe
from nascli.files import write_json
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import resolve_space
from nascli.runs import versions
from nascli.search.strategies.strategy import Strategy
from nascli.search.trial import Score, Trial

if TYPE_CHECKING:  # it loads torch, which most of these processes do without
    from nascli.search.plan import SearchPlan

Task = Mapping[str, Any]
"""What a measurement is told: plain values, and `scratch`, a folder of its own."""

Figures = dict[str, Any]
"""What a measurement gives back: plain values."""

_ASKED = "--measure"
_RESULT = "result.json"


@dataclass(frozen=True)
class InstantEvaluator:
    """Trains nothing; the reward follows from the seed."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        accuracy = 0.85 + 0.1 * (seed % 10_007) / 10_007
        return Score(reward=accuracy, accuracy=accuracy, params=1_234_567, mult_adds=123_456_789, seconds=123.456)


class Silent:
    """An observer that looks away."""

    def on_start(self, trials: Sequence[Trial]) -> None: ...
    def on_trial(self, trial: Trial) -> None: ...
    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None: ...
    def on_message(self, text: str) -> None: ...


def paper_search(strategy: str, trials: int, seed: int, *, asynchronous: bool = False) -> tuple[Strategy, "SearchPlan"]:
    """A new strategy in the paper's space with the paper's numbers, and the plan of a search with it."""
    from nascli.search.builders import build_strategy
    from nascli.search.plan import SearchPlan

    search = {"search.strategy": strategy, "search.trials": trials, "search.asynchronous": asynchronous}
    recipe = load_recipe(SearchRecipe, find_recipe("search", "cifar10-paper"), {"seed": seed, **search})
    space = resolve_space(recipe.space)
    plan = SearchPlan(
        space=space,
        trials=trials,
        seed=seed,
        failure_reward=recipe.search.failure_reward,
        asynchronous=asynchronous,
        patience=recipe.search.patience,
    )
    return build_strategy(recipe, space), plan


def serve(measures: Mapping[str, Callable[[Task], Figures]]) -> bool:
    """Make one measurement, if this process was started for that."""
    if sys.argv[1:2] != [_ASKED]:
        return False
    task = json.loads(sys.argv[2])
    write_json(Path(task["scratch"]) / _RESULT, measures[task["measure"]](task))
    return True


def fresh(script: str, task: Task, folder: Path | None = None, cores: int = 0) -> Figures:
    """Make a measurement in a process of its own, with one thread of computation.

    Args:
        script: The file of the benchmark.
        task: Plain values; `measure` names the measurement.
        folder: Where the scratch folder is made; None is the system's place for temporary files.
        cores: The process and its children are bound to so many of the cores there are; 0 is all.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="nascli-benchmark-") as scratch:
        given = json.dumps({**task, "scratch": scratch})
        chosen = sorted(os.sched_getaffinity(0))[: cores or None]
        binding = ["taskset", "--cpu-list", ",".join(map(str, chosen))] if cores else []
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        command = [*binding, sys.executable, script, _ASKED, given]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{task['measure']} failed ({done.returncode}):\n{done.stderr[-4000:]}")
        figures: Figures = json.loads(Path(scratch, _RESULT).read_text())
        return figures


def in_turn(variants: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Every variant once a round; each round begins with another one, so that none always comes first."""
    for number in range(rounds):
        first = number % len(variants)
        for variant in [*variants[first:], *variants[:first]]:
            yield number, variant


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest of several measurements."""
    return {
        "least": min(values),
        "median": statistics.median(values),
        "most": max(values),
        "rounds": len(values),
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The spread of over / under, round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each variant, taken in turn")
    parser.add_argument("--json", type=Path, help="write versions, machine, settings and every measurement here")
    return parser


def console() -> Console:
    """Where tables go; wide enough where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def grid(title: str, *headings: str) -> Grid:
    """A table whose first column holds names, the others numbers."""
    made = Grid(title=title)
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="right" if place else "left")
    return made


def three(values: Mapping[str, float], form: str = ".2f") -> str:
    """A spread in a cell of a table: the median, and least to greatest below."""
    return f"{values['median']:{form}}\n{values['least']:{form}} - {values['most']:{form}}"


def progress(text: str) -> None:
    """Say on stderr what was just measured."""
    print(text, file=sys.stderr, flush=True)


def write(asked: argparse.Namespace, results: Mapping[str, object]) -> None:
    """Write the raw figures, if they are wanted."""
    if asked.json is None:
        return
    settings = {name: value for name, value in vars(asked).items() if name != "json"}
    about = {
        "benchmark": Path(sys.argv[0]).name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "settings": settings,
    }
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(asked.json, {**about, **results})


def machine() -> dict[str, object]:
    """What was measured on, and how busy it was."""
    with Path("/proc/cpuinfo").open() as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }
