"""The paper's strategy: the controller, trained by proximal policy optimization on the rewards of its proposals.

From the paper (section 3, appendices A.2 and A.3): the controller; PPO; Adam's learning rate 0.00035; entropy weight
0.00001; baseline = exponential moving average of past rewards with weight 0.95; 20 architectures an update; the reward
is the held-out accuracy as it is. What the paper leaves open is chosen here, so:

1. The T decisions of a sequence are T actions with one advantage, the sequence's. The surrogate is clipped decision
   by decision and summed: its gradient at the first pass is the paper's, that of the log of the joint probability,
   while one ratio of the joint, a product of 50, would leave the clip range after hardly any movement.
2. Clip range 0.2; 4 passes over the whole batch an update; gradient norm at most 0.5; Adam's other values as usual.
3. The advantage is reward - baseline, not divided by its spread: Adam makes the step independent of the scale of the
   rewards anyhow, and so the entropy weight keeps the paper's meaning, nats against accuracy.
4. The baseline is that before the batch (a reward is not compared with itself) and moves by each reward of the batch in
   order. Only the first batch is compared with its own mean: there is no past, and starting at 0 would push up all
   that was sampled first, good or bad.
5. The entropy is the sum over the T softmaxes, given the decisions sampled before each.
6. Sampling at temperature 1, no squashing of logits, no filter on samples: a repeat is told with its reward.
7. An update takes the next 20 results. When the caller tells whole batches, each update is on-policy in its first
   pass. When it does not, as the paper's 450 workers, results come from a controller some updates ago, and the ratio is
   against the probabilities at sampling: it weighs a decision that became likelier since then more, one that became
   rarer less, and a decision that moved beyond the clip range already gets no further push.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nascli.config import PpoConfig
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.controller import Controller
from nascli.search.strategies.policy import Policy, Tokens


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
        self.batch_size = config.batch_size
        self._clip = config.clip
        self._clip_fraction = 0.0
        self._policy = Policy(space, config, seed, passes=config.update_epochs, objective=self._surrogate)

    @property
    def controller(self) -> Controller:
        """The policy as it is now."""
        return self._policy.controller

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """After the first update: their number; entropy in nats, as a share of the greatest possible, and whether it
        has collapsed (1 or 0); baseline; KL divergence from the controller that sampled (estimate); share clipped.
        """
        shared = self._policy.diagnostics
        return {**shared, "clip_fraction": self._clip_fraction} if shared else {}

    def ask(self) -> Tokens:
        """A sequence drawn from the controller."""
        return self._policy.ask()

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the reward; the last of `batch_size` starts the update."""
        self._policy.tell(tokens, reward)

    def state(self) -> dict[str, Any]:
        """Everything that asking and telling has changed."""
        return {"policy": self._policy.state(), "clip_fraction": self._clip_fraction}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the strategy that gave `state`."""
        self._policy.load_state(state["policy"])
        self._clip_fraction = state["clip_fraction"]

    def imitate(self, sequences: Sequence[Tokens]) -> None:
        """Make sequences that somebody else found more probable; see `Policy.imitate`."""
        self._policy.imitate(sequences)

    def _surrogate(self, log_probs: Tensor, sampled_with: Tensor, advantages: Tensor) -> Tensor:
        ratios = (log_probs - sampled_with).exp()
        clipped = ratios.clamp(1 - self._clip, 1 + self._clip)
        self._clip_fraction = float((ratios.detach() != clipped.detach()).double().mean())
        return torch.minimum(ratios * advantages, clipped * advantages)
