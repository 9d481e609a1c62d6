"""Many searches on a table, in this process and without files: how soon a strategy finds how good a cell.

A simulated search is what `SearchLoop` would do with a `TabularEvaluator` and the same seed, trial by trial: batches
are asked and told whole; a cell that comes again gets the reward that it got before; a failed one gets the failure
reward. Which training answers is drawn from the trial's seed, so rewards are noisy; what counts is the *mean* accuracy
of the cell that the search would hand over, the one with the highest reward so far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nascli.genotype.space import SearchSpace
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.front import Point
from nascli.search.gaussian_process import Features
from nascli.search.recommend import expect
from nascli.search.strategies.strategy import Strategy, Tokens, tell_result
from nascli.seeding import derive_seed

Floats = npt.NDArray[np.float64]

_RESAMPLES = 2000


@dataclass(frozen=True)
class RankCorrelation:
    """The agreement of two trainings of one cell on the order of the cells; means over pairs of seeds.

    NaN where there is one seed, or fewer than two different accuracies.
    """

    spearman: float
    kendall: float


@dataclass(frozen=True, eq=False)
class SimulatedRuns:
    """R searches with different seeds, T trials each.

    A strategy with nothing left to propose ends its search: the rest of its row repeats the last value.

    Args:
        rewards: What the strategy was told for each trial, (R, T); NaN after the end of a search.
        accuracies: Mean accuracy of the cell that would be handed over after each trial, (R, T); 0 before there is one.
        evaluations: Distinct cells proposed so far, the trainings that a real search would have paid for, (R, T).
        optimum: The highest mean accuracy in the table.
        rows: The row of the table that each trial is, (R, T); -1 after the end of a search.
        observed: The accuracy that answered each trial, (R, T); NaN for a cell that failed, and after the end.
    """

    rewards: Floats
    accuracies: Floats
    evaluations: npt.NDArray[np.int64]
    optimum: float
    rows: npt.NDArray[np.int64]
    observed: Floats

    @property
    def regret(self) -> Floats:
        """By how much the cell handed over is worse than the table's best, in accuracy, (R, T); at least 0.

        With noisy rewards it can rise: a worse cell that was lucky takes the place of a better one.
        """
        return self.optimum - self.accuracies

    def by_evaluations(self) -> "SimulatedRuns":
        """The same searches with a column for each distinct cell instead of each trial: duplicates cost nothing.

        As wide as the search with the most distinct cells; the others repeat their last value.
        """
        counts = np.arange(1, self.evaluations.max() + 1)
        last = self.evaluations[:, -1:]
        columns = np.stack([np.searchsorted(row, np.minimum(counts, row[-1])) for row in self.evaluations])
        rewards = np.take_along_axis(self.rewards, columns, axis=1)
        return replace(
            self,
            rewards=np.where(counts <= last, rewards, np.nan),
            accuracies=np.take_along_axis(self.accuracies, columns, axis=1),
            rows=np.take_along_axis(self.rows, columns, axis=1),
            observed=np.take_along_axis(self.observed, columns, axis=1),
            evaluations=np.minimum(counts, last),
        )


def simulate(
    make_strategy: Callable[[int], Strategy],
    table: TabularBenchmark,
    space: SearchSpace,
    trials: int,
    seeds: Sequence[int],
    *,
    failure_reward: float = 0.0,
    costs: Floats | None = None,
    weigh: Callable[[Point], float] = lambda point: point.accuracy,
    rows: "Rows | None" = None,
) -> SimulatedRuns:
    """Run one search for each seed.

    Args:
        make_strategy: A new strategy from the run's seed.
        table: Answers every trial.
        space: What the strategy's tokens count in; the table's own, or one inside it.
        trials: Proposals a search, duplicates included.
        seeds: The runs' seeds.
        failure_reward: Reward of a cell that failed.
        costs: The cost of each row, (N,); default: its mult-adds.
        weigh: The reward of an accuracy and a cost.
        rows: Those of the same table and space, known from searches before.

    Raises:
        InputError: A proposed cell is not in the table.
    """
    rows = rows or Rows(table, space)
    answers = _Answers(table, table.mult_adds if costs is None else costs, weigh, failure_reward)
    runs = [_Run(answers, rows, trials, seed).play(make_strategy(seed)) for seed in seeds]
    return SimulatedRuns(
        rewards=np.stack([run.rewards for run in runs]),
        accuracies=np.stack([run.accuracies for run in runs]),
        evaluations=np.stack([run.evaluations for run in runs]),
        optimum=table.mean_accuracy(table.best),
        rows=np.stack([run.rows for run in runs]),
        observed=np.stack([run.observed for run in runs]),
    )


class Rows:
    """Decision sequence -> row of the table; decoding and hashing, which is slow, is done once for a sequence."""

    def __init__(self, table: TabularBenchmark, space: SearchSpace) -> None:
        self._table, self._space = table, space
        self._known: dict[tuple[int, ...], int] = {}

    def __getitem__(self, tokens: tuple[int, ...]) -> int:
        if tokens not in self._known:
            self._known[tokens] = self._table.row(self._space.decode(tokens).canonical_hash())
        return self._known[tokens]


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers of a table to trials: the fields are arguments of `simulate`."""

    table: TabularBenchmark
    costs: npt.NDArray[Any]
    weigh: Callable[[Point], float]
    failure_reward: float

    def evaluate(self, row: int, seed: int) -> tuple[Point | None, float]:
        """Accuracy and cost of a row, drawn by the seed of a trial, and the reward; no point for a failed cell."""
        accuracy = self.table.draw_accuracy(row, seed)
        if np.isnan(accuracy):
            return None, self.failure_reward
        point = Point(accuracy, float(self.costs[row]))
        return point, self.weigh(point)


class _Run:
    """One search; its arrays are those of `SimulatedRuns`, (T,) each."""

    def __init__(self, answers: _Answers, rows: Rows, trials: int, seed: int) -> None:
        self._answers, self._rows, self._seed = answers, rows, seed
        self._known: dict[int, tuple[Point | None, float]] = {}  # of the cells proposed so far, by row of the table
        self._best, self._accuracy = float("-inf"), 0.0
        self.rewards, self.observed = np.full(trials, np.nan), np.full(trials, np.nan)
        self.accuracies = np.zeros(trials)
        self.evaluations = np.zeros(trials, dtype=np.int64)
        self.rows = np.full(trials, -1)

    def play(self, strategy: Strategy) -> "_Run":
        batch: list[tuple[Tokens, float, Point | None]] = []
        size, trials = strategy.batch_size, len(self.rewards)
        for trial in range(trials):
            tokens = strategy.ask()
            if tokens is None:
                self.accuracies[trial:] = self._accuracy
                self.evaluations[trial:] = len(self._known)
                break
            point, reward = self._try(trial, self._rows[tokens])
            batch.append((tokens, reward, point))
            if len(batch) == size:
                for told in batch:
                    tell_result(strategy, *told)
                batch.clear()
                size = strategy.batch_size
        return self

    def _try(self, trial: int, row: int) -> tuple[Point | None, float]:
        """Note what comes of a trial; its accuracy and cost, and its reward."""
        if row not in self._known:
            self._known[row] = self._answers.evaluate(row, derive_seed(self._seed, "trial", trial))
            point, reward = self._known[row]
            if point is not None and reward > self._best:  # of equals the earlier one is handed over
                self._best, self._accuracy = reward, float(self._answers.table.means[row])
        point, reward = self._known[row]
        self.rows[trial], self.rewards[trial] = row, reward
        self.observed[trial] = np.nan if point is None else point.accuracy
        self.accuracies[trial] = self._accuracy
        self.evaluations[trial] = len(self._known)
        return point, reward


@dataclass(frozen=True)
class ConfidenceInterval:
    """A figure over the seeds, and the interval that holds it with 95 % confidence (percentile bootstrap)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RegretAt:
    """Regret after so many trials, over the searches."""

    trials: int
    median: ConfidenceInterval
    mean: ConfidenceInterval


@dataclass(frozen=True)
class StrategyComparison:
    """Two strategies after so many trials.

    Args:
        trials: After how many.
        p_value: Two-sided Mann-Whitney U test of equal regrets; not corrected for testing more than one pair.
        better: Probability that a search of the first has less regret than one of the second; ties count half.
    """

    trials: int
    p_value: float
    better: float


def regret_at(runs: SimulatedRuns, counts: Sequence[int], seed: int = 0) -> list[RegretAt]:
    """Median and mean regret after each of these numbers of trials, with bootstrap intervals over the searches.

    Args:
        runs: The searches; `runs.by_evaluations()` to count distinct cells instead of trials.
        counts: Numbers of trials, from 1.
        seed: Seed of the resampling.
    """
    found = []
    for count in counts:
        column = runs.regret[:, count - 1]
        draw = np.random.default_rng(derive_seed(seed, "bootstrap", count))
        resampled = column[draw.integers(len(column), size=(_RESAMPLES, len(column)))]
        found.append(
            RegretAt(
                trials=count,
                median=_interval(float(np.median(column)), np.median(resampled, axis=1)),
                mean=_interval(float(column.mean()), resampled.mean(axis=1)),
            )
        )
    return found


def regret_at_seconds(runs: SimulatedRuns, table: TabularBenchmark, seconds: Sequence[float]) -> Floats:
    """Regret after so much time in trainings, each as long as the table says, (R, times).

    Duplicates take no time. Before the first training ends the regret is that of no network at all, the optimum; after
    the last one the search keeps what it has, though it had time left.
    """
    new = np.diff(runs.evaluations, axis=1, prepend=0)
    each = np.where(new > 0, (table.seconds / np.maximum(table.counts, 1))[runs.rows], 0.0)
    regret = np.column_stack([np.full(len(each), runs.optimum), runs.regret])
    ended = [np.searchsorted(row, seconds, side="right") for row in each.cumsum(axis=1)]
    return np.take_along_axis(regret, np.stack(ended), axis=1)


def recommend_at(
    runs: SimulatedRuns, table: TabularBenchmark, counts: Sequence[int], features: Sequence[Features]
) -> Floats:
    """Regret of the network that `nascli search` would recommend after each of these numbers of trials, (R, counts).

    Args:
        features: Of each row of the table.
    """
    chosen = [
        [_recommend(rows[:count], accuracies[:count], table, features) for count in counts]
        for rows, accuracies in zip(runs.rows, runs.observed, strict=True)
    ]
    regret: Floats = runs.optimum - table.means[np.array(chosen)]
    return regret


def _recommend(
    rows: npt.NDArray[np.int64], accuracies: Floats, table: TabularBenchmark, features: Sequence[Features]
) -> int:
    """The row with the highest expected accuracy."""
    known = ~np.isnan(accuracies)
    told = dict(zip(rows[known].tolist(), accuracies[known].tolist(), strict=True))
    ranked = sorted(told, key=lambda row: (-told[row], table.hashes[row]))
    expected = expect([features[row] for row in ranked], [(told[row],) for row in ranked])
    return int(ranked[int(np.argmax(expected))])  # of equals the first has the highest accuracy


def trials_to_reach(runs: SimulatedRuns, regret: float) -> Floats:
    """After how many trials each search first has this regret or less, (R,); infinity where it never does.

    Infinity is no number to average: take the median.
    """
    reached = runs.regret <= regret
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)


def rank_correlation(table: TabularBenchmark) -> RankCorrelation:
    """Spearman's rho and Kendall's tau-b between the trainings of a table, over the cells that did not fail.

    It bounds what a search by single trainings can know: where seeds disagree, so do the best cells. Of cells that were
    trained more often than others the further trainings do not count.
    """
    counts = table.counts[table.counts > 0]
    known = table.accuracies[table.counts > 0][:, : counts.min(initial=table.trainings)]
    varied = len(known) > 1 and bool(np.all(np.ptp(known, axis=0) > 0))
    pairs = [(known[:, i], known[:, j]) for i in range(known.shape[1]) for j in range(i)] if varied else []
    if not pairs:
        return RankCorrelation(float("nan"), float("nan"))
    from scipy import stats  # slow to import

    return RankCorrelation(
        spearman=float(np.mean([stats.spearmanr(*pair).statistic for pair in pairs])),
        kendall=float(np.mean([stats.kendalltau(*pair).statistic for pair in pairs])),
    )


def compare(first: SimulatedRuns, second: SimulatedRuns, trials: int) -> StrategyComparison:
    """Whether the regrets of two strategies after so many trials differ by more than chance."""
    from scipy import stats  # slow to import

    one, other = first.regret[:, trials - 1], second.regret[:, trials - 1]
    if np.all(np.concatenate([one, other]) == one[0]):  # the test has no answer where all are equal
        return StrategyComparison(trials, p_value=1.0, better=0.5)
    result = stats.mannwhitneyu(one, other, alternative="two-sided")
    return StrategyComparison(
        trials, float(result.pvalue), better=1 - float(result.statistic) / (len(one) * len(other))
    )


def _interval(value: float, resampled: Floats) -> ConfidenceInterval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return ConfidenceInterval(value, float(low), float(high))
