"""The plain policy gradient on the controller: what the paper's PPO replaced, and the simplest learner to compare with.

An update climbs (reward - baseline) times the gradient of log p(sequence), averaged over the batch, once; then the
batch is forgotten. Controller, baseline, entropy bonus, Adam and the limit of the gradient's norm are those of `ppo`,
so that what differs between the two is the objective and the number of passes.

With a caller that tells proposals of earlier controllers, their gradients are taken at the controller of now without a
correction, as the asynchronous workers of 2017 did. The bias grows with what is outstanding; `ppo` corrects for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nascli.config import ReinforceConfig
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.controller import Controller
from nascli.search.strategies.policy import Policy, Tokens


class Reinforce:
    """Samples from the controller; when a batch is told, takes one step along the policy gradient.

    Args:
        space: What may be proposed.
        config: The numbers of controller and update.
        seed: The run's seed.

    References:
        Williams 1992, section 4 (the estimator). Zoph and Le 2017, section 3.2 (the controller and its baseline).
    """

    def __init__(self, space: SearchSpace, config: ReinforceConfig, seed: int) -> None:
        self.batch_size = config.batch_size
        self._policy = Policy(space, config, seed, passes=1, objective=_likelihood)

    @property
    def controller(self) -> Controller:
        """The policy as it is now."""
        return self._policy.controller

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """As those of `ppo`, without a share clipped; the divergence is 0 where batches are told as they are asked."""
        return self._policy.diagnostics

    def ask(self) -> Tokens:
        """A sequence drawn from the controller."""
        return self._policy.ask()

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the reward; the last of `batch_size` starts the update."""
        self._policy.tell(tokens, reward)

    def state(self) -> dict[str, Any]:
        """Everything that asking and telling has changed."""
        return self._policy.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the strategy that gave `state`."""
        self._policy.load_state(state)

    def imitate(self, sequences: Sequence[Tokens]) -> None:
        """Make sequences that somebody else found more probable; see `Policy.imitate`."""
        self._policy.imitate(sequences)


def _likelihood(log_probs: Tensor, sampled_with: Tensor, advantages: Tensor) -> Tensor:
    return log_probs * advantages
