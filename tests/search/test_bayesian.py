"""Bayesian optimization: it generalizes from what it is told, and proposes nothing twice."""

import random
from itertools import product

from hypothesis import given

from nascli.config import BayesianConfig
from nascli.genotype.cells.space import NASNET, CellSpace
from nascli.genotype.genotype import Genotype
from nascli.search.gaussian_process import stack_features
from nascli.search.strategies.bayesian import BayesianSearch, Observation, select_observations
from tests.genotype.genotype_st import genotypes

THREE_OPS = CellSpace(
    name="three-ops",
    ops=("identity", "conv_3x3", "max_pool_3x3"),
    blocks=2,
    inputs="distinct",
    cells="one",
    combines=("add",),
)


def form(tokens: tuple[int, ...], space: CellSpace) -> str:
    return space.decode(tokens).canonical_hash()


def count_convolutions(tokens: tuple[int, ...], space: CellSpace) -> float:
    """As many as four is 1."""
    cell = space.decode(tokens).normal
    return sum(op == "conv_3x3" for block in cell.blocks for op in block.ops) / 4


def found(strategy: BayesianSearch, space: CellSpace, told: int, noise: float = 0.0) -> list[float]:
    """The rewards of a search for as many convolutions as a cell can have."""
    draw, rewards = random.Random(0), []
    for _ in range(told):
        tokens = strategy.ask()
        rewards.append(count_convolutions(tokens, space))
        strategy.tell(tokens, rewards[-1] + draw.gauss(0, noise))
    return rewards


@given(genotypes())
def test_traits_do_not_depend_on_the_spelling(genotype: Genotype) -> None:
    assert NASNET.features(genotype) == NASNET.features(genotype.canonical())


def test_traits_tell_cells_apart() -> None:
    draw = random.Random(0)
    sequences = [tuple(draw.randrange(size) for size in NASNET.decision_sizes) for _ in range(20)]
    counts = stack_features([NASNET.features(NASNET.decode(tokens)) for tokens in sequences])
    assert len({tuple(row) for row in counts}) == 20
    assert (counts.sum(1) > 20).all()


def test_nothing_is_proposed_twice_until_all_was_proposed() -> None:
    strategy = BayesianSearch(THREE_OPS, BayesianConfig(n_startup_trials=5), 0)
    forms = []
    for count in range(120):
        tokens = strategy.ask()
        forms.append(form(tokens, THREE_OPS))
        strategy.tell(tokens, (count % 7) / 7)
    chosen = forms[5:]
    assert len(set(chosen)) == len(chosen)


def test_a_batch_is_made_of_different_cells() -> None:
    strategy = BayesianSearch(NASNET, BayesianConfig(n_startup_trials=4, batch_size=6), 1)
    for _ in range(4):
        strategy.tell(strategy.ask(), 0.5)
    assert len({form(strategy.ask(), NASNET) for _ in range(6)}) == 6


def test_it_finds_what_is_rewarded_within_a_few_trials() -> None:
    after = found(BayesianSearch(THREE_OPS, BayesianConfig(), 0), THREE_OPS, 40, noise=0.1)
    assert max(after[:12]) < 1
    assert max(after) == 1


def test_a_space_with_nothing_new_left_gets_repeats() -> None:
    small = THREE_OPS.model_copy(update={"ops": ("identity", "conv_3x3"), "blocks": 1})
    rewards = found(BayesianSearch(small, BayesianConfig(n_startup_trials=2), 0), small, 30)
    assert len(rewards) == 30


def test_equal_rewards_leave_it_searching() -> None:
    strategy = BayesianSearch(NASNET, BayesianConfig(n_startup_trials=3), 0)
    for _ in range(20):
        strategy.tell(strategy.ask(), 0.5)
    assert len({strategy.ask() for _ in range(5)}) == 5


def test_too_many_results_are_cut_to_the_best_and_the_latest() -> None:
    strategy = BayesianSearch(THREE_OPS, BayesianConfig(max_observations=10, n_startup_trials=5), 0)
    assert len(found(strategy, THREE_OPS, 40)) == 40
    results = [Observation((number,), float(reward)) for number, reward in enumerate([9, 1, 8, 2, 7, 3, 6, 4, 5, 0])]
    assert select_observations(results, 10) == sorted(results, key=lambda result: -result.reward)
    assert select_observations(results, 6) == [results[0], results[2], results[4], *results[7:]]


def test_a_training_that_was_stopped_is_not_that_of_a_bad_cell() -> None:
    """Of 40 cells every second one was stopped early, whose rewards are small, but rank cells all the same."""
    proposed = dict.fromkeys((True, False), 0.0)
    for sees, seed in product(proposed, range(5)):
        strategy = BayesianSearch(THREE_OPS, BayesianConfig(n_startup_trials=40), seed)
        for number in range(40):
            tokens = strategy.ask()
            reward = count_convolutions(tokens, THREE_OPS)
            if number % 2:
                strategy.tell(tokens, reward)
            elif sees:
                strategy.tell_stopped(tokens, reward / 10 - 1, 1 / 9)
            else:
                strategy.tell(tokens, reward / 10 - 1)
        proposed[sees] += sum(count_convolutions(strategy.ask(), THREE_OPS) for _ in range(8))
    assert proposed[True] > proposed[False]
