"""Tables of others as CSV files: a network a row, what is known of it in columns. Their form is in docs/search.md.

Rows of equal networks, by canonical hash, are trainings of one network.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nascli.config import TableConfig, suggestion
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.notations import read_notation, recognize
from nascli.genotype.space import SearchSpace
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.text_files import read_text
from nascli.units import shorten

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in a unit that the name of a column of latencies ends with."""

_COUNTS = {"params": ("params",), "mult_adds": ("mult_adds", "flops", "macs")}
"""The names of columns of costs: the first of them that there is."""

_SECONDS = "seconds"
_FORM = "docs/search.md has the form of such files"


@dataclass(frozen=True)
class _Columns:
    """The columns of a file that are read, by name; None where it has none."""

    accuracies: tuple[str, ...]
    latency: str | None
    costs: Mapping[str, str | None]

    @property
    def all(self) -> set[str]:
        return {*self.accuracies, *filter(None, (self.latency, *self.costs.values()))}


_NOT_MEASURED = -1
"""In place of a latency, as in HW-NAS-Bench (Li et al. 2021), where a device cannot compute a network."""


@dataclass(frozen=True)
class _Row:
    """A row: its tokens, its network, and its numbers by column; an empty field has none."""

    tokens: tuple[int, ...]
    genotype: Genotype
    numbers: Mapping[str, float]


def read_csv_table(path: Path, space: SearchSpace, config: TableConfig) -> TabularBenchmark:
    """The table in a CSV file, of networks of a space.

    Args:
        config: The columns to read.

    Raises:
        InputError: There is no such file or column, or a row is wrong: no network of the space, one twice, no number.
    """
    lines = _read_lines(path)
    _, header = next(lines, (0, []))
    columns = _find_columns(header, config, path)
    rows: dict[tuple[int, ...], tuple[int, _Row]] = {}
    for line, values in lines:
        place = f"{path}, line {line}"
        if len(values) != len(header):
            raise InputError(f"{place} has {len(values)} fields, and the header {len(header)}", _FORM, file=path)
        row = _read_row(values, header, columns, space, place)
        if row.tokens in rows:
            raise InputError(f"{place}: {values[0]} stands in line {rows[row.tokens][0]} already", _FORM, file=path)
        rows[row.tokens] = line, row
    known = [row for _, row in rows.values() if any(name in row.numbers for name in columns.accuracies)]
    if not known:
        raise InputError(f"{path} has no row with an accuracy ({', '.join(columns.accuracies)})", _FORM, file=path)
    return _tabulate(known, columns, space, path)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines with something in them, split, and their numbers."""
    lines = csv.reader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), strict=True)
    try:
        yield from ((lines.line_num, values) for values in lines if values)
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: {error}", "Is it a CSV file?", file=path) from error


def _find_columns(header: Sequence[str], config: TableConfig, path: Path) -> _Columns:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: the header has {twice!r} twice", "Give each column a name of its own", file=path)
    accuracies = _find_accuracies(header[1:], config, path)
    if config.latency and config.latency not in header[1:]:
        raise _missing("latency", config.latency, header[1:], path)
    if config.latency and config.latency.rpartition("_")[2] not in _UNITS:
        raise InputError(
            f"table.latency = {config.latency!r}: the name of that column of {path} says no unit",
            f"End it in one of {', '.join(f'_{unit}' for unit in _UNITS)}",
            file=path,
        )
    costs = {key: next((name for name in names if name in header[1:]), None) for key, names in _COUNTS.items()}
    costs[_SECONDS] = _SECONDS if _SECONDS in header[1:] else None
    return _Columns(accuracies, config.latency, costs)


def _find_accuracies(names: Sequence[str], config: TableConfig, path: Path) -> tuple[str, ...]:
    """The columns of all trainings: those that differ in the number at the end alone."""
    first = config.accuracy or next((name for name in names if "accuracy" in name.lower()), None)
    if first is None:
        raise InputError(f"{path}: the header has no column with accuracy in its name", _FORM, file=path)
    stem = config.accuracy or re.sub(r"_\d+$", "", first)
    found = tuple(name for name in names if name == stem or re.fullmatch(rf"{re.escape(stem)}_\d+", name))
    if not found:
        raise _missing("accuracy", stem, names, path)
    return found


def _missing(key: str, name: str, names: Sequence[str], path: Path) -> InputError:
    return InputError(f"table.{key} = {name!r}: {path} has no such column", suggestion(name, names), file=path)


def _read_row(values: Sequence[str], header: Sequence[str], columns: _Columns, space: SearchSpace, place: str) -> _Row:
    try:
        tokens = _read_tokens(values[0], space)
        genotype = space.decode(tokens)
    except InputError as error:
        raise InputError(
            f"{place}: {shorten(values[0], 60)!r} is no network of space {space.name!r}: {error.message}",
            "Give --space the space of the table",
        ) from error
    numbers = {}
    for name, text in zip(header, values, strict=True):
        if name not in columns.all or not text.strip():
            continue
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if name == columns.latency and numbers[name] == _NOT_MEASURED:
            del numbers[name]
        elif not 0 <= numbers[name] < math.inf:
            raise InputError(f"{place}, column {name}: {shorten(text)!r} is no number from 0 on", _FORM)
    return _Row(tokens, genotype, numbers)


def _read_tokens(text: str, space: SearchSpace) -> tuple[int, ...]:
    """The tokens of a network: a digit for each decision, or numbers between spaces; or in another tool's notation."""
    words = text.split()
    if all(word.isdecimal() for word in words):
        return tuple(map(int, words if len(words) > 1 else text.strip()))
    notations = recognize(text)
    if not notations:
        raise InputError("neither tokens nor a known notation")
    return space.encode(read_notation(text, notations[0], which=space.name))


def _tabulate(rows: Sequence[_Row], columns: _Columns, space: SearchSpace, path: Path) -> TabularBenchmark:
    found: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        found[row.genotype.canonical_hash()].append(row)
    answers = [
        [row.numbers[name] for row in same for name in columns.accuracies if name in row.numbers]
        for same in found.values()
    ]
    accuracies = np.full((len(found), max(map(len, answers))), np.nan)
    for place, each in enumerate(answers):
        accuracies[place, : len(each)] = each
    most = np.nanmax(accuracies)
    if most > 100:
        raise InputError(
            f"{path}: an accuracy is {most:g}", "They are shares up to 1, or percents up to 100", file=path
        )
    unit = _UNITS[columns.latency.rpartition("_")[2]] if columns.latency else 1.0

    def gather(name: str | None) -> list[list[float]]:
        return [[row.numbers[name] for row in same if name in row.numbers] if name else [] for same in found.values()]

    costs = {key: [min(each, default=0) for each in gather(name)] for key, name in columns.costs.items()}
    latencies = [unit * math.fsum(each) / len(each) if each else np.nan for each in gather(columns.latency)]
    return TabularBenchmark(
        space=space,
        recipe_toml="",
        about={"file": path.name, **({"latency": columns.latency} if columns.latency else {})},
        hashes=tuple(found),
        tokens=np.array([same[0].tokens for same in found.values()], dtype=np.uint8),
        accuracies=accuracies / 100 if most > 1 else accuracies,
        params=np.array(costs["params"], dtype=np.uint64),
        mult_adds=np.array(costs["mult_adds"], dtype=np.uint64),
        seconds=np.array(costs[_SECONDS], dtype=np.float32),
        latencies=np.array(latencies),
    )
