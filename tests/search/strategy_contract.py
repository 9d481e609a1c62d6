"""The contract of every strategy: a new strategy gets these tests by a subclass with one method."""

import random
from multiprocessing import get_context

import torch

from nascli.genotype.cells.space import NASNET, CellSpace
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.strategy import Strategy

Tokens = tuple[int, ...]

TWINS = CellSpace(name="twins", ops=("identity",), blocks=1, cells="one", combines=("add", "concat"))
"""Eight sequences in all."""


def reward_of(tokens: Tokens) -> float:
    """A toy objective with a known optimum: the part of the tokens that are 0."""
    return tokens.count(0) / len(tokens)


def play(strategy: Strategy, batches: int, size: int) -> list[Tokens]:
    """Ask and tell so many batches of at most `size`."""
    asked = []
    for _ in range(batches):
        batch = [propose(strategy) for _ in range(min(size, strategy.batch_size))]
        for tokens in batch:
            strategy.tell(tokens, reward_of(tokens))
        asked += batch
    return asked


def propose(strategy: Strategy) -> Tokens:
    """A proposal of a strategy that never runs out of them."""
    tokens = strategy.ask()
    assert tokens is not None
    return tokens


def play_asynchronously(strategy: Strategy, told: int, workers: int = 4, seed: int = 0) -> list[tuple[str, Tokens]]:
    """Keep `workers` proposals outstanding, tell one of them at random, ask the next; the calls in order."""
    draw = random.Random(seed)
    outstanding = [propose(strategy) for _ in range(workers)]
    calls = [("ask", tokens) for tokens in outstanding]
    for _ in range(told):
        tokens = outstanding.pop(draw.randrange(workers))
        strategy.tell(tokens, reward_of(tokens))
        outstanding.append(propose(strategy))
        calls += [("tell", tokens), ("ask", outstanding[-1])]
    return calls


class StrategyContract:
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        raise NotImplementedError

    @classmethod
    def proposals(cls) -> list[Tokens]:
        return play(cls.make(3), 3, 5)

    def test_every_proposal_is_a_genotype_of_the_space(self, space: SearchSpace) -> None:
        for tokens in play(self.make(space=space), batches=3, size=7):
            assert space.decode(tokens).space == space.name

    def test_same_seed_same_proposals_and_another_seed_others(self) -> None:
        assert play(self.make(3), 3, 5) == play(self.make(3), 3, 5)
        assert play(self.make(3), 1, 5) != play(self.make(4), 1, 5)

    def test_another_process_makes_the_same_proposals(self) -> None:
        with get_context("spawn").Pool(1) as pool:
            assert pool.apply(self.proposals) == self.proposals()

    def test_the_global_random_state_is_neither_read_nor_changed(self) -> None:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = play(self.make(), 2, 5)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert play(self.make(), 2, 5) == first

    def test_replay_gives_the_same_state(self) -> None:
        """Asked and told the same, a new strategy continues exactly as the first one."""
        first = self.make()
        history = play(first, 3, 5)
        second = self.make()
        for start in range(0, len(history), 5):
            batch = history[start : start + 5]
            assert [propose(second) for _ in batch] == batch
            for tokens in batch:
                second.tell(tokens, reward_of(tokens))
        assert second.diagnostics == first.diagnostics
        assert play(second, 2, 5) == play(first, 2, 5)

    def test_an_asynchronous_caller_gets_genotypes_and_the_same_ones_again(self, space: SearchSpace) -> None:
        calls = play_asynchronously(self.make(3, space), 40)
        assert all(space.decode(tokens).space == space.name for _, tokens in calls)
        assert play_asynchronously(self.make(3, space), 40) == calls
        assert play_asynchronously(self.make(4, space), 40) != calls

    def test_equal_proposals_may_be_outstanding_together(self) -> None:
        calls = play_asynchronously(self.make(space=TWINS), 60, workers=12)
        asked = [tokens for call, tokens in calls if call == "ask"]
        assert max(asked[:12].count(tokens) for tokens in asked) > 1  # eight sequences, twelve at once

    def test_replay_of_an_asynchronous_caller_gives_the_same_state(self) -> None:
        first, second = self.make(), self.make()
        for call, tokens in play_asynchronously(first, 33):
            if call == "ask":
                assert second.ask() == tokens
            else:
                second.tell(tokens, reward_of(tokens))
        assert second.diagnostics == first.diagnostics
        assert play(second, 2, 5) == play(first, 2, 5)

    def test_what_is_never_told_does_no_harm(self) -> None:
        strategy = self.make()
        for _ in range(7):
            propose(strategy)  # never told
        rewards = [reward_of(tokens) for tokens in play(strategy, 60, 5)]
        assert sum(rewards[-100:]) >= sum(rewards[:100]) - 3

    def test_it_does_not_get_worse_by_learning(self) -> None:
        strategy = self.make()
        rewards = [reward_of(tokens) for tokens in play(strategy, 60, 5)]
        assert sum(rewards[-100:]) >= sum(rewards[:100]) - 3
