"""The plan of a search, and the callbacks that it reports to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nascli.genotype.space import SearchSpace
from nascli.search.objective import Objective
from nascli.search.trial import Trial

POLL = 0.2
"""Seconds between two looks at the stop request."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The numbers that decide which trials a search makes.

    Args:
        space: The space that the strategy's tokens count in.
        trials: Proposals in all, duplicates included; at least as many as the journal holds.
        seed: The run's seed; that of trial i follows from it and i.
        failure_reward: Told to the strategy for a trial that failed or was rejected.
        name: Begins the names of the genotypes.
        asynchronous: Tell each result when it comes.
        patience: Duplicates in a row after which the search ends; 0 is off.
        rungs: Epochs of the short trainings before the full one, rising.
        epochs: Those of the full training.
        promote_fraction: Share of the children of a rung that is promoted to the next.
        inherit_weights: Whether a child starts from the weights of the one most like it.
        objective: Makes the reward of an accuracy and a cost; without one the evaluator's reward stays.
        cost: The quantity that stands against the accuracy, for a strategy that is told both.
    """

    space: SearchSpace
    trials: int
    seed: int
    failure_reward: float
    name: str = "search"
    asynchronous: bool = False
    patience: int = 0
    rungs: tuple[int, ...] = ()
    epochs: int = 1
    promote_fraction: float = 1 / 3
    inherit_weights: bool = False
    objective: Objective | None = None
    cost: str = "mult_adds"


class Observer(Protocol):
    """Callbacks of a search: a live view, a log."""

    def on_start(self, trials: Sequence[Trial]) -> None:
        """Called first, with the trials that the journal holds already."""
        ...

    def on_trial(self, trial: Trial) -> None:
        """Called when a trial was proposed, advanced or finished, and the journal has it."""
        ...

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        """Called when the strategy was told rewards (replayed ones too): trials told in all, and its diagnostics."""
        ...

    def on_message(self, text: str) -> None:
        """Called with a message for the user."""
        ...
