"""A search run as its report reads it: the trials, what was asked, what the strategy said of itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nascli.config import SearchRecipe, parse
from nascli.errors import CorruptFileError
from nascli.files import read_json
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.runs import read_run
from nascli.search.journal import read_trials
from nascli.search.study import JOURNAL
from nascli.search.trial import Trial, TrialState

Update = Mapping[str, float]


@dataclass(frozen=True)
class SearchData:
    """A search run that was read.

    Args:
        path: The run folder.
        record: Its `run.json`.
        recipe: The recipe in it.
        trials: All trials, by id.
        updates: The strategy's diagnostics after each of its updates, with the number of trials told by then.
    """

    path: Path
    record: Mapping[str, Any]
    recipe: SearchRecipe
    trials: tuple[Trial, ...]
    updates: tuple[Update, ...] = ()

    @cached_property
    def space(self) -> SearchSpace:
        """The search space of the recipe."""
        return resolve_space(self.recipe.space)

    @cached_property
    def finished(self) -> tuple[Trial, ...]:
        """The trials that will change no more, by id: what the search has spent its budget on."""
        return tuple(trial for trial in self.trials if trial.finished)

    @cached_property
    def scored(self) -> tuple[Trial, ...]:
        """The trials that were evaluated to their end, themselves."""
        return tuple(trial for trial in self.trials if trial.scored)

    @cached_property
    def complete(self) -> tuple[Trial, ...]:
        """The trials with a score, duplicates included."""
        return tuple(trial for trial in self.trials if trial.state is TrialState.COMPLETE)

    @cached_property
    def trains(self) -> bool:
        """Whether the rewards come from proxy accuracies."""
        return bool(self.scored) and all(trial.score and trial.score.accuracy is not None for trial in self.scored)

    @property
    def measure(self) -> str:
        """What the reward is, in words."""
        return "proxy accuracy" if self.trains else "reward"

    def amount(self, value: float) -> str:
        """A reward in words: in percent where it is an accuracy."""
        return f"{value:.2%}" if self.trains else f"{value:.5g}"

    def count(self, state: TrialState) -> int:
        """Trials in a state, duplicates not counted."""
        return sum(trial.state is state and trial.duplicate_of is None for trial in self.trials)

    @property
    def duplicates(self) -> int:
        """Proposals answered by an earlier trial."""
        return sum(trial.duplicate_of is not None for trial in self.trials)


def read_search(path: Path) -> SearchData:
    """Read a search run, which may be one that is going on.

    Raises:
        InputError: It is no search run, or its recipe cannot be understood.
        CorruptFileError: One of its files is damaged.
    """
    record = read_run(path, "search")
    recipe = parse(SearchRecipe, record.get("recipe"), str(path / "run.json"))
    return SearchData(path, record, recipe, tuple(read_trials(path / JOURNAL)), _read_updates(path / "curves.json"))


def reward_of(trial: Trial) -> float:
    """The reward of a complete trial."""
    assert trial.score is not None
    return trial.score.reward


def trial_seconds(trial: Trial) -> float:
    """What a trial's own evaluation took in all; 0 for a repeat. That of a failed one is not known, but for rungs."""
    if trial.duplicate_of is not None:
        return 0.0
    return trial.score.seconds if trial.score else sum(rung.score.seconds for rung in trial.rungs)


def best_so_far(values: Sequence[float | None]) -> list[float]:
    """The running maximum; not a number before the first value that is there."""
    best, found = math.nan, []
    for value in values:
        if value is not None and not value <= best:
            best = value
        found.append(best)
    return found


def _read_updates(path: Path) -> tuple[Update, ...]:
    """The updates of `curves.json`, numbers only; none where the search has not written it yet."""
    if not path.is_file():
        return ()
    updates = read_json(path).get("updates", [])
    if not isinstance(updates, list) or not all(isinstance(update, dict) for update in updates):
        raise CorruptFileError(f"{path}: updates is not a list of objects", "Remove the file; only curves are lost")
    return tuple({str(key): float(value) for key, value in each.items() if _is_number(value)} for each in updates)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
