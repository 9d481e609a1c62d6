"""What the strategies with a controller share: sampling, keeping what was sampled with which probability, the step.

A proposal is told in any order, and an update takes the next `batch_size` results, whoever they are. The probabilities
with which each was sampled are kept until it is told. A synchronous caller tells what the controller of this moment
sampled. With an asynchronous one, such as the paper's 450 workers, the controller has moved on in between by as many
updates as there are batches outstanding; then the kept probabilities tell how far (see the objectives of `ppo` and
`reinforce`). A proposal that is never told is never learnt from, and changes nothing else.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nascli.config import PpoConfig, ReinforceConfig
from nascli.engine.device import generator_for
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.controller import Controller

Tokens = tuple[int, ...]
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Log-probabilities now and at sampling, (D, T) each, and advantages, (D, 1), to what is maximised, (D, T)."""

COLLAPSED = 0.05
"""Share of the greatest possible entropy below which the controller counts as collapsed: in the paper's space what is
left are 4 of 84 nats, the same few cells again and again, and no advantage brings the others back."""

_IMITATIONS = 400
"""Passes at most in which the controller imitates given sequences."""


class Policy:
    """A controller, what it sampled, and gradient steps on an objective.

    Args:
        space: What may be proposed.
        config: The numbers of controller and update.
        seed: The run's seed.
        passes: Gradient steps on each batch.
        objective: What a step climbs, the entropy bonus aside.
    """

    def __init__(
        self, space: SearchSpace, config: PpoConfig | ReinforceConfig, seed: int, *, passes: int, objective: Objective
    ) -> None:
        self._config, self._passes, self._objective = config, passes, objective
        weights = generator_for(seed, "controller", "init")
        self.controller = Controller(space.decision_sizes, config.hidden, config.init_range, weights)
        self._generator = generator_for(seed, "controller", "sample")
        self._optimizer = torch.optim.Adam(self.controller.parameters(), lr=config.lr, fused=True)
        self._baseline: float | None = None
        self._sampled: deque[tuple[Tokens, Tensor]] = deque()  # not asked yet
        self._asked: defaultdict[Tokens, deque[Tensor]] = defaultdict(deque)  # not told yet
        self._told: list[tuple[Tokens, Tensor, float]] = []  # not learnt yet
        self.diagnostics: dict[str, float] = {}

    def ask(self) -> Tokens:
        """The next sequence; a batch is sampled at once, and dropped where the controller learns in between."""
        if not self._sampled:
            tokens, log_probs = self.controller.sample(self._config.batch_size, self._generator)
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
        if len(self._told) == self._config.batch_size:
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
            "diagnostics": self.diagnostics,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the policy that gave `state`."""
        self.controller.load_state_dict(state["controller"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self._baseline = state["baseline"]
        self._sampled = deque((tuple(tokens), log_probs) for tokens, log_probs in state["sampled"])
        self._asked = defaultdict(deque, {tuple(tokens): deque(held) for tokens, held in state["asked"]})
        self._told = [(tuple(tokens), log_probs, reward) for tokens, log_probs, reward in state["told"]]
        self.diagnostics = dict(state["diagnostics"])

    def imitate(self, sequences: Sequence[Tokens]) -> None:
        """Make sequences that somebody else found more probable, as far as that carries over to others like them.

        Maximum likelihood by an Adam of its own (the moments of these gradients would choke the steps of the search's)
        on every other sequence, the first included, for as long as those between become more probable too.
        """
        taught, checked = torch.tensor(sequences[::2]), torch.tensor(sequences[1::2])
        if not len(checked):
            return
        optimizer = torch.optim.Adam(self.controller.parameters(), lr=self._config.lr, fused=True)
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
            gain = self._objective(log_probs, sampled_with, advantages).sum(1).mean()
            self._climb(gain + self._config.entropy_weight * entropies.sum(1).mean(), self._optimizer)
        for reward in rewards:
            baseline = self._config.baseline_decay * baseline + (1 - self._config.baseline_decay) * reward
        self._baseline = baseline
        moved = log_probs.detach() - sampled_with
        entropy = float(entropies.detach().sum(1).mean())
        share = entropy_share(entropy, self.controller.sizes)
        self.diagnostics = {
            "updates": self.diagnostics.get("updates", 0) + 1,
            "entropy": entropy,
            "entropy_share": share,
            "collapsed": float(share < COLLAPSED),
            "baseline": baseline,
            "kl": float((moved.exp() - 1 - moved).sum(1).mean()),
        }

    def _climb(self, objective: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (-objective).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), self._config.max_grad_norm)
        optimizer.step()


def entropy_share(entropy: float, sizes: Sequence[int]) -> float:
    """Entropy in nats over the logarithm of the number of sequences: 1 is uniform, 0 always the same one.

    Example:
        >>> entropy_share(math.log(2), (2, 4))
        0.3333333333333333
    """
    most = sum(map(math.log, sizes))
    return entropy / most if most else 1.0
