"""The controller gives the probabilities of what it draws; PPO moves it towards what is rewarded."""

import math
from itertools import product

import pytest
import torch

from nascli.config import PpoConfig
from nascli.genotype.cells.space import NASNET, CellSpace
from nascli.search.strategies.controller import Controller
from nascli.search.strategies.policy_gradient import ppo
from nascli.search.strategies.strategy import COLLAPSED

BANDIT = CellSpace(name="bandit", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=2)
ONE = CellSpace(name="one", ops=("sep_conv_3x3", "max_pool_3x3"), blocks=1)


def controller(space: CellSpace = NASNET, init_range: float = 0.1) -> Controller:
    return Controller(space.decision_sizes, 100, init_range, torch.Generator().manual_seed(0))


def convolutions(tokens: tuple[int, ...]) -> float:
    """Known optimum: every op decision is choice 0."""
    ops = [token for place, token in enumerate(tokens) if place % 5 in (2, 3)]
    return ops.count(0) / len(ops)


def test_weights_start_uniform_in_the_papers_range() -> None:
    weights = torch.cat([p.detach().flatten() for p in controller().parameters()])
    assert weights.abs().max() <= 0.1
    assert weights.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.01)


def test_one_softmax_a_decision_normal_cell_first() -> None:
    assert len(NASNET.decision_sizes) == 10 * NASNET.blocks == 50
    tokens, log_probs = controller().sample(7, torch.Generator().manual_seed(0))
    assert tokens.shape == log_probs.shape == (7, 50)


def test_the_log_probability_is_that_of_the_very_action_taken() -> None:
    policy = controller(init_range=1.0)
    tokens, drawn_with = policy.sample(20, torch.Generator().manual_seed(1))
    log_probs, _ = policy(tokens)
    torch.testing.assert_close(log_probs.detach(), drawn_with, rtol=0, atol=1e-12)
    other = tokens.clone()
    other[:, 7] = (other[:, 7] + 1) % policy.sizes[7]
    changed, _ = policy(other)
    assert (changed[:, 7] - log_probs[:, 7]).abs().min() > 1e-6
    assert torch.equal(changed[:, :7], log_probs[:, :7])  # later decisions do not reach back


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    policy = controller(ONE, init_range=1.0)
    every = torch.tensor(list(product(*(range(size) for size in ONE.decision_sizes))))
    joint = policy(every)[0].detach().sum(1).exp()
    assert joint.sum().item() == pytest.approx(1.0, abs=1e-12)


def test_drawn_frequencies_follow_the_probabilities() -> None:
    policy = controller(ONE, init_range=1.5)
    tokens, _ = policy.sample(4000, torch.Generator().manual_seed(2))
    every = torch.tensor(list(product(*(range(size) for size in ONE.decision_sizes))))
    joint = policy(every)[0].detach().sum(1).exp()
    place = torch.stack([(tokens == row).all(1).sum() for row in every]) / len(tokens)
    error = (joint * (1 - joint) / len(tokens)).sqrt()
    assert ((place - joint).abs() < 5 * error + 1e-9).all()


def test_entropy_is_that_of_the_softmaxes() -> None:
    policy = controller(NASNET)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    tokens, _ = policy.sample(1, torch.Generator().manual_seed(0))
    expected = torch.tensor([math.log(size) for size in NASNET.decision_sizes], dtype=torch.float64)
    torch.testing.assert_close(policy(tokens)[1][0].detach(), expected)


def test_it_learns_the_optimum_of_a_toy_bandit_and_entropy_falls() -> None:
    strategy = ppo(BANDIT, PpoConfig(batch_size=20, lr=0.003, entropy_weight=1e-5), seed=0)
    rewards, entropies = [], []
    for _ in range(40):
        batch = [strategy.ask() for _ in range(strategy.batch_size)]
        rewards.append(sum(map(convolutions, batch)) / len(batch))
        for tokens in batch:
            strategy.tell(tokens, convolutions(tokens))
        entropies.append(strategy.diagnostics["entropy"])
    assert rewards[0] < 0.45  # about a third by chance
    assert rewards[-1] > 0.95
    assert entropies[-1] < 0.7 * entropies[0]


def test_collapse_is_told() -> None:
    strategy = ppo(ONE, PpoConfig(hidden=12, batch_size=5, lr=0.05), seed=0)
    history = []
    for _ in range(60):
        for tokens in [strategy.ask() for _ in range(5)]:
            strategy.tell(tokens, tokens.count(0) / len(tokens))
        history.append(strategy.diagnostics)
    assert history[0]["entropy_share"] == pytest.approx(1.0, abs=0.05)
    assert history[0]["collapsed"] == 0
    assert history[-1]["collapsed"] == 1
    assert history[-1]["entropy_share"] < COLLAPSED
    assert history[-1]["entropy"] == pytest.approx(history[-1]["entropy_share"] * math.log(2**8))


def test_the_recurrence_is_that_of_pytorchs_lstm() -> None:
    policy = controller(BANDIT, init_range=1.0)
    tokens, _ = policy.sample(6, torch.Generator().manual_seed(3))
    fed = policy.embeddings[torch.arange(tokens.shape[1] - 1), tokens[:, :-1]].transpose(0, 1)
    states, _ = policy.lstm(torch.cat((policy.first.expand(1, 6, -1), fed)))
    logits = torch.einsum("tdh,tkh->tdk", states, policy.weights) + policy.biases[:, None]
    expected = torch.stack(
        [
            logits[t, :, :size].log_softmax(1).gather(1, tokens[:, t, None]).squeeze(1)
            for t, size in enumerate(policy.sizes)
        ],
        dim=1,
    )
    weigh = torch.linspace(-1, 1, tokens.numel(), dtype=torch.float64).view(tokens.shape)
    wanted = torch.autograd.grad((expected * weigh).sum(), list(policy.parameters()))
    log_probs, _ = policy(tokens)
    given = torch.autograd.grad((log_probs * weigh).sum(), list(policy.parameters()))
    torch.testing.assert_close(log_probs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-12)


def test_results_in_another_order_teach_the_same_but_for_the_baseline() -> None:
    """The kept log-probabilities go with their tokens: a first pass has ratio 1 whatever the order of telling."""
    config = PpoConfig(hidden=12, batch_size=6, update_epochs=1)
    one, other = ppo(BANDIT, config, seed=0), ppo(BANDIT, config, seed=0)
    batch = [one.ask() for _ in range(6)]
    assert [other.ask() for _ in range(6)] == batch
    for tokens in batch:
        one.tell(tokens, convolutions(tokens))
    for tokens in reversed(batch):
        other.tell(tokens, convolutions(tokens))
    assert other.diagnostics["kl"] == pytest.approx(0.0, abs=1e-12)
    for ours, theirs in zip(one.controller.parameters(), other.controller.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_a_late_result_is_weighed_by_how_far_the_controller_has_moved() -> None:
    strategy = ppo(BANDIT, PpoConfig(hidden=12, batch_size=4, lr=0.02, update_epochs=1), seed=0)
    early = [strategy.ask() for _ in range(8)]
    for tokens in early[:4]:
        strategy.tell(tokens, convolutions(tokens))
    assert strategy.diagnostics["kl"] == pytest.approx(0.0, abs=1e-12)
    for tokens in early[4:]:
        strategy.tell(tokens, convolutions(tokens))
    assert strategy.diagnostics["updates"] == 2
    assert strategy.diagnostics["kl"] > 1e-4


def test_the_first_update_follows_the_gradient_of_the_joint_log_probability() -> None:
    """With one pass and no entropy bonus the step is Adam's on advantage times gradient of log p(sequence)."""
    strategy = ppo(BANDIT, PpoConfig(batch_size=4, update_epochs=1, entropy_weight=0.0, max_grad_norm=1e9), seed=0)
    twin = ppo(BANDIT, PpoConfig(batch_size=4), seed=0).controller
    batch = [strategy.ask() for _ in range(4)]
    rewards = [0.1, 0.2, 0.3, 0.8]
    log_probs, _ = twin(torch.tensor(batch))
    advantages = torch.tensor(rewards, dtype=torch.float64) - 0.35
    (-(log_probs.sum(1) * advantages).mean()).backward()
    torch.optim.Adam(twin.parameters(), lr=PpoConfig().lr).step()
    for tokens, reward in zip(batch, rewards, strict=True):
        strategy.tell(tokens, reward)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(strategy.controller.state_dict()[name], value, rtol=0, atol=1e-8)


def test_the_baseline_is_the_moving_average_of_rewards_in_order() -> None:
    strategy = ppo(ONE, PpoConfig(batch_size=2), seed=0)
    expected = 0.3  # the first batch's mean
    for rewards in ((0.2, 0.4), (0.9, 0.5)):
        batch = [strategy.ask(), strategy.ask()]
        for tokens, reward in zip(batch, rewards, strict=True):
            strategy.tell(tokens, reward)
            expected = 0.95 * expected + 0.05 * reward
        assert strategy.diagnostics["baseline"] == pytest.approx(expected)


def test_equal_rewards_teach_nothing_but_entropy() -> None:
    strategy = ppo(ONE, PpoConfig(batch_size=3, entropy_weight=0.0), seed=0)
    before = {name: value.clone() for name, value in strategy.controller.state_dict().items()}
    for tokens in [strategy.ask() for _ in range(3)]:
        strategy.tell(tokens, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in strategy.controller.state_dict().items())
