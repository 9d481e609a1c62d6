"""Tabular benchmarks: every cell of a small space with the results of its trainings, so that a search costs nothing.

An exhaustive search is turned into a table by `write_table`. With it a strategy can be run a hundred times in seconds,
and its regret is known, because the best cell is. The file stands alone: it holds the search space, the recipe of the
trainings, and notes of its author.

What becomes a row: each cell that was trained, once. Duplicates are skipped, and so are cells that a constraint
rejected, as nobody trained them. A cell whose training failed is a row with NaN for accuracies and 0 for everything
else: that it fails is what the table knows of it. Accuracies are kept as the search had them, bit for bit.
"""

import io
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nascli.config import SearchRecipe, parse
from nascli.data.checked_h5 import CheckedFormat, check_content, read_attribute, read_column
from nascli.errors import DivergedError, InputError, RejectedError
from nascli.files import write_bytes
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace, parse_space, resolve_space
from nascli.models.latency import latency_of_table
from nascli.reading import read_file
from nascli.search.trial import Score, Trial, TrialState
from nascli.seeding import derive_seed

_COLUMNS: dict[str, np.dtype[Any]] = {  # N cells, T decisions, S seeds
    "hashes": np.dtype("u1"),  # (N, 8)
    "tokens": np.dtype("u1"),  # (N, T)
    "accuracies": np.dtype("<f8"),  # (N, S)
    "params": np.dtype("<u8"),  # (N,)
    "mult_adds": np.dtype("<u8"),  # (N,)
    "seconds": np.dtype("<f4"),  # (N,)
    "latencies": np.dtype("<f8"),  # (N,)
}
_DIMENSIONS = {"hashes": 2, "tokens": 2, "accuracies": 2, "params": 1, "mult_adds": 1, "seconds": 1, "latencies": 1}
_MAY_LACK = "latencies"
"""The column that a file lacks where no latency was measured."""

_TEXTS = ("space", "recipe", "about")
_FORMAT = CheckedFormat(
    name="nascli-table",
    noun="table",
    version=1,
    make_hint="nascli search --strategy exhaustive makes a search that a table can be written from",
    damage_hint="Get or make it again: tables are never repaired",
)


@dataclass(frozen=True, eq=False)
class TabularBenchmark:
    """Trained cells by canonical hash. N cells, up to S trainings each, in the order of the search.

    Args:
        recipe_toml: The recipe of the search that trained the cells.
        about: Notes of its author: hardware, date, purpose.
        hashes: Canonical hashes, no two equal.
        tokens: One decision sequence per cell, (N, T).
        accuracies: Accuracy per training, (N, S); NaN after the last training of a cell, and for one that failed.
        params: Trainable parameters of the child network, (N,); 0 where the file says nothing.
        mult_adds: Multiply-accumulates per image, (N,); likewise.
        seconds: Duration of all trainings of a cell, (N,); for simulated clocks.
        latencies: Seconds of one image through the child network, (N,); NaN where not measured.
    """

    space: SearchSpace
    recipe_toml: str
    about: Mapping[str, str | float]
    hashes: tuple[str, ...]
    tokens: npt.NDArray[np.uint8]
    accuracies: npt.NDArray[np.float64]
    params: npt.NDArray[np.uint64]
    mult_adds: npt.NDArray[np.uint64]
    seconds: npt.NDArray[np.float32]
    latencies: npt.NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The table of a file.

        Raises:
            InputError: There is no such file, it is no table, or a newer nascli wrote it.
            CorruptFileError: It is damaged.
        """
        try:
            content = read_file(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}", _FORMAT.make_hint) from error
        return cls(**_decode(content, path))

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, canonical_hash: object) -> bool:
        return canonical_hash in self._rows

    @property
    def trainings(self) -> int:
        """The most trainings of a cell, S."""
        return int(self.accuracies.shape[1])

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Trainings of each cell, (N,); 0 for a cell that failed."""
        return np.asarray((~np.isnan(self.accuracies)).sum(axis=1))

    @cached_property
    def means(self) -> npt.NDArray[np.float64]:
        """Mean accuracy of each cell over its trainings, (N,); NaN for a cell that failed."""
        totals, counts = np.nansum(self.accuracies, axis=1), self.counts
        return np.asarray(np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0))

    def draw_accuracy(self, row: int, seed: int) -> float:
        """The accuracy of one training of a cell, drawn by the seed of a trial; NaN for a cell that failed."""
        count = int(self.counts[row])
        return float(self.accuracies[row, derive_seed(seed, "table") % count]) if count else float("nan")

    @property
    def best(self) -> str:
        """The hash of the cell with the highest mean accuracy; of equals the first."""
        return self.hashes[int(np.nanargmax(self.means))]

    def has(self, quantity: str) -> bool:
        """Whether it has the costs of cells: `params`, `mult_adds`, `latency`."""
        if quantity == "latency":
            return not bool(np.isnan(self.latencies).all())
        return bool(np.any({"params": self.params, "mult_adds": self.mult_adds}[quantity]))

    def row(self, canonical_hash: str) -> int:
        """The row of the cell with this canonical hash.

        Raises:
            InputError: It is not in the table.
        """
        if canonical_hash not in self._rows:
            raise InputError(
                f"cell {canonical_hash} is not in the table: it holds {len(self)} cells of space {self.space.name!r}",
                "Search the space that the table was made of, with its ops, blocks, inputs and cells",
            )
        return self._rows[canonical_hash]

    def mean_accuracy(self, canonical_hash: str) -> float:
        """Mean accuracy of a cell over its trainings; NaN if it failed. InputError if it is not in the table."""
        return float(self.means[self.row(canonical_hash)])

    def genotype(self, canonical_hash: str) -> Genotype:
        """The cell with this canonical hash, as the table's search proposed it; InputError if it is not there."""
        return self.space.decode(
            self.tokens[self.row(canonical_hash)].tolist(), name=f"{self.space.name}-{canonical_hash}"
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {canonical_hash: row for row, canonical_hash in enumerate(self.hashes)}


@dataclass(frozen=True)
class TabularEvaluator:
    """Answers from a table: the accuracy of one of the cell's trainings, which one is drawn from the seed.

    So rewards are as noisy as single trainings are, which a strategy must cope with (as in NAS-Bench-101).

    Args:
        needs_latency: Whether a cell without one is rejected, as its accuracy cannot be weighed.

    References:
        Ying et al. 2019 (NAS-Bench-101), whose `query` samples one of a model's three trainings too.
    """

    table: TabularBenchmark
    needs_latency: bool = False

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The cell's score, drawn by `seed`. `seconds` is the duration of the answer; the training's is in the table.

        Raises:
            InputError: The cell is not in the table.
            DivergedError: Its training failed when the table was made.
            RejectedError: It has no latency, and needs one.
        """
        started = time.monotonic()
        canonical_hash = genotype.canonical_hash()
        row = self.table.row(canonical_hash)
        accuracy = self.table.draw_accuracy(row, seed)
        if np.isnan(accuracy):
            raise DivergedError(f"cell {canonical_hash} failed when the table was made")
        score = Score.of(accuracy, int(self.table.params[row]), int(self.table.mult_adds[row]), started)
        seconds = float(self.table.latencies[row])
        if np.isnan(seconds):
            if self.needs_latency:
                raise RejectedError(f"cell {canonical_hash} has no latency in the table")
            return score
        return replace(score, latency=latency_of_table(seconds, str(self.table.about.get("latency", "measured there"))))


def write_table(
    path: Path, trials: Sequence[Trial], *, recipe_toml: str, about: Mapping[str, str | float] | None = None
) -> TabularBenchmark:
    """Write the table of a finished search: encoded in memory, read back, compared, then written whole or not at all.

    Trainings that ranked the best again after the search are not part of it.

    Args:
        trials: All trials of the search.
        recipe_toml: Its resolved recipe, which names the space.
        about: Notes for its readers.

    Returns:
        The table as it is read from the file.

    Raises:
        InputError: A trial is not finished, was scored without training, was trained another number of times than the
            others, or is not of the recipe's space; or no trial has a score.
        NascliError: The file cannot be written.
    """
    recipe = parse(SearchRecipe, tomllib.loads(recipe_toml), "recipe")
    return write_columns(path, _tabulate(trials, resolve_space(recipe.space), recipe_toml, dict(about or {})))


def write_columns(path: Path, values: Mapping[str, Any]) -> TabularBenchmark:
    """Write columns and texts, by their names in the file, and return the table as it is read from there."""
    content = _encode(values)
    table = TabularBenchmark(**_decode(content, path))
    write_bytes(path, content)
    return table


def _tabulate(
    trials: Sequence[Trial], space: SearchSpace, recipe_toml: str, about: Mapping[str, str | float]
) -> dict[str, Any]:
    """The columns and texts of a table, by name."""
    accuracies = {trial.id: _accuracies_of(trial) for trial in trials}
    counts = {len(each) for each in accuracies.values() if each}
    if len(counts) != 1:
        reason = (
            f"cells were trained {' and '.join(map(str, sorted(counts)))} times" if counts else "no cell was scored"
        )
        raise InputError(f"no table can be made of these trials: {reason}", _FORMAT.make_hint)
    kept = [trial for trial in trials if accuracies[trial.id] is not None]
    sizes = np.array(space.decision_sizes)
    if any(len(trial.tokens) != len(sizes) or np.any(np.array(trial.tokens) >= sizes) for trial in kept):
        raise InputError(f"the trials are not of the recipe's space {space.name!r}", "Give the recipe of their search")
    failed = (float("nan"),) * counts.pop()
    scores = [trial.score for trial in kept]
    return {
        "hashes": np.array([list(bytes.fromhex(trial.hash)) for trial in kept]),
        "tokens": np.array([trial.tokens for trial in kept]),
        "accuracies": np.array([accuracies[trial.id] or failed for trial in kept]),
        "params": np.array([score.params if score else 0 for score in scores]),
        "mult_adds": np.array([score.mult_adds if score else 0 for score in scores]),
        "seconds": np.array([score.seconds if score else 0.0 for score in scores]),
        "latencies": np.array([score.latency.seconds if score and score.latency else np.nan for score in scores]),
        "space": space.model_dump_json(),
        "recipe": recipe_toml,
        "about": json.dumps(about, allow_nan=False),
    }


def _accuracies_of(trial: Trial) -> tuple[float, ...] | None:
    """One accuracy per training; empty for a cell that failed, None for a trial that is no row."""
    if not trial.finished:
        raise InputError(f"trial {trial.id} is not finished", "Finish it with nascli search --resume")
    if trial.duplicate_of is not None or trial.state is TrialState.REJECTED:
        return None
    if trial.score is None:
        return ()
    if trial.score.accuracy is None:
        raise InputError(f"trial {trial.id} was scored without training, so it has no accuracy", _FORMAT.make_hint)
    return trial.score.accuracies or (trial.score.accuracy,)


def _encode(values: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with _FORMAT.create(buffer) as file:
        columns = {name: values[name].astype(dtype) for name, dtype in _COLUMNS.items()}
        if np.isnan(columns[_MAY_LACK]).all():
            del columns[_MAY_LACK]
        texts = {name: values[name] for name in _TEXTS}
        _FORMAT.fill(file, columns, texts, compression="gzip", shuffle=True)
    return buffer.getvalue()


def _decode(content: bytes, path: Path) -> dict[str, Any]:
    """The fields of a `TabularBenchmark`."""
    with _FORMAT.open(io.BytesIO(content), path) as file:
        columns = {
            name: read_column(file, name, dtype.str, _DIMENSIONS[name])
            for name, dtype in _COLUMNS.items()
            if name != _MAY_LACK or name in file
        }
        texts = {name: str(read_attribute(file, name)) for name in _TEXTS}
        check_content(file, columns, texts, "content")
        columns.setdefault(_MAY_LACK, np.full(len(columns["seconds"]), np.nan))
        hashes = tuple(row.tobytes().hex() for row in columns.pop("hashes"))
        space, about = parse_space(texts["space"]), json.loads(texts["about"])
    return {"space": space, "recipe_toml": texts["recipe"], "about": about, "hashes": hashes, **columns}
