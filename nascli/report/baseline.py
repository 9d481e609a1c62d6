"""The random baseline of a search: its reward at the same budget, and whether two searches can be compared at all.

One random search is one ordering of its trials, and its single path is mostly luck. But all orderings of its N finished
trials are equally likely, so that the best of n random trials is known in closed form: with the trials ranked by reward
(those without a result lowest), the best of n drawn without replacement has rank k with probability

    C(k - 1, n - 1) / C(N, n)

Deviation: none of the usual tools draws it so; they show one path, or the mean of several runs.

References: Dodge et al. 2019, "Show Your Work", section 3.1, has the same idea drawn with replacement; without
replacement no trial is counted twice, at the price that nothing is left to chance at n = N.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nascli.config import SearchRecipe, Section
from nascli.errors import InputError, NascliError
from nascli.report.search_data import SearchData, best_so_far, read_search, reward_of
from nascli.runs.find import read_run
from nascli.text import quote_command

LOW, HIGH = 0.1, 0.9
"""The band holds the best of n in eight of ten orderings."""

_MAX_BUDGETS = 200  # at which the curve is computed
_ROUNDING = 1e-12  # of sums of chances
_SECTIONS = ("data", "space", "network", "train", "halving", "supernet", "latency", "objective")
_SEARCH_KEYS = ("evaluator", "num_seeds", "constraints", "holdout")
_IRRELEVANT = frozenset(
    {"data.data_dir", "data.workers", "train.threads", "train.checkpoint_minutes", "train.checkpoint_steps"}
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BestOfN:
    """The best of n random trials over all orderings, given that one of the n has a result.

    Args:
        budgets: The n, rising. (M,)
        mean: The expected best. (M,)
        low: Its quantile `LOW`. (M,)
        high: Its quantile `HIGH`. (M,)
        trials: N, the finished trials of the random search.
        seconds: Mean child-seconds per trial.
    """

    budgets: Floats
    mean: Floats
    low: Floats
    high: Floats
    trials: int
    seconds: float

    def at(self, budget: int) -> tuple[float, float, float]:
        """Low, mean and high after `budget` trials."""
        low, mean, high = (float(np.interp(budget, self.budgets, each)) for each in (self.low, self.mean, self.high))
        return low, mean, high


def best_of_n(rewards: Sequence[float], without_result: int = 0, seconds: float = 0.0) -> BestOfN:
    """The best of n of these trials, for n from 1 to all of them.

    Args:
        rewards: Rewards of the trials with a result; not empty.
        without_result: Number of finished trials without one.
        seconds: Mean child-seconds per trial.
    """
    total = len(rewards) + without_result
    budgets = np.unique(np.geomspace(1, total, _MAX_BUDGETS).round().astype(np.int64))
    ordered = np.sort(np.asarray(rewards, dtype=np.float64))
    factorials = log_factorials(total)
    low, mean, high = np.transpose([best_of_orderings(ordered, int(n), factorials) for n in budgets])
    return BestOfN(budgets.astype(np.float64), mean, low, high, total, seconds)


def log_factorials(total: int) -> Floats:
    """The logarithms of 0! to `total`!. (total + 1,)"""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])


def best_of_orderings(ordered: Floats, n: int, factorials: Floats) -> tuple[float, float, float]:
    """Quantile `LOW`, mean and quantile `HIGH` of the best of n trials, over the orderings in which one has a result.

    Args:
        ordered: The results, rising; the other trials, up to all that `factorials` are for, have none.
    """
    total = len(factorials) - 1
    ranks = np.arange(total - len(ordered) + 1, total + 1)
    chances = np.zeros(len(ranks))
    possible = ranks >= n
    k = ranks[possible]
    logarithms = factorials[k - 1] - factorials[k - n]  # C(k - 1, n - 1), but for a factor that depends on n alone
    chances[possible] = np.exp(logarithms - logarithms.max())
    chances /= chances.sum()
    below = np.cumsum(chances)
    low, high = (float(ordered[min(int(np.sum(below < q - _ROUNDING)), len(ordered) - 1)]) for q in (LOW, HIGH))
    return low, float(chances @ ordered), high


def random_curve(data: SearchData) -> BestOfN:
    """The best of n of a random search that has at least one result."""
    spent = data.finished
    seconds = sum(trial.score.seconds for trial in data.scored if trial.score)
    rewards = [reward_of(trial) for trial in data.complete]
    return best_of_n(rewards, len(spent) - len(rewards), seconds / len(spent))


def chance_to_reach(data: SearchData, reward: float, budget: int) -> float:
    """The share of all orderings of a random search in which its first `budget` trials reach a reward."""
    trials = len(data.finished)
    lower = trials - sum(reward_of(trial) >= reward for trial in data.complete)
    return 1 - math.comb(lower, budget) / math.comb(trials, budget)


def choose_baseline(data: SearchData, given: Path | None) -> SearchData | None:
    """The random search that a search is compared with; None where there is none.

    Args:
        data: The search.
        given: The baseline that the user names; by default a random search is its own, and any other has the newest
            comparable random search beside its folder.

    Raises:
        InputError: The baseline given is no random search, has no result, or was scored on something else.
    """
    if given is None:
        return data if data.recipe.search.strategy == "random" and data.complete else _newest_beside(data)
    baseline = read_search(given)
    hint = f"A baseline is made by: {baseline_command(data)}"
    if baseline.recipe.search.strategy != "random":
        raise InputError(f"{given} is a search by {baseline.recipe.search.strategy}, not by random", hint)
    if key := find_difference(data.recipe, baseline.recipe):
        values = (value_at(recipe, key) for recipe in (data.recipe, baseline.recipe))
        here, there = ("not set" if value is None else repr(value) for value in values)
        raise InputError(f"{given} cannot be the baseline of {data.path}: {key} is {there} there and {here} here", hint)
    if not baseline.complete:
        raise InputError(f"{given} has no finished trial", "Wait for it, or resume it")
    return baseline


def find_difference(first: SearchRecipe, second: SearchRecipe) -> str | None:
    """The first key that gives one genotype different rewards under two recipes; None where they are comparable.

    Strategy, seed, and the number of trials and workers may differ; data, space, network, training and scoring may not.
    """
    return next((key for key in _keys_to_compare(first) if value_at(first, key) != value_at(second, key)), None)


def baseline_command(data: SearchData) -> str:
    """The command that makes the baseline of a search."""
    words: list[object] = ["nascli", "search", "--recipe", data.path / "recipe.toml", "--strategy", "random"]
    words += ["--set", "search.warm_start_trials=0"] if data.recipe.search.warm_start_trials else []
    words += ["--set", "rerank.top=0"] if data.recipe.rerank.top else []
    return quote_command(words)


def compare_with_random(data: SearchData, random: SearchData | None) -> str:
    """The search beside random search with as many trials, in a few sentences."""
    if random is None:
        return "There is no random search to compare with, so nothing here shows that the strategy did anything."
    if random.path == data.path:
        return "This is a random search: it is the baseline of others, and has none itself."
    if not data.complete:
        return "No trial has a result yet."
    curve = random_curve(random)
    budget = min(len(data.finished), curve.trials)
    best = best_so_far([trial.score.reward if trial.score else None for trial in data.finished[:budget]])[-1]
    low, mean, high = curve.at(budget)
    place = "above" if best > high else "below" if best < low else "inside"
    reached = sum(reward_of(trial) >= best for trial in random.complete)
    text = (
        f"After {budget} trials each: {data.recipe.search.strategy} {data.format_reward(best)}, random search "
        f"{data.format_reward(mean)} on average ({data.format_reward(low)} to {data.format_reward(high)}), so the "
        f"search lies {place} the band. {reached} of the {curve.trials} random trials reach the reward of the search."
    )
    if 2 * budget > curve.trials:
        return (
            f"{text} That is hardly more than one random search of this length: a random search of {2 * budget:,} "
            "trials or more would say how often luck alone reaches as far."
        )
    return f"{text} In {chance_to_reach(random, best, budget):.2%} of its orderings {budget} trials reach as far."


def value_at(recipe: Section, key: str) -> object:
    """The value of a dotted key; None where the recipe's family has no such key."""
    value: object = recipe
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _keys_to_compare(recipe: SearchRecipe) -> Iterator[str]:
    for section in _SECTIONS:
        if section == "supernet" and recipe.search.evaluator != "one_shot":
            continue
        for name in type(getattr(recipe, section)).model_fields:
            if f"{section}.{name}" not in _IRRELEVANT:
                yield f"{section}.{name}"
    yield from (f"search.{name}" for name in _SEARCH_KEYS)


def _newest_beside(data: SearchData) -> SearchData | None:
    """The newest comparable random search with a result; unreadable folders are skipped."""
    found: list[tuple[str, str, SearchData]] = []
    for folder in sorted(data.path.resolve().parent.iterdir()):
        if folder.is_symlink() or folder == data.path.resolve() or not (folder / "run.json").is_file():
            continue
        try:
            other = read_search(folder) if _is_random(folder) else None
        except NascliError:
            continue
        if other and other.complete and find_difference(data.recipe, other.recipe) is None:
            found.append((str(other.record.get("started", "")), folder.name, other))
    return max(found, key=lambda each: each[:2])[2] if found else None


def _is_random(folder: Path) -> bool:
    return bool(read_run(folder, "search")["recipe"].get("search", {}).get("strategy") == "random")
