"""Simulated searches: the same as real ones, and their figures right where they can be worked out by hand."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulate import (
    SimulatedRuns,
    compare,
    rank_correlation,
    recommend_at,
    regret_at,
    regret_at_seconds,
    simulate,
    trials_to_reach,
)

from nascli.config import CellSpaceConfig, SpaceConfig, to_toml
from nascli.errors import InputError, NascliError
from nascli.genotype.cells.space import CellSpace, resolve_cell_space
from nascli.search.evaluators.tabular import TabularBenchmark, TabularEvaluator, write_table
from nascli.search.recommend import recommend
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.strategy import Strategy
from nascli.search.trial import Trial
from nascli.seeding import derive_seed
from tests.fakes import ChainStrategy
from tests.search.trained_trials import RECIPE, trained

CONFIG = CellSpaceConfig(
    name="toy-2", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=2, inputs="distinct", cells="one"
)
SPACE = resolve_cell_space(CONFIG)


def make_table(folder: Path, space: SpaceConfig, **how: object) -> TabularBenchmark:
    recipe = to_toml(RECIPE.model_copy(update={"space": space}))
    trials = trained(resolve_cell_space(space), **how)  # type: ignore[arg-type]
    return write_table(folder / "table.h5", trials, recipe_toml=recipe)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TabularBenchmark:
    """Noisy, and with failures."""
    return make_table(tmp_path_factory.mktemp("noisy"), CONFIG, noise=0.2, failing=range(0, 300, 7))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> TabularBenchmark:
    return make_table(tmp_path_factory.mktemp("calm"), RECIPE.space, noise=0.0)


def searched(
    strategy: Strategy, table: TabularBenchmark, space: CellSpace, trials: int, seed: int
) -> list[list[float]]:
    """One search the slow way, through the evaluator: per trial its reward, the best cell's mean, cells so far."""
    evaluator = TabularEvaluator(table)
    rewards: dict[str, float] = {}
    scored: list[tuple[float, int, str]] = []
    waiting: list[tuple[tuple[int, ...], float]] = []
    rows = []
    for trial in range(trials):
        tokens = strategy.ask()
        assert tokens is not None
        genotype = space.decode(tokens)
        form = genotype.canonical_hash()
        if form not in rewards:
            try:
                rewards[form] = evaluator.evaluate(genotype, derive_seed(seed, "trial", trial)).reward
                scored.append((-rewards[form], trial, form))
            except Exception:
                rewards[form] = -1.0
        waiting.append((tokens, rewards[form]))
        if len(waiting) == strategy.batch_size:
            for each in waiting:
                strategy.tell(*each)
            waiting = []
        mean = table.mean_accuracy(min(scored)[2]) if scored else 0.0
        rows.append([rewards[form], mean, len(rewards)])
    return rows


def runs_of(regret: list[list[float]]) -> SimulatedRuns:
    accuracies = 0.9 - np.array(regret)
    ones = np.ones(accuracies.shape, dtype=np.int64)
    return SimulatedRuns(accuracies, accuracies, ones, optimum=0.9, rows=ones, observed=accuracies)


@pytest.mark.parametrize("batch", [1, 7])
def test_a_simulated_search_is_the_search_trial_by_trial(table: TabularBenchmark, batch: int) -> None:
    """Also for a strategy whose every proposal depends on all rewards before."""

    def make(seed: int) -> Strategy:
        return ChainStrategy(SPACE, seed, batch)

    seeds = [3, 5, 8]
    runs = simulate(make, table, SPACE, 60, seeds, failure_reward=-1.0)
    for run, seed in enumerate(seeds):
        rows = searched(make(seed), table, SPACE, 60, seed)
        simulated = np.stack([runs.rewards[run], runs.accuracies[run], runs.evaluations[run]], axis=1)
        assert simulated.tolist() == rows
    assert (runs.rewards == -1.0).any()
    assert (runs.evaluations[:, -1] < 60).all()  # some were repeats


def test_without_noise_regret_falls_to_zero_when_every_cell_was_seen(calm: TabularBenchmark) -> None:
    runs = simulate(lambda seed: RandomSearch(calm.space, seed), calm, calm.space, 200, range(10))
    assert (np.diff(runs.regret) <= 0).all()
    assert (runs.regret >= 0).all()
    assert (runs.regret[:, 0] > 0).any()
    assert (runs.evaluations[:, -1] == len(calm)).all()
    assert (runs.regret[:, -1] == 0).all()


def test_with_noise_the_cell_handed_over_is_judged_by_its_mean(table: TabularBenchmark) -> None:
    runs = simulate(lambda seed: RandomSearch(SPACE, seed), table, SPACE, 2000, range(10))
    assert (runs.regret >= 0).all()
    assert (runs.regret[:, -1] > 0).any()  # every cell was seen, and a lucky one was taken for the best
    assert (np.diff(runs.regret) > 0).any()


def test_a_search_with_nothing_left_to_propose_ends(calm: TabularBenchmark) -> None:
    runs = simulate(lambda _: ExhaustiveSearch(calm.space), calm, calm.space, 14, [0, 1])
    assert np.isnan(runs.rewards[:, 9:]).all()
    assert not np.isnan(runs.rewards[:, :9]).any()
    assert (runs.evaluations[0] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9]).all()
    assert (runs.regret[:, 8:] == 0).all()


def test_counting_evaluations_leaves_repeats_out(table: TabularBenchmark) -> None:
    class Stutter:
        """Proposes every sequence three times."""

        batch_size = 1
        diagnostics: Mapping[str, float] = {}

        def __init__(self, seed: int) -> None:
            self._inner, self._asked = RandomSearch(SPACE, seed), 0
            self._last = self._inner.ask()

        def ask(self) -> tuple[int, ...]:
            if self._asked and self._asked % 3 == 0:
                self._last = self._inner.ask()
            self._asked += 1
            return self._last

        def tell(self, tokens: tuple[int, ...], reward: float) -> None:
            pass

    runs = simulate(Stutter, table, SPACE, 90, range(4))
    trained_only = runs.by_evaluations()
    for row, (count, rewards) in enumerate(zip(runs.evaluations[:, -1], trained_only.rewards, strict=True)):
        firsts = [runs.rewards[row, list(runs.evaluations[row]).index(k)] for k in range(1, count + 1)]
        assert rewards[:count].tolist() == firsts
        assert np.isnan(rewards[count:]).all()
        assert trained_only.accuracies[row, count - 1] == runs.accuracies[row, -1]
    assert 10 < trained_only.rewards.shape[1] <= 30


def test_equal_seeds_give_equal_searches_and_others_do_not(table: TabularBenchmark) -> None:
    def rewards(seeds: list[int]) -> list[list[float]]:
        found: list[list[float]] = simulate(
            lambda seed: RandomSearch(SPACE, seed), table, SPACE, 30, seeds
        ).rewards.tolist()
        return found

    assert rewards([4, 5]) == rewards([4, 5])
    one, other = rewards([4, 5])
    assert one != other


def test_a_space_outside_the_table_is_refused(calm: TabularBenchmark) -> None:
    with pytest.raises(InputError, match="is not in the table"):
        simulate(lambda seed: RandomSearch(SPACE, seed), calm, SPACE, 50, [0])


def test_a_hundred_searches_take_seconds(table: TabularBenchmark) -> None:
    since = time.process_time()
    simulate(lambda seed: RandomSearch(SPACE, seed), table, SPACE, 250, range(100))
    assert time.process_time() - since < 10  # about one on an idle machine


def test_median_and_mean_with_their_intervals() -> None:
    runs = runs_of([[0.4, 0.1], [0.4, 0.2], [0.4, 0.6]] * 20)
    first, last = regret_at(runs, [1, 2])
    assert (first.trials, last.trials) == (1, 2)
    assert first.median.low == first.median.high == pytest.approx(0.4)
    assert last.median.value == pytest.approx(0.2)
    assert last.mean.value == pytest.approx(0.3)
    assert last.mean.low < 0.3 < last.mean.high
    spread = np.std([0.1, 0.2, 0.6]) / 60**0.5
    assert last.mean.high - last.mean.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert regret_at(runs, [2]) == [last]  # the resampling has its own seed


def test_regret_over_time_counts_each_training_once_and_as_long_as_it_took(table: TabularBenchmark) -> None:
    timed = replace(table, seconds=np.where(table.counts > 0, table.counts * 10, 7).astype(np.float32))
    rows = np.array([[0, 1, 1, 2]])
    runs = replace(runs_of([[0.4, 0.3, 0.3, 0.1]]), rows=rows, evaluations=np.array([[1, 2, 2, 3]]))
    each = timed.seconds[:3] / np.maximum(timed.counts[:3], 1)
    ends = each.cumsum()
    times = [0.0, float(ends[0]), float(ends[1]) - 0.1, float(ends[1]), float(ends[2]), 1e9]
    assert regret_at_seconds(runs, timed, times)[0] == pytest.approx([0.9, 0.4, 0.4, 0.3, 0.1, 0.1])


def test_recommended_is_what_a_search_would_hand_over(table: TabularBenchmark) -> None:
    runs = simulate(lambda seed: RandomSearch(SPACE, seed), table, SPACE, 60, range(2), failure_reward=-1.0)
    features = [SPACE.features(table.genotype(each)) for each in table.hashes]
    found = recommend_at(runs, table, [30, 60], features)
    assert found.shape == (2, 2)
    for run, seed in enumerate(range(2)):
        evaluator, strategy, trials = TabularEvaluator(table), RandomSearch(SPACE, seed), dict[str, Trial]()
        for number in range(60):
            genotype = SPACE.decode(tokens := strategy.ask())
            trial = Trial(id=number, tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=0)
            with suppress(NascliError):
                score = evaluator.evaluate(genotype, derive_seed(seed, "trial", number))
                trials.setdefault(trial.hash, trial.complete(score))
        best = recommend(list(trials.values()), SPACE).trials[0]
        assert found[run, 1] == pytest.approx(runs.optimum - table.mean_accuracy(best.hash))


def test_trials_to_reach_a_regret() -> None:
    runs = runs_of([[0.4, 0.2, 0.3], [0.4, 0.4, 0.0], [0.1, 0.1, 0.1]])
    assert trials_to_reach(runs, 0.25).tolist() == [2, 3, 1]
    assert trials_to_reach(runs, 0.05).tolist() == [np.inf, 3, np.inf]


def test_a_better_strategy_is_told_from_an_equal_one() -> None:
    draw = np.random.default_rng(0)
    one, twin, better = draw.uniform(0.2, 0.3, (50, 1)), draw.uniform(0.2, 0.3, (50, 1)), draw.uniform(0, 0.22, (50, 1))
    first, same, other = (runs_of(each.tolist()) for each in (one, twin, better))
    found = compare(other, first, 1)
    assert found.p_value < 1e-6
    assert found.better > 0.9
    assert compare(first, other, 1).better == pytest.approx(1 - found.better)
    assert compare(first, same, 1).p_value > 0.05
    assert compare(first, first, 1).better == pytest.approx(0.5)
    level = runs_of([[0.1]] * 5)
    assert compare(level, level, 1).p_value == 1


def test_rank_correlation_tells_agreement_from_noise(tmp_path: Path) -> None:
    calm = rank_correlation(make_table(tmp_path, RECIPE.space, noise=0.0))
    assert calm.spearman == pytest.approx(1)
    assert calm.kendall == pytest.approx(1)
    noisy = rank_correlation(make_table(tmp_path, RECIPE.space, noise=1.0, seeds=3, failing=[2]))
    assert -1 < noisy.kendall < 0.9
    assert -1 < noisy.spearman < 0.95
    assert np.isnan(rank_correlation(make_table(tmp_path, RECIPE.space, seeds=1)).spearman)


def test_cells_that_were_trained_more_often_are_answered_by_one_of_all_their_trainings(calm: TabularBenchmark) -> None:
    """As where rows of a CSV file are equal networks: a table that is as wide as the most of them, and not full."""
    longer = np.full((len(calm), 4), np.nan)
    longer[:, :2] = calm.accuracies[:, :1]
    longer[0, 2:] = calm.accuracies[0, 0] + 0.2
    table = replace(calm, accuracies=longer)
    assert table.counts.tolist() == [4, *[2] * (len(calm) - 1)]
    assert {table.draw_accuracy(0, seed) for seed in range(40)} == {longer[0, 0], longer[0, 2]}
    assert table.means[0] == pytest.approx(longer[0, 0] + 0.1)
    assert rank_correlation(table).spearman == pytest.approx(1)
