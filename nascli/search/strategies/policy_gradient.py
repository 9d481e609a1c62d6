"""The strategies with a controller: the paper's proximal policy optimization, and the plain policy gradient.

From the paper (section 3, appendices A.2 and A.3): the controller; PPO; Adam's learning rate 0.00035; entropy weight
0.00001; baseline = exponential moving average of past rewards with weight 0.95; 20 architectures per update; the reward
is the held-out accuracy as it is. What the paper leaves open is chosen here, so:

1. The T decisions of a sequence are T actions with one advantage, the sequence's. The objective is clipped decision
   by decision and summed: its gradient at the first pass is the paper's, that of the log of the joint probability,
   while one ratio of the joint, a product of 50, would leave the clip range after hardly any movement.
2. Clip range 0.2; 4 passes over the whole batch per update; gradient norm at most 0.5; Adam's other values as usual.
3. The advantage is reward - baseline, not divided by its spread: Adam makes the step independent of the scale of the
   rewards anyhow, and so the entropy weight keeps the paper's meaning, nats against accuracy.
4. The baseline is that before the batch (a reward is not compared with itself) and moves by each reward of the batch in
   order. Only the first batch is compared with its own mean: there is no past, and starting at 0 would push up all
   that was sampled first, good or bad.
5. The entropy is the sum over the T softmaxes, given the decisions sampled before each.
6. Sampling at temperature 1, no squashing of logits, no filter on samples: a duplicate is told with its reward.
7. A proposal may be told in any order; an update takes the next `batch_size` results. When the caller tells whole
   batches, each update is on-policy in its first pass. When it does not, as the paper's 450 workers, results come from
   a controller some updates ago, and the ratio is against the probabilities at sampling, which are kept until the
   proposal is told: it weighs a decision that became likelier since then more, one that became rarer less, and a
   decision that moved beyond the clip range already gets no further push. A proposal that is never told changes
   nothing.
"""

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nascli.config.search import ControllerConfig, PpoConfig, ReinforceConfig
from nascli.engine.device import generator_for
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.controller import Controller
from nascli.search.strategies.strategy import COLLAPSED, Tokens

_IMITATIONS = 400
"""Passes at most in which the controller imitates given sequences."""


class PolicyGradient:
    """A controller that is moved towards what was rewarded; `ppo` and `reinforce` make one.

    Args:
        passes: Gradient steps on each batch.
        clip: Range of the probability ratio; None climbs the log-probability itself.
    """

    def __init__(
        self, space: SearchSpace, config: ControllerConfig, seed: int, *, passes: int, clip: float | None
    ) -> None:
        self.batch_size = config.batch_size
        self.diagnostics: dict[str, float] = {}
        """After the first update: their number; entropy in nats, as a share of the greatest possible, and whether it
        has collapsed (1 or 0); baseline; KL divergence from the controller that sampled (estimate); share clipped."""
        self._numbers, self._passes, self._clip = config, passes, clip
        weights = generator_for(seed, "controller", "init")
        self.controller = Controller(space.decision_sizes, config.hidden, config.init_range, weights)
        self._generator = generator_for(seed, "controller", "sample")
        self._optimizer = torch.optim.Adam(self.controller.parameters(), lr=config.lr, fused=True)
        self._baseline: float | None = None
        self._sampled: deque[tuple[Tokens, Tensor]] = deque()  # not asked yet
        self._asked: defaultdict[Tokens, deque[Tensor]] = defaultdict(deque)  # not told yet
        self._told: list[tuple[Tokens, Tensor, float]] = []  # not used in an update yet

    def ask(self) -> Tokens:
        """The next sequence; a batch is sampled at once, and dropped where the controller is updated in between."""
        if not self._sampled:
            tokens, log_probs = self.controller.sample(self._numbers.batch_size, self._generator)
            self._sampled.extend(zip(map(tuple, tokens.tolist()), log_probs, strict=True))
        sequence, sampled_with = self._sampled.popleft()
        self._asked[sequence].append(sampled_with)
        return sequence

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the reward; the last of `batch_size` starts the update."""
        assert tokens in self._asked, "told what was not asked, or told it twice"
        equals = self._asked[tokens]
        self._told.append((tokens, equals.popleft(), reward))
        if not equals:
            del self._asked[tokens]
        if len(self._told) == self._numbers.batch_size:
            sequences, sampled_with, rewards = zip(*self._told, strict=True)
            self._told.clear()
            self._sampled.clear()
            self._update(torch.tensor(sequences), torch.stack(sampled_with), rewards)

    def state(self) -> dict[str, Any]:
        """Everything that asking and telling has changed, as tensors and plain values."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "baseline": self._baseline,
            "sampled": list(self._sampled),
            "asked": [(tokens, list(probabilities)) for tokens, probabilities in self._asked.items()],
            "told": self._told,
            "diagnostics": dict(self.diagnostics),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the strategy that gave `state`."""
        self.controller.load_state_dict(state["controller"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self._baseline = state["baseline"]
        self._sampled = deque((tuple(tokens), log_probs) for tokens, log_probs in state["sampled"])
        self._asked = defaultdict(deque, {tuple(tokens): deque(held) for tokens, held in state["asked"]})
        self._told = [(tuple(tokens), log_probs, reward) for tokens, log_probs, reward in state["told"]]
        self.diagnostics = dict(state["diagnostics"])

    def imitate(self, sequences: Sequence[Tokens]) -> None:
        """Make given sequences, best first, more probable, as far as that carries over to others like them.

        Maximum likelihood by an Adam of its own (the moments of these gradients would choke the steps of the search's)
        on every other sequence, the first included, for as long as those between become more probable too.
        """
        taught, checked = torch.tensor(sequences[::2]), torch.tensor(sequences[1::2])
        if not len(checked):
            return
        optimizer = torch.optim.Adam(self.controller.parameters(), lr=self._numbers.lr, fused=True)
        likelihood = -math.inf
        for _ in range(_IMITATIONS):
            with torch.no_grad():
                before, likelihood = likelihood, float(self.controller(checked)[0].sum(1).mean())
            if likelihood <= before:
                break
            self._climb(self.controller(taught)[0].sum(1).mean(), optimizer)
        self._sampled.clear()

    def _update(self, tokens: Tensor, sampled_with: Tensor, rewards: Sequence[float]) -> None:
        """One update on (D, T) tokens and their log-probabilities when they were sampled."""
        baseline = sum(rewards) / len(rewards) if self._baseline is None else self._baseline
        advantages = torch.tensor(rewards, dtype=sampled_with.dtype)[:, None] - baseline  # (D, 1)
        log_probs = entropies = sampled_with
        for _ in range(self._passes):
            log_probs, entropies = self.controller(tokens)  # (D, T) each
            gain = _gain(log_probs, sampled_with, advantages, self._clip).sum(1).mean()
            self._climb(gain + self._numbers.entropy_weight * entropies.sum(1).mean(), self._optimizer)
        for reward in rewards:
            baseline = self._numbers.baseline_decay * baseline + (1 - self._numbers.baseline_decay) * reward
        self._baseline = baseline
        moved = log_probs.detach() - sampled_with
        entropy = float(entropies.detach().sum(1).mean())
        greatest = sum(map(math.log, self.controller.sizes))  # of a uniform sampler
        share = entropy / greatest if greatest else 1.0
        self.diagnostics = {
            "updates": self.diagnostics.get("updates", 0) + 1,
            "entropy": entropy,
            "entropy_share": share,
            "collapsed": float(share < COLLAPSED),
            "baseline": baseline,
            "kl": float((moved.exp() - 1 - moved).sum(1).mean()),
        }
        if self._clip is not None:
            ratios = moved.exp()
            clipped = ratios != ratios.clamp(1 - self._clip, 1 + self._clip)
            self.diagnostics["clip_fraction"] = float(clipped.double().mean())

    def _climb(self, objective: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (-objective).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), self._numbers.max_grad_norm)
        optimizer.step()


def ppo(space: SearchSpace, config: PpoConfig, seed: int) -> PolicyGradient:
    """Proximal policy optimization: several passes over a batch, on an objective that is clipped decision by decision.

    References:
        Zoph et al. 2018, section 3, appendices A.2 and A.3. Schulman et al. 2017, equation 7.
    """
    return PolicyGradient(space, config, seed, passes=config.update_epochs, clip=config.clip)


def reinforce(space: SearchSpace, config: ReinforceConfig, seed: int) -> PolicyGradient:
    """The plain policy gradient: what the paper's PPO replaced, and the simplest learner to compare with.

    An update climbs (reward - baseline) times the gradient of log p(sequence), averaged over the batch, once. All else
    is as in `ppo`, so that the two differ in the objective and the number of passes alone.

    With a caller that tells proposals of earlier controllers, their gradients are taken at the controller of now
    without a correction, as the asynchronous workers of 2017 did; the bias grows with what is outstanding. `ppo`
    corrects for it.

    References:
        Williams 1992, section 4 (the estimator). Zoph and Le 2017, section 3.2 (the controller and its baseline).
    """
    return PolicyGradient(space, config, seed, passes=1, clip=None)


def _gain(log_probs: Tensor, sampled_with: Tensor, advantages: Tensor, clip: float | None) -> Tensor:
    """The gain of each decision, (D, T), from log-probabilities now and at sampling, (D, T), and advantages, (D, 1)."""
    if clip is None:
        return log_probs * advantages
    ratios = (log_probs - sampled_with).exp()
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)
