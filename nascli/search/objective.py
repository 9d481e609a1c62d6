"""The objective of a search: accuracy alone, or accuracy weighed by a cost."""

from dataclasses import dataclass, replace

from nascli.config import SearchRecipe, find_evaluator
from nascli.errors import InputError
from nascli.search.front import cost_of
from nascli.search.trial import Score, Trial
from nascli.units import EXAMPLES, UNITS, format_exactly, parse_amount


@dataclass(frozen=True)
class Objective:
    """The reward of a network of some accuracy and cost.

        accuracy (cost / target)^w,   w = below where cost <= target, else above

    A product is never negative, and scales with both: twice the cost is worth the same share of any accuracy.

    Args:
        quantity: The cost: `latency` in seconds, `mult_adds` or `params`.
        target: In the same units.
        below, above: The exponents. Where they are equal the target scales all rewards alike and ranks nothing.

    References: Tan et al. 2019, "MnasNet", section 3, equation 2.
    """

    quantity: str
    target: float
    below: float
    above: float

    def reward(self, accuracy: float, cost: float) -> float:
        """The reward, at least 0."""
        weight: float = (cost / self.target) ** (self.below if cost <= self.target else self.above)
        return accuracy * weight

    def weigh(self, score: Score) -> Score:
        """The score with the reward for its accuracy and cost; ValueError where it has none of them."""
        cost = cost_of(score, self.quantity)
        if score.accuracy is None or cost is None:
            raise ValueError(f"a score without accuracy or {self.quantity} cannot be weighed")
        return replace(score, reward=self.reward(score.accuracy, cost))

    def __str__(self) -> str:
        ratio = f"({self.quantity} / {format_exactly(self.target, UNITS[self.quantity])})"
        if self.below == self.above:
            return f"{ratio}^{self.below:g}"
        return f"{ratio}^{self.below:g} up to the target and ^{self.above:g} beyond"


_LEAST, _MOST = 1e-9, 1e18
"""Targets, in plain units, of which no power of a cost is too large to compute."""


def find_objective(recipe: SearchRecipe) -> Objective | None:
    """The objective of a recipe; None where the accuracy alone is the reward.

    Raises:
        InputError: The target is not a positive amount of its quantity.
    """
    section = recipe.objective
    if section.quantity is None or section.target is None:
        return None
    place = f"objective.target = {section.target!r}"
    target = parse_amount(section.quantity, section.target, place)
    if not _LEAST <= target <= _MOST:
        raise InputError(f"{place}: no network costs that", f"For example {EXAMPLES[section.quantity]}")
    return Objective(section.quantity, target, section.below, section.above)


def describe_reward(recipe: SearchRecipe) -> str:
    """The rewards of a search in words."""
    evaluator, objective = recipe.search.evaluator, find_objective(recipe)
    info = find_evaluator(evaluator)
    if not info.is_accuracy:
        return f"{evaluator}, {info.meaning}"
    return f"{info.meaning} × {objective}" if objective else info.meaning


def weigh_accuracy(trial: Trial, accuracy: float, objective: Objective | None) -> float:
    """The worth of an accuracy of a trial's network: weighed by its cost if there is an objective."""
    if objective is None or trial.score is None:
        return accuracy
    return objective.weigh(replace(trial.score, accuracy=accuracy)).reward
