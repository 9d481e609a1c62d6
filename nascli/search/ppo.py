"""The paper's strategy: the controller, trained by proximal policy optimization on the rewards of its proposals.

From the paper (section 3, appendices A.2 and A.3): the controller; PPO; Adam's learning rate 0.00035; entropy weight
0.00001; baseline = exponential moving average of past rewards with weight 0.95; 20 architectures an update; the reward
is the held-out accuracy as it is. What the paper leaves open is chosen here, so:

1. The 10B decisions of a sequence are 10B actions with one advantage, the sequence's. The surrogate is clipped decision
   by decision and summed: its gradient at the first pass is the paper's, that of the log of the joint probability,
   while one ratio of the joint, a product of 50, would leave the clip range after hardly any movement.
2. Clip range 0.2; 4 passes over the whole batch an update; gradient norm at most 0.5; Adam's other values as usual.
3. The advantage is reward - baseline, not divided by its spread: Adam makes the step independent of the scale of the
   rewards anyhow, and so the entropy weight keeps the paper's meaning, nats against accuracy.
4. The baseline is that before the batch (a reward is not compared with itself) and moves by each reward of the batch in
   order. Only the first batch is compared with its own mean: there is no past, and starting at 0 would push up all
   that was sampled first, good or bad.
5. The entropy is the sum over the 10B softmaxes, given the decisions sampled before each.
6. Sampling at temperature 1, no squashing of logits, no filter on samples: a repeat is told with its reward.
7. Learning waits for the whole batch, so every update is on-policy in its first pass. (The paper's 450 workers update
   the controller as results come.)
"""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from nascli.config import PpoConfig
from nascli.genotype.space import SearchSpace
from nascli.search.controller import Controller
from nascli.training.runtime import derive_seed


class Ppo:
    """Samples from the controller; when a batch is told, moves the controller towards what was rewarded.

    Args:
        space: What may be proposed.
        config: The numbers of controller and update.
        seed: The run's seed.

    References:
        Zoph et al. 2018, section 3, appendices A.2 and A.3. Schulman et al. 2017, equation 7 (the clipped surrogate).
    """

    def __init__(self, space: SearchSpace, config: PpoConfig, seed: int) -> None:
        self._config = config
        weights = torch.Generator().manual_seed(derive_seed(seed, "controller", "init"))
        self.controller = Controller(space.decision_sizes, config.hidden, config.init_range, weights)
        self._generator = torch.Generator().manual_seed(derive_seed(seed, "controller", "sample"))
        self._optimizer = torch.optim.Adam(self.controller.parameters(), lr=config.lr)
        self._baseline: float | None = None
        self._diagnostics: dict[str, float] = {}
        self._asked: deque[tuple[int, ...]] = deque()
        self._tokens = self._log_probs = torch.empty(0)  # of the batch that is being asked and told, (D, T)
        self._rewards: list[float] = []

    @property
    def batch_size(self) -> int:
        """Architectures an update."""
        return self._config.batch_size

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """After the first update: their number, entropy in nats, baseline, share clipped, KL divergence (estimate)."""
        return self._diagnostics

    def ask(self) -> tuple[int, ...]:
        """The next of the batch's sequences; the whole batch is sampled when its first is asked."""
        if not self._asked:
            self._tokens, self._log_probs = self.controller.sample(self.batch_size, self._generator)
            self._asked.extend(tuple(row) for row in self._tokens.tolist())
        return self._asked.popleft()

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        """Keep the reward; the batch's last one starts the update."""
        assert tokens == tuple(self._tokens[len(self._rewards)].tolist()), "told in another order than asked"
        self._rewards.append(reward)
        if len(self._rewards) == self.batch_size:
            self._update(torch.tensor(self._rewards, dtype=torch.float64))
            self._rewards.clear()

    def _update(self, rewards: Tensor) -> None:
        """One update; `rewards` is (D,)."""
        config = self._config
        baseline = float(rewards.mean()) if self._baseline is None else self._baseline
        advantages = (rewards - baseline)[:, None]  # (D, 1)
        ratios = entropies = torch.ones(())
        for _ in range(config.epochs):
            log_probs, entropies = self.controller(self._tokens)  # (D, T) each
            ratios = (log_probs - self._log_probs).exp()
            clipped = ratios.clamp(1 - config.clip, 1 + config.clip)
            surrogate = torch.minimum(ratios * advantages, clipped * advantages)
            objective = surrogate.sum(1).mean() + config.entropy_weight * entropies.sum(1).mean()
            self._optimizer.zero_grad()
            (-objective).backward()
            torch.nn.utils.clip_grad_norm_(self.controller.parameters(), config.max_grad_norm)
            self._optimizer.step()
        for reward in rewards.tolist():
            baseline = config.baseline_decay * baseline + (1 - config.baseline_decay) * reward
        self._baseline = baseline
        ratios = ratios.detach()
        self._diagnostics = {
            "updates": self._diagnostics.get("updates", 0) + 1,
            "entropy": float(entropies.detach().sum(1).mean()),
            "baseline": baseline,
            "clip_fraction": float(((ratios - 1).abs() > config.clip).double().mean()),
            "kl": float((ratios - 1 - ratios.log()).sum(1).mean()),
        }
