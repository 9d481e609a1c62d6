"""What every strategy owes, written once: a new strategy gets these tests by a subclass with one method."""

from multiprocessing import get_context

import torch

from nascli.genotype.encoding import decode_tokens
from nascli.genotype.space import NASNET, SearchSpace
from nascli.search.strategy import Strategy

Tokens = tuple[int, ...]


def reward_of(tokens: Tokens) -> float:
    """A toy objective with a known optimum: the part of the tokens that are 0."""
    return tokens.count(0) / len(tokens)


def play(strategy: Strategy, batches: int, size: int) -> list[Tokens]:
    """Ask and tell so many batches of at most `size`."""
    asked = []
    for _ in range(batches):
        batch = [strategy.ask() for _ in range(min(size, strategy.batch_size))]
        for tokens in batch:
            strategy.tell(tokens, reward_of(tokens))
        asked += batch
    return asked


class StrategyContract:
    @staticmethod
    def make(seed: int = 0, space: SearchSpace = NASNET) -> Strategy:
        raise NotImplementedError

    @classmethod
    def proposals(cls) -> list[Tokens]:
        return play(cls.make(3), 3, 5)

    def test_every_proposal_is_a_genotype_of_the_space(self, space: SearchSpace) -> None:
        for tokens in play(self.make(space=space), batches=3, size=7):
            assert decode_tokens(tokens, space).space == space.name

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
        """Asked and told the same, a new strategy goes on exactly as the first one."""
        first = self.make()
        history = play(first, 3, 5)
        second = self.make()
        for start in range(0, len(history), 5):
            batch = history[start : start + 5]
            assert [second.ask() for _ in batch] == batch
            for tokens in batch:
                second.tell(tokens, reward_of(tokens))
        assert second.diagnostics == first.diagnostics
        assert play(second, 2, 5) == play(first, 2, 5)

    def test_it_does_not_get_worse_by_learning(self) -> None:
        strategy = self.make()
        rewards = [reward_of(tokens) for tokens in play(strategy, 60, 5)]
        assert sum(rewards[-100:]) >= sum(rewards[:100]) - 3
