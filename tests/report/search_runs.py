"""Search runs made in milliseconds, whose rewards a test can choose."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nascli.config import SearchRecipe, load_recipe
from nascli.files import write_json
from nascli.genotype.cells.space import CellSpace, resolve_cell_space
from nascli.genotype.space import SearchSpace
from nascli.runs.start import create_run
from nascli.search.trial import Failure, FailureKind, Score, Trial

SMALL_SPACE = {"name": "own", "ops": ["sep_conv_3x3", "max_pool_3x3", "identity"], "blocks": 2}


def make_recipe(**flags: object) -> SearchRecipe:
    """A recipe of a small space; `train__lr=0.1` sets a key."""
    given = {"space": SMALL_SPACE, "search.trials": 30} | {
        key.replace("__", "."): value for key, value in flags.items()
    }
    return load_recipe(SearchRecipe, None, given)


def scored(trial: Trial, reward: float, *, accuracy: float | None = None, params: int = 1000) -> Trial:
    """The trial with a score."""
    return trial.complete(
        Score(
            reward=reward,
            accuracy=reward if accuracy is None else accuracy,
            params=params,
            mult_adds=10 * params,
            seconds=2.0,
        )
    )


def propose_trials(space: CellSpace, count: int, seed: int = 0) -> list[Trial]:
    """Different trials without an outcome."""
    draw = random.Random(seed)
    trials: list[Trial] = []
    seen: set[str] = set()
    while len(trials) < count:
        tokens = tuple(draw.randrange(size) for size in space.decision_sizes)
        genotype = space.decode(tokens, f"trial-{len(trials)}")
        hashed = genotype.canonical_hash()
        if hashed not in seen:
            seen.add(hashed)
            trials.append(Trial(id=len(trials), tokens=tokens, genotype=genotype, hash=hashed, seed=len(trials)))
    return trials


def mixed_trials(recipe: SearchRecipe, count: int = 30, seed: int = 0) -> list[Trial]:
    """Trials of every kind: most complete, the fifth failed, the sixth rejected, the eighth a copy of the first."""
    draw = random.Random(seed)
    trials = [
        scored(trial, 0.5 + 0.4 * draw.random(), params=1000 + draw.randrange(500))
        for trial in propose_trials(resolve_cell_space(recipe.space), count, seed)
    ]
    running = propose_trials(resolve_cell_space(recipe.space), count, seed)
    if count > 7:
        trials[4] = running[4].fail(Failure(FailureKind.DIVERGED, "the loss became nan <script>alert(1)</script>"), 0)
        trials[5] = running[5].fail(Failure(FailureKind.REJECTED, "2M params, limit params<1M"), 0)
        trials[7] = replace(trials[0], id=7, duplicate_of=0)
    return trials


class SearchRuns:
    """Search runs under a folder. Their trials are handed over as values: the journal has tests of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trials: dict[Path, list[Trial]] = {}

    def search(
        self,
        name: str,
        recipe: SearchRecipe,
        trials: Sequence[Trial],
        updates: Sequence[Mapping[str, float]] | None = None,
    ) -> Path:
        """A search that is complete; the path of its folder."""
        path = self.folder / name
        with create_run("search", name, recipe, runs=self.folder, out=path) as run:
            run.update(results={"seconds": 125.0})
            if updates is not None:
                write_json(path / "curves.json", {"updates": list(updates)})
        self._trials[path] = list(trials)
        return path

    def read(self, journal: Path, space: SearchSpace) -> list[Trial]:
        """The trials of a journal, in place of the journal's reader."""
        return self._trials[journal.parent]
