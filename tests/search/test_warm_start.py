"""A controller that starts from another strategy's results proposes better at once."""

import random
from statistics import mean

import pytest

from nascli.config import EvolutionConfig, PpoConfig, ReinforceConfig
from nascli.genotype.cells.space import NASNET
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.policy_gradient import ppo, reinforce
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.strategy import SupportsPretraining, Tokens
from nascli.search.strategies.warm_start import WarmStarted
from tests.fakes import TINY

PPO = PpoConfig(hidden=12, batch_size=20, lr=0.003)


def reward_of(tokens: Tokens) -> float:
    """The part of the ops that are choice 0."""
    ops = [token for place, token in enumerate(tokens) if place % 5 in (2, 3)]
    return ops.count(0) / len(ops)


def batch(strategy: WarmStarted | SupportsPretraining) -> list[Tokens]:
    asked = [strategy.ask() for _ in range(strategy.batch_size)]
    return [tokens for tokens in asked if tokens is not None]


@pytest.mark.parametrize(
    "then",
    [ppo(TINY, PPO, 0), reinforce(TINY, ReinforceConfig(hidden=12, batch_size=20, lr=0.003), 0)],
    ids=["ppo", "reinforce"],
)
def test_the_first_proposals_after_the_warm_up_are_better_than_random(then: SupportsPretraining) -> None:
    strategy = WarmStarted(RandomSearch(TINY, 0), then, trials=200)
    warm = []
    for _ in range(10):
        for tokens in batch(strategy):
            strategy.tell(tokens, reward_of(tokens))
            warm.append(reward_of(tokens))
    first = [reward_of(tokens) for _ in range(5) for tokens in batch(strategy)]
    assert mean(first) > mean(warm) + 0.08  # a third by chance; four standard errors


def test_a_reward_that_means_nothing_leaves_the_controller_nearly_uniform() -> None:
    draw = random.Random(0)
    strategy = WarmStarted(RandomSearch(NASNET, 0), ppo(NASNET, PPO, 0), trials=200)
    for _ in range(11):
        for tokens in batch(strategy):
            strategy.tell(tokens, draw.random())
    assert strategy.diagnostics["entropy_share"] > 0.95


def test_the_first_strategy_proposes_until_enough_is_told() -> None:
    alone = Evolution(NASNET, EvolutionConfig(population=4), 5)
    strategy = WarmStarted(Evolution(NASNET, EvolutionConfig(population=4), 5), ppo(NASNET, PPO, 5), trials=30)
    for left in (30, 10):
        assert strategy.diagnostics["warm_start_left"] == left
        asked = batch(strategy)
        assert asked == [alone.ask() for _ in asked]
        for tokens in asked:
            strategy.tell(tokens, reward_of(tokens))
            alone.tell(tokens, reward_of(tokens))
    assert strategy.diagnostics == {"warm_start_left": 0}
    assert batch(strategy) != [alone.ask() for _ in range(20)]


def test_late_results_of_the_warm_up_do_not_teach_the_controller() -> None:
    histories = []
    for late in (0.0, 1.0):
        strategy = WarmStarted(RandomSearch(NASNET, 0), ppo(NASNET, PPO, 0), trials=20)
        asked = batch(strategy) + batch(strategy)
        for tokens in asked[:20]:
            strategy.tell(tokens, reward_of(tokens))
        for tokens in asked[20:]:
            strategy.tell(tokens, late)
        assert "updates" not in strategy.diagnostics
        histories.append(batch(strategy))
    assert histories[0] == histories[1]
