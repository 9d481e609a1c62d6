"""Regularized evolution: random first, then one mutation of the best of a sample; the oldest dies."""

from itertools import count, pairwise

import pytest

from nascli.config import EvolutionConfig
from nascli.genotype.cells.space import NASNET, CellSpace
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.strategy import Tokens
from tests.fakes import TINY

ONE_CELL = CellSpace(
    name="one-cell", ops=("sep_conv_3x3", "max_pool_3x3"), blocks=3, inputs="distinct", cells="one", combines=("add",)
)


def changes(child: Tokens, parent: Tokens) -> list[int]:
    return [place for place, (new, old) in enumerate(zip(child, parent, strict=True)) if new != old]


def grow(space: CellSpace, population: int = 5, sample: int = 60) -> tuple[Evolution, list[Tokens]]:
    """An evolution whose first ones were told 0, 1, 2, ...: the last is the best, and a sample so large has it."""
    strategy = Evolution(space, EvolutionConfig(population=population, sample=sample), seed=0)
    first = [strategy.ask() for _ in range(population)]
    for reward, tokens in enumerate(first):
        strategy.tell(tokens, float(reward))
    return strategy, first


@pytest.mark.parametrize("space", [NASNET, TINY, ONE_CELL], ids=lambda space: space.name)
def test_a_child_differs_from_the_best_in_one_token_of_the_space(space: CellSpace) -> None:
    strategy, first = grow(space)
    for _ in range(200):
        child = strategy.ask()
        assert len(changes(child, first[-1])) == 1
        space.decode(child)


def test_states_ops_and_combinations_mutate_equally_often_in_every_block_and_cell() -> None:
    strategy, first = grow(NASNET)
    places = [changes(strategy.ask(), first[-1])[0] for _ in range(3000)]
    for kind in ((0, 1), (2, 3), (4,)):
        assert 880 < sum(place % 5 in kind for place in places) < 1120  # 1000 expected, 4.6 standard deviations
    assert set(places) == set(range(50))


def test_decisions_without_a_choice_do_not_mutate() -> None:
    strategy, first = grow(ONE_CELL)
    places = [changes(strategy.ask(), first[-1])[0] for _ in range(400)]
    assert set(places) == {place for place, size in enumerate(ONE_CELL.decision_sizes) if size > 1}
    assert 150 < sum(place % 5 < 2 for place in places) < 250  # states as often as ops


def test_the_best_dies_when_it_is_the_oldest() -> None:
    strategy, _ = grow(NASNET, population=3)
    assert strategy.diagnostics == {"population": 3, "best_living": 2, "mean_living": 1}
    for _ in range(2):
        strategy.tell(strategy.ask(), 0.5)
    assert strategy.diagnostics["best_living"] == 2
    youngest = strategy.ask()
    strategy.tell(youngest, 0.6)  # the third of the first ones, the best ever, is the oldest now
    assert strategy.diagnostics["best_living"] == 0.6
    assert len(changes(strategy.ask(), youngest)) == 1


def test_of_equals_none_is_preferred() -> None:
    strategy = Evolution(NASNET, EvolutionConfig(population=3, sample=2), seed=0)
    first = [strategy.ask() for _ in range(3)]
    for tokens in first:
        strategy.tell(tokens, 0.5)
    parents = [next(i for i in count() if len(changes(child, first[i])) == 1) for child in map(ask, [strategy] * 90)]
    assert all(15 < parents.count(i) < 45 for i in range(3))


def ask(strategy: Evolution) -> Tokens:
    return strategy.ask()


def test_asked_before_anything_is_told_it_stays_random_and_then_uses_what_there_is() -> None:
    strategy = Evolution(NASNET, EvolutionConfig(population=2, sample=2), seed=0)
    ahead = [strategy.ask() for _ in range(5)]
    assert all(len(changes(a, b)) > 1 for a, b in pairwise(ahead))
    strategy.tell(ahead[3], 0.1)
    assert len(changes(strategy.ask(), ahead[3])) == 1


def test_it_climbs_a_toy_objective() -> None:
    strategy = Evolution(NASNET, EvolutionConfig(), seed=0)
    rewards = []
    for _ in range(400):
        tokens = strategy.ask()
        rewards.append(tokens.count(0) / len(tokens))
        strategy.tell(tokens, rewards[-1])
    assert sum(rewards[:20]) / 20 < 0.35
    assert sum(rewards[-20:]) / 20 > 0.6
