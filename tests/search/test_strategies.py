"""Every strategy that never runs out of proposals keeps the contract of strategies."""

from collections import Counter

import pytest

from nascli.config import BayesianConfig, EvolutionConfig, Nsga2Config, PpoConfig, ReinforceConfig
from nascli.genotype.cells.space import NASNET
from nascli.genotype.mobile.space import MNASNET
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.nsga2 import Nsga2
from nascli.search.strategies.policy_gradient import ppo, reinforce
from nascli.search.strategies.random import RandomSearch
from nascli.search.strategies.strategy import Strategy
from nascli.search.strategies.warm_start import WarmStarted
from tests.fakes import TINY
from tests.search.strategy_contract import StrategyContract


@pytest.fixture(params=[NASNET, TINY, MNASNET], ids=["nasnet", "tiny", "mnasnet"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    made: SearchSpace = request.param
    return made


class TestRandomSearch(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return RandomSearch(space, seed)

    def test_each_choice_is_drawn_about_equally_often(self) -> None:
        strategy = RandomSearch(NASNET, seed=0)
        ops = Counter(strategy.ask()[2] for _ in range(2600))
        assert set(ops) == set(range(13))
        assert all(140 < times < 260 for times in ops.values())  # 200 expected, four standard deviations


class TestPpo(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return ppo(space, PpoConfig(batch_size=5, lr=0.01, hidden=12), seed)


class TestReinforce(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return reinforce(space, ReinforceConfig(batch_size=5, lr=0.01, hidden=12), seed)


class TestEvolution(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return Evolution(space, EvolutionConfig(population=6, sample=3, batch_size=5), seed)


class TestNsga2(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return Nsga2(space, Nsga2Config(population=6, batch_size=5), seed)


class TestBayesian(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        return BayesianSearch(
            space, BayesianConfig(n_startup_trials=20, batch_size=5, candidates=10, max_observations=30), seed
        )


class TestWarmStarted(StrategyContract):
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        then = ppo(space, PpoConfig(batch_size=5, lr=0.01, hidden=12), seed)
        return WarmStarted(RandomSearch(space, seed), then, trials=12)
