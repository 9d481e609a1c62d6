"""Scaffolding of the benchmarks: measurements in fresh processes, in turn, as ratios with their spread.

A script holds its measurements in a dict by name, `MEASURES`; its `main` names variants and the columns of the table:

    def main() -> None:
        asked = arguments(__doc__).parse_args()
        compare(__file__, asked, "A training step", {"nascli": {}, "peer": {}}, [Column("seconds", "seconds")])

    if __name__ == "__main__" and not serve(MEASURES):
        main()

`compare` runs the script again, as a process that makes one of these measurements in a scratch folder of its own.
"""

import argparse
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from nascli.config import SearchRecipe, find_recipe, load_recipe
from nascli.files import write_json
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import resolve_space
from nascli.runs.record import versions
from nascli.search.strategies.strategy import Strategy
from nascli.search.trial import Score, Trial

if TYPE_CHECKING:  # it loads torch, which most of these processes do without
    from nascli.search.plan import SearchPlan

Task = Mapping[str, Any]
"""Settings of a measurement: plain values, and `scratch`, a folder of its own."""

Figures = dict[str, Any]
"""Results of a measurement: plain values."""

Measures = Mapping[str, Callable[[Task], Figures]]
"""Measurements by name."""

Check = Callable[[Sequence[Figures]], None]
"""Raises SystemExit where measurements cannot be compared."""

_ASKED = "--measure"
_RESULT = "result.json"
_ONE_CASE: Mapping[str, Task] = MappingProxyType({"": {}})


@dataclass(frozen=True)
class Column:
    """A figure of the measurements, shown as its spread over the rounds.

    Args:
        name: Field of the JSON file.
        heading: Head of the table's column; without one the column is in the JSON file alone.
        form: Format of a number.
        figure: Key of the figure in a measurement; default: `name`.
        over: A variant: the column is the ratio of its figure to each variant's, round by round.
        under: A variant: the column is the ratio of each variant's figure to its, round by round.
    """

    name: str
    heading: str = ""
    form: str = ".2f"
    figure: str = ""
    over: str = ""
    under: str = ""

    def summarize(self, taken: Mapping[str, Sequence[Figures]], variant: str) -> dict[str, float] | None:
        """The column's spread for a variant; None where it, or the variant it is compared with, has no such figure."""
        other = self.over or self.under or variant
        key = self.figure or self.name
        if other not in taken or any(each.get(key) is None for name in (variant, other) for each in taken[name]):
            return None
        own, others = ([float(each[key]) for each in taken[name]] for name in (variant, other))
        if self.over:
            return ratios(others, own)
        return ratios(own, others) if self.under else spread(own)


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


def serve(measures: Measures) -> bool:
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


def measure_here(measure: Callable[[Task], Figures], task: Task, folder: Path | None = None) -> Figures:
    """Make a measurement in this process; arguments as for `fresh`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="nascli-benchmark-") as scratch:
        return measure({**task, "scratch": scratch})


def compare(
    script: str,
    asked: argparse.Namespace,
    title: str,
    variants: Mapping[str, Task],
    columns: Sequence[Column],
    *,
    cases: Mapping[str, Task] = _ONE_CASE,
    check: Check | None = None,
    about: Callable[[Sequence[Figures]], Mapping[str, object]] = lambda _: {},
    here: Measures | None = None,
) -> list[Figures]:
    """Measure the variants in turn, each time in a fresh process, show a table of them, write the raw figures.

    A measurement is given all options, the values of its case and of its variant, and `case`, `variant` and `round`.
    Its name is the variant's `measure`, or the variant's own.

    Args:
        script: The file of the benchmark.
        asked: The options; `folder` and `cores`, where there are such, are those of `fresh`.
        title: Title of the table.
        variants: Settings by name.
        columns: Columns of the table and fields of the JSON file.
        cases: Settings by name; everything is measured anew for each.
        check: Stops the benchmark (SystemExit) where the measurements of a case cannot be compared; called after each.
        about: From all measurements to further fields of the JSON file.
        here: The measurements by name, to be made in this process, where a fresh one would cost more than they do.

    Returns:
        All measurements.
    """
    measurements: list[Figures] = []
    for case, settings in cases.items():
        for number, variant in in_turn(list(variants), asked.rounds):
            names = {"case": case, "variant": variant, "round": number}
            task = {**_settings(asked), **settings, "measure": variant, **variants[variant], **names}
            folder, cores = (getattr(asked, name, None) for name in ("folder", "cores"))
            if here is None:
                figures = fresh(script, task, folder, cores or 0)
            else:
                figures = measure_here(here[task["measure"]], task, folder)
            measurements.append({**names, **figures})
            if check is not None:
                check([each for each in measurements if each["case"] == case])
            first = columns[0].figure or columns[0].name
            progress(f"{case or title}, round {number}, {variant}: {first.replace('_', ' ')} {figures.get(first)}")
    results = summarize(measurements, columns)
    shown = [column for column in columns if column.heading]
    table = grid(f"{title}: median, least to greatest", "variant", *(column.heading for column in shown))
    for row in results:
        cells = (three(row[column.name], column.form) if row[column.name] else "" for column in shown)
        table.add_row(", ".join(filter(None, (row["case"], row["variant"]))), *cells)
    console().print(table)
    write(asked, {**about(measurements), "results": results, "measurements": measurements})
    return measurements


def summarize(measurements: Sequence[Figures], columns: Sequence[Column]) -> list[Figures]:
    """A row per case and variant: the spread of each column."""
    cases: dict[str, dict[str, list[Figures]]] = {}
    for each in measurements:
        cases.setdefault(each["case"], {}).setdefault(each["variant"], []).append(each)
    return [
        {"case": case, "variant": variant} | {column.name: column.summarize(taken, variant) for column in columns}
        for case, taken in cases.items()
        for variant in taken
    ]


def refuse_unequal(*keys: str) -> Check:
    """A check that stops where a figure is not the same in all measurements of a case."""

    def check(measurements: Sequence[Figures]) -> None:
        for key in keys:
            if len({each[key] for each in measurements if key in each}) > 1:
                raise SystemExit(f"{key} differs: {[(each['variant'], each[key]) for each in measurements]}")

    return check


def time_calls(work: Callable[[], object], seconds: float, at_least: int) -> list[float]:
    """Seconds per call, sorted, without the first third, which warms up."""
    taken: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < at_least:
        since = time.perf_counter()
        work()
        taken.append(time.perf_counter() - since)
    return sorted(taken[len(taken) // 3 :])


def time_batches(batches: Iterable[Any], warm: int, compared: int, seconds: float = math.inf) -> Figures:
    """Images per second after the first batches; mean and deviation of pixels.

    Args:
        batches: Tensors (N, ...).
        warm: Batches before the clock starts.
        compared: Batches from the first on whose pixels count.
        seconds: After which it ends, if the batches do not end before.
    """
    import torch

    coming = iter(batches)
    kept = list(itertools.islice(coming, warm))
    seen, passed, since = 0, 0.0, time.perf_counter()
    for images in coming:
        seen += len(images)
        if len(kept) < compared:
            kept.append(images)
        passed = time.perf_counter() - since
        if passed >= seconds:
            break
    pixels = torch.cat(kept)
    moments = {"mean": float(pixels.mean()), "deviation": float(pixels.std())}
    return {"images_per_second": seen / passed, "images": seen, **moments}


def refuse_other_pixels(distance: float, shares: Mapping[str, float] = MappingProxyType({})) -> Check:
    """A check that stops where means or deviations of `time_batches` are further apart than a distance.

    Args:
        shares: By variant the share of the pixels that are not set to 0, by default 1.
    """

    def check(measurements: Sequence[Figures]) -> None:
        for key, power in (("mean", 1.0), ("deviation", 0.5)):
            values = [each[key] / shares.get(each["variant"], 1.0) ** power for each in measurements if key in each]
            if values and max(values) - min(values) > distance:
                raise SystemExit(f"the pixels differ: {key} from {min(values):.3f} to {max(values):.3f}")

    return check


def peak_mib() -> float:
    """The largest memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def count_mult_adds(forward: Callable[[Any], object], side: int) -> int:
    """Multiply-accumulates of a forward pass on one image of `side` pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        forward(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() // 2


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


def mean_and_deviation(values: Sequence[float]) -> Figures:
    """Mean, sample standard deviation (0 of a single value), the number of values, and the values themselves."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "count": len(values), "each": list(values)}


def plus_minus(value: Figures, factor: float = 1.0) -> str:
    """A mean and its deviation in a cell of a table."""
    return f"{factor * value['mean']:.3f} ± {factor * value['deviation']:.3f}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each variant, taken in turn")
    parser.add_argument("--json", type=Path, help="write versions, machine, settings and every measurement here")
    return parser


def console() -> Console:
    """A console for tables; wide enough where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def grid(title: str, *headings: str) -> Grid:
    """A table whose first column holds names, the others numbers."""
    made = Grid(title=title)
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="right" if place else "left")
    return made


def three(values: Mapping[str, float], form: str = ".2f") -> str:
    """A spread in a cell of a table: the median, and least to greatest below where they differ."""
    below = f"\n{values['least']:{form}} - {values['most']:{form}}" if values["least"] < values["most"] else ""
    return f"{values['median']:{form}}{below}"


def progress(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def write(asked: argparse.Namespace, results: Mapping[str, object]) -> None:
    """Write the raw figures, if they are wanted."""
    if asked.json is None:
        return
    about = {
        "benchmark": Path(sys.argv[0]).name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "settings": _settings(asked),
    }
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(asked.json, {**about, **results})


def _settings(asked: argparse.Namespace) -> dict[str, Any]:
    """The options as plain values."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()}
    return {name: value for name, value in plain.items() if name != "json"}


def machine() -> dict[str, object]:
    """The machine, and how busy it was."""
    with Path("/proc/cpuinfo").open() as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }
