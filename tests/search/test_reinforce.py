"""REINFORCE: one step along the policy gradient a batch."""

import pytest
import torch

from nascli.config import ReinforceConfig
from nascli.search.strategies.policy_gradient import reinforce
from tests.fakes import TINY

PLAIN = ReinforceConfig(hidden=12, batch_size=4, lr=0.01, entropy_weight=0.0, max_grad_norm=1e9)


def test_an_update_is_one_adam_step_on_advantage_times_log_probability() -> None:
    strategy, twin = reinforce(TINY, PLAIN, seed=0), reinforce(TINY, PLAIN, seed=0).controller
    batch = [strategy.ask() for _ in range(4)]
    rewards = [0.1, 0.2, 0.3, 0.8]
    log_probs, _ = twin(torch.tensor(batch))
    advantages = torch.tensor(rewards, dtype=torch.float64) - 0.35
    (-(log_probs.sum(1) * advantages).mean()).backward()
    torch.optim.Adam(twin.parameters(), lr=0.01).step()
    for tokens, reward in zip(batch, rewards, strict=True):
        strategy.tell(tokens, reward)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(strategy.controller.state_dict()[name], value, rtol=0, atol=1e-7)


def test_the_second_batch_is_compared_with_the_moving_average() -> None:
    strategy = reinforce(TINY, PLAIN, seed=0)
    for rewards, baseline in (((0.2, 0.4, 0.2, 0.4), 0.3), ((0.9, 0.9, 0.9, 0.9), 0.3)):
        for tokens, reward in zip([strategy.ask() for _ in range(4)], rewards, strict=True):
            strategy.tell(tokens, reward)
            baseline = 0.95 * baseline + 0.05 * reward
        assert strategy.diagnostics["baseline"] == pytest.approx(baseline, abs=0.005)


def test_it_learns_a_toy_objective() -> None:
    strategy = reinforce(TINY, ReinforceConfig(hidden=12, lr=0.02), seed=0)
    rewards = []
    for _ in range(480):
        tokens = strategy.ask()
        rewards.append(tokens.count(0) / len(tokens))
        strategy.tell(tokens, rewards[-1])
    assert sum(rewards[-40:]) / 40 > sum(rewards[:40]) / 40 + 0.2
