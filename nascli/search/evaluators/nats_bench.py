"""Tables out of the files of NATS-Bench (topology) and NAS-Bench-201, without their packages.

Of every cell: the validation accuracies on CIFAR-10 at the end of its trainings, params, mult-adds and seconds. Cells
that are equal by canonical hash are one network, with the trainings of all.

References:
    Dong and Yang 2020 (NAS-Bench-201); Dong et al. 2021 (NATS-Bench). The layout is that of `ArchResults.state_dict`
    and `ResultsCount.state_dict` in the packages `nats_bench` 1.8 and `nas-bench-201` 2.1.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.errors import InputError
from nascli.genotype.edges.space import NAS_BENCH_201
from nascli.genotype.notations import read_notation
from nascli.search.evaluators.plain_pickle import read_plain_pickle
from nascli.search.evaluators.tabular import TabularBenchmark, write_columns
from nascli.units import shorten

_DATASET = "cifar10-valid"
_PART = "x-valid"
_FIRST_SEED = 888
"""Their seed with the right costs, where those of several seeds differ."""

_EPOCHS = {"less": 12, "full": 200}
"""What NAS-Bench-201 calls trainings of so many epochs; NATS-Bench has the number as text."""

_FORM = "docs/search.md says which files are read"


@dataclass(frozen=True)
class _Cell:
    """A cell as trained for one number of epochs; accuracies are shares up to 1, seconds those of all trainings."""

    accuracies: tuple[float, ...]
    params: int
    mult_adds: int
    seconds: float


def import_table(source: Path, path: Path, epochs: int | None = None) -> TabularBenchmark:
    """Write the table of a file, or of NATS-Bench's folder with a file per cell.

    Args:
        epochs: Which trainings: those of 12 or of 200 epochs; by default the longest.

    Returns:
        The table as it is read from the file.

    Raises:
        InputError: It is no such file or folder, holds more than plain values, or has no trainings of so many epochs.
        CorruptFileError: A file is damaged.
        NascliError: The table cannot be written.
    """
    cells: dict[str, Mapping[int, _Cell]] = {}
    for file, results in _read_results(source):
        try:
            name, found = _read_cell(results)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _foreign(file) from error
        cells.setdefault(name, found)
    known = sorted({each for found in cells.values() for each in found})
    if not known or epochs not in (None, *known):
        there = f"of {' and '.join(map(str, known))} epochs" if known else f"on {_DATASET} with an accuracy"
        raise InputError(
            f"{source} has {'' if known else 'no '}trainings {there}" + (f", not of {epochs}" if known else ""), _FORM
        )
    chosen = known[-1] if epochs is None else epochs
    return write_columns(
        path, _tabulate({name: found[chosen] for name, found in cells.items() if chosen in found}, source, chosen)
    )


def _read_results(source: Path) -> Iterator[tuple[Path, Any]]:
    """The results of each cell's trainings, by their epochs, and the file where they stand."""
    if source.is_dir():
        files = sorted(source.glob("[0-9]*.pickle.pbz2"))
        if not files:
            raise InputError(f"{source} has no files like 000000.pickle.pbz2", _FORM, file=source)
        yield from ((file, read_plain_pickle(file)) for file in files)
        return
    value = read_plain_pickle(source)
    if not isinstance(value, dict) or not isinstance(value.get("arch2infos"), dict):
        raise _foreign(source)
    yield from ((source, results) for results in value["arch2infos"].values())


def _foreign(path: Path) -> InputError:
    return InputError(f"{path} has not the layout of NATS-Bench (topology) or NAS-Bench-201", _FORM, file=path)


def _read_cell(results: Any) -> tuple[str, Mapping[int, _Cell]]:  # noqa: ANN401
    """A cell's string, and its trainings on the data set by their epochs."""
    found, name = {}, ""
    for key, result in results.items():
        name = str(result["arch_str"])
        seeds = result["dataset_seed"].get(_DATASET, ())
        trainings = {seed: result["all_results"][_DATASET, seed] for seed in seeds}
        accuracies = [each["eval_acc1es"].get(f"{_PART}@{int(each['epochs']) - 1}") for each in trainings.values()]
        if not trainings or None in accuracies:
            continue
        costs = trainings.get(_FIRST_SEED) or next(iter(trainings.values()))
        cell = _Cell(
            tuple(float(each) / 100 for each in accuracies),
            round(costs["params"] * 1e6),
            round(costs["flop"] * 1e6),
            math.fsum(math.fsum((each["train_times"] or {}).values()) for each in trainings.values()),
        )
        if not all(0 <= each <= 1 for each in cell.accuracies) or min(cell.params, cell.mult_adds, cell.seconds) < 0:
            raise ValueError("a number is out of range")
        found[_EPOCHS.get(key) or int(key)] = cell
    return name, found


def _tabulate(cells: Mapping[str, _Cell], source: Path, epochs: int) -> dict[str, Any]:
    """The columns and texts of the table, by name."""
    rows: dict[str, list[tuple[tuple[int, ...], _Cell]]] = defaultdict(list)
    for name, cell in cells.items():
        try:
            genotype = read_notation(name, "nas-bench-201", which=NAS_BENCH_201.name)
        except InputError as error:
            raise InputError(
                f"{source}: {shorten(name, 60)!r} is no cell of NAS-Bench-201: {error.message}", _FORM, file=source
            ) from error
        rows[genotype.canonical_hash()].append((NAS_BENCH_201.encode(genotype), cell))
    trained = [[accuracy for _, cell in same for accuracy in cell.accuracies] for same in rows.values()]
    accuracies = np.full((len(rows), max(map(len, trained))), np.nan)
    for place, each in enumerate(trained):
        accuracies[place, : len(each)] = each
    about = {"file": source.name, "accuracy": f"{_PART} of {_DATASET}", "epochs": epochs}
    return {
        "hashes": np.array([list(bytes.fromhex(each)) for each in rows]),
        "tokens": np.array([same[0][0] for same in rows.values()]),
        "accuracies": accuracies,
        "params": np.array([min(cell.params for _, cell in same) for same in rows.values()]),
        "mult_adds": np.array([min(cell.mult_adds for _, cell in same) for same in rows.values()]),
        "seconds": np.array([math.fsum(cell.seconds for _, cell in same) for same in rows.values()]),
        "latencies": np.full(len(rows), np.nan),
        "space": NAS_BENCH_201.model_dump_json(),
        "recipe": f'[space]\nname = "{NAS_BENCH_201.name}"\n',
        "about": json.dumps(about),
    }
