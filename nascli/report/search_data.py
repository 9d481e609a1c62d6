"""A search run as its report reads it: the trials, the recipe, the strategy's diagnostics."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nascli.config import SearchRecipe
from nascli.errors import CorruptFileError
from nascli.genotype.space import SearchSpace
from nascli.records import read_record
from nascli.search.objective import describe_reward, find_objective
from nascli.search.recommend import Recommendation, recommend
from nascli.search.recorded import read_recorded
from nascli.search.trial import Trial, TrialState
from nascli.text import printable

Update = Mapping[str, float]

_MAX_DRAWN = 5


@dataclass(frozen=True)
class SearchData:
    """A search run that was read.

    Args:
        record: Its `run.json`.
        trials: All trials, by id.
        updates: The strategy's diagnostics after each of its updates, with the number of trials told by then.
    """

    path: Path
    record: Mapping[str, Any]
    recipe: SearchRecipe
    space: SearchSpace
    trials: tuple[Trial, ...]
    updates: tuple[Update, ...] = ()

    @cached_property
    def finished(self) -> tuple[Trial, ...]:
        """The trials that will change no more, by id: the budget that is spent."""
        return tuple(trial for trial in self.trials if trial.finished)

    @cached_property
    def scored(self) -> tuple[Trial, ...]:
        """The trials that were evaluated to their end, without duplicates."""
        return tuple(trial for trial in self.trials if trial.scored)

    @cached_property
    def complete(self) -> tuple[Trial, ...]:
        """The trials with a score, duplicates included."""
        return tuple(trial for trial in self.trials if trial.state is TrialState.COMPLETE)

    @cached_property
    def recommendation(self) -> Recommendation:
        """The networks that the search would hand over."""
        return recommend(self.trials, self.space, find_objective(self.recipe))

    @cached_property
    def is_accuracy(self) -> bool:
        """Whether the networks were trained: a trial has a proxy accuracy, which is its reward or a part of it."""
        return bool(self.scored) and all(trial.score and trial.score.accuracy is not None for trial in self.scored)

    @property
    def reward_name(self) -> str:
        """The reward's name for readers."""
        return "proxy accuracy" if self.in_percent else "reward"

    @property
    def reward_label(self) -> str:
        """The reward's name on an axis."""
        if self.recipe.weighs_cost:
            return f"reward, {describe_reward(self.recipe)}"
        return "reward (proxy accuracy)" if self.is_accuracy else "reward"

    @property
    def in_percent(self) -> bool:
        """Whether the rewards are accuracies, with no cost weighed in."""
        return self.is_accuracy and not self.recipe.weighs_cost

    @property
    def accuracy_name(self) -> str:
        """The name of what stands against the cost of a network."""
        return "proxy accuracy" if self.is_accuracy else "reward"

    def format_accuracy(self, value: float) -> str:
        """An accuracy for readers; where nothing was trained, a reward."""
        return f"{value:.2%}" if self.is_accuracy else f"{value:.5g}"

    @property
    def uniform_entropy(self) -> float:
        """The entropy in nats of a genotype whose every decision is drawn uniformly."""
        return sum(math.log(size) for size in self.space.decision_sizes)

    def format_reward(self, value: float) -> str:
        """A reward for readers: in percent where it is an accuracy."""
        return f"{value:.2%}" if self.in_percent else f"{value:.5g}"

    def count(self, state: TrialState) -> int:
        """Trials in a state, without duplicates."""
        return sum(trial.state is state and trial.duplicate_of is None for trial in self.trials)


class RerankSummary(NamedTuple):
    """The trainings of a trial after the search, at their largest number of epochs; no deviation for one seed."""

    trial: Trial
    epochs: int
    mean: float
    deviation: float | None
    seeds: int


def read_search(path: Path) -> SearchData:
    """Read a search run, which may still be running; InputError or CorruptFileError where it is none or damaged."""
    record, recipe, space, trials = read_recorded(path)
    return SearchData(path, record, recipe, space, tuple(trials), _read_updates(path / "curves.json"))


def reward_of(trial: Trial) -> float:
    """The reward of a complete trial."""
    assert trial.score is not None
    return trial.score.reward


def trial_seconds(trial: Trial) -> float:
    """The time of a trial's own evaluation; 0 for a duplicate. That of a failed one is not known, but for rungs."""
    if trial.duplicate_of is not None:
        return 0.0
    return trial.score.seconds if trial.score else sum(rung.score.seconds for rung in trial.rungs)


def best_so_far(values: Sequence[float | None]) -> list[float]:
    """The running maximum; NaN before the first value."""
    rewards = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return [float(best) for best in np.fmax.accumulate(rewards)]


def summarize_reranks(data: SearchData) -> list[RerankSummary]:
    """The trials that were trained again after the search, best mean first."""
    found = []
    for trial in data.scored:
        if trial.reranks:
            epochs = max(rerank.epochs for rerank in trial.reranks)
            scores = [rerank.accuracy for rerank in trial.reranks if rerank.epochs == epochs]
            deviation = statistics.stdev(scores) if len(scores) > 1 else None
            found.append(RerankSummary(trial, epochs, statistics.fmean(scores), deviation, len(scores)))
    return sorted(found, key=lambda each: (-each.mean, each.trial.id))


def select_best(data: SearchData) -> list[Trial]:
    """The trials to draw: the best by their trainings after the search where there were any, else those recommended."""
    again = [each.trial for each in summarize_reranks(data)]
    return (again or list(data.recommendation.trials[: data.recipe.search.top]))[:_MAX_DRAWN]


def _read_updates(path: Path) -> tuple[Update, ...]:
    """The updates of `curves.json`, numbers only; none where the search has not written it yet."""
    if not path.is_file():
        return ()
    updates = read_record(path).get("updates", [])
    if not isinstance(updates, list) or not all(isinstance(update, dict) for update in updates):
        raise CorruptFileError(f"{path}: updates is not a list of objects", "Remove the file; only curves are lost")
    return tuple(
        {printable(str(key)): float(value) for key, value in each.items() if _is_number(value)} for each in updates
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
