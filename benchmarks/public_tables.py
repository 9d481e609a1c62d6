"""Public tables of trained networks as CSV files: one network a row, its choices as digits in the first column.

They become tables in memory, without a family of their own: a decision is one digit, and networks of other digits are
other networks. Nothing can be built of them.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from nascli.errors import InputError
from nascli.genotype.space import SearchSpace
from nascli.search.evaluators.tabular import TabularBenchmark

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choices:
    """A network of a public table."""

    digits: tuple[int, ...]

    def canonical_hash(self) -> str:
        """The digits as the table has them."""
        return "".join(map(str, self.digits))


@dataclass(frozen=True)
class ChoiceSpace:
    """All sequences of digits, as far as strategies look at a search space."""

    name: str
    decision_sizes: tuple[int, ...]

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """All decisions are of one kind."""
        return ("choice",) * len(self.decision_sizes)

    def decode(self, tokens: Sequence[int], name: str = "") -> Choices:
        """The network of these digits."""
        return Choices(tuple(tokens))

    def features(self, genotype: Choices) -> Mapping[tuple[str, ...], float]:
        """One number for each digit in its place."""
        return {(str(place), str(digit)): 1.0 for place, digit in enumerate(genotype.digits)}


def read_public_table(path: Path, cost: str) -> tuple[TabularBenchmark, Costs]:
    """A table and the column `cost` of it, (N,).

    Accuracies, in percent, are the first column whose name has that word; of several trainings, those that differ from
    it in the number at the end alone.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    if cost not in columns:
        raise InputError(f"{path} has no column {cost}", f"Its columns are {', '.join(columns)}")
    first = next(name for name in columns if "accuracy" in name)
    trainings = [name for name in columns if re.sub(r"_\d+$", "", name) == re.sub(r"_\d+$", "", first)]
    tokens = np.array([[int(digit) for digit in row[columns[0]]] for row in rows], dtype=np.uint8)
    nothing = np.zeros(len(rows))
    space = ChoiceSpace(path.stem, tuple(int(most) + 1 for most in tokens.max(axis=0)))
    table = TabularBenchmark(
        space=cast(SearchSpace, space),
        recipe_toml="",
        about={"file": path.name},
        hashes=tuple(row[columns[0]] for row in rows),
        tokens=tokens,
        accuracies=np.array([[float(row[name]) / 100 for name in trainings] for row in rows]),
        params=cast(Any, nothing),
        mult_adds=cast(Any, nothing),
        seconds=nothing.astype(np.float32),
        latencies=nothing,
    )
    return table, np.array([float(row[cost]) for row in rows])
