"""The recommended network: what all results speak for, whatever their order."""

import random
from dataclasses import replace

import pytest

from nascli.genotype.cells.space import CellSpace
from nascli.search.recommend import recommend, sort_expected
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Rerank, Score, Trial

SPACE = CellSpace(
    name="three-ops",
    ops=("identity", "conv_3x3", "max_pool_3x3"),
    blocks=3,
    inputs="distinct",
    cells="one",
    combines=("add",),
)


def worth(trial: Trial) -> float:
    """The share of convolutions: what a training would bring without luck."""
    ops = [op for block in SPACE.decode(trial.tokens).normal.blocks for op in block.ops]
    return sum(op == "conv_3x3" for op in ops) / len(ops)


def trained(count: int, noise: float, seed: int = 0, *, accuracy: bool = True) -> list[Trial]:
    """Random trials without duplicates, each with its worth and some luck as reward."""
    strategy, draw, trials = RandomSearch(SPACE, seed), random.Random(seed), dict[str, Trial]()
    while len(trials) < count:
        tokens = strategy.ask()
        genotype = SPACE.decode(tokens)
        trial = Trial(id=len(trials), tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=0)
        reward = 0.5 + worth(trial) / 4 + draw.gauss(0, noise)
        score = Score(reward=reward, accuracy=reward if accuracy else None, params=1, mult_adds=1, seconds=1.0)
        trials.setdefault(trial.hash, trial.complete(score))
    return list(trials.values())


def repeat(trials: list[Trial], noise: float, seed: int) -> list[Trial]:
    """The same trials as the means of two trainings each, which were more or less lucky."""
    draw, repeated = random.Random(seed), []
    for trial in trials:
        assert trial.score is not None
        accuracies = tuple(trial.score.reward + draw.gauss(0, noise) for _ in range(2))
        mean = sum(accuracies) / 2
        score = replace(trial.score, reward=mean, accuracy=mean, accuracies=accuracies)
        repeated.append(replace(trial, score=score, reward=mean))
    return repeated


def forget_trainings(trial: Trial) -> Trial:
    """The same with the mean of its trainings alone."""
    assert trial.score is not None
    return replace(trial, score=replace(trial.score, accuracies=()))


def by_luck(trials: list[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.sort_key)


def test_the_recommended_network_is_better_than_the_luckiest() -> None:
    searches = [trained(60, 0.1, seed) for seed in range(10)]
    recommended = sum(worth(recommend(trials, SPACE).trials[0]) for trials in searches)
    assert recommended > sum(worth(by_luck(trials)) for trials in searches)


def test_trainings_of_one_network_tell_how_much_is_luck() -> None:
    searches = [repeat(trained(60, 0.0, seed), 0.1, seed) for seed in range(10)]
    apart = sum(worth(recommend(trials, SPACE).trials[0]) for trials in searches)
    as_one = [[forget_trainings(trial) for trial in trials] for trials in searches]
    assert apart > sum(worth(recommend(trials, SPACE).trials[0]) for trials in as_one)


def test_without_luck_the_best_reward_is_recommended() -> None:
    trials = trained(60, 0.0)
    assert worth(recommend(trials, SPACE).trials[0]) == max(map(worth, trials))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_trials_does_not_matter(seed: int) -> None:
    trials = [replace(trial, reward=round(trial.reward or 0.0, 1)) for trial in trained(40, 0.1)]  # many ties
    shuffled = random.Random(seed).sample(trials, len(trials))
    shuffled = [replace(trial, id=place) for place, trial in enumerate(shuffled)]
    found, again = recommend(trials, SPACE), recommend(shuffled, SPACE)
    assert [trial.hash for trial in found.trials] == [trial.hash for trial in again.trials]


def test_trainings_after_the_search_decide() -> None:
    trials = trained(20, 0.1)
    last = recommend(trials, SPACE).trials[-1]
    again = last.add_rerank(Rerank(index=0, epochs=5, accuracy=0.1, seconds=1.0))
    found = recommend([again if trial.id == last.id else trial for trial in trials], SPACE)
    assert found.trials[0].id == last.id


def test_few_trainings_and_scores_without_training_stand_for_themselves() -> None:
    for trials in (trained(9, 0.1), trained(30, 0.1, accuracy=False)):
        found = recommend(trials, SPACE)
        assert not found.expected
        assert list(found.trials) == sorted(trials, key=lambda trial: trial.sort_key)


def test_what_was_stopped_on_a_rung_comes_last_and_teaches_nothing() -> None:
    trials = trained(30, 0.1)
    stopped = [replace(trial, stopped=trial.id % 3 == 0) for trial in trials]
    found = recommend(stopped, SPACE)
    assert {trial.id for trial in stopped if not trial.stopped} == set(found.expected)
    assert [trial.stopped for trial in found.trials] == sorted(trial.stopped for trial in stopped)
    assert sort_expected(stopped, found.expected) == found.trials
