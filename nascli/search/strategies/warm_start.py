"""A warm start for a controller: another strategy proposes first, and the controller learns from what it found.

The rule. The first strategy proposes until `trials` of its proposals have been told. Then the controller imitates the
best quarter of the different sequences among them, by maximum likelihood; from there on it proposes and learns alone.

The reason. A controller in its first hundred trials is a uniform sampler that takes a handful of tiny steps: 5 updates
of 20, each on advantages that are mostly noise, and the results are thrown away after each. Maximum likelihood on the
best quarter (one round of the cross-entropy method) uses the ranks of all of them at once, with as many passes as they
bear. What they bear is measured: every other sequence of the quarter is kept aside, and imitation ends as soon as those
do not become more probable as well. So chance likenesses of a few sequences do not collapse the entropy, and a reward
that has nothing to do with the tokens leaves the controller nearly where it was. Rewards of the warm-up do not enter
the baseline: the first batch of the controller is compared with its own mean, as ever.

A result of the first strategy that comes after the start of the controller (asynchronous callers have some) is told to
the first strategy alone: the controller never sampled it, and a gradient weighted as if it had would be biased.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from nascli.search.strategies.strategy import Strategy, SupportsPretraining, Tokens

_BEST_FRACTION = 0.25
"""Share of the different sequences that is imitated, the best ones."""


class WarmStarted:
    """Proposes as `first` until enough is told, then as `then`, which has learned from it.

    Args:
        first: Proposes the warm-up.
        then: Learns from it and proposes all that follows.
        trials: Results of the warm-up. A synchronous caller asks whole batches of `then`, so the warm-up ends with the
            batch in which they are reached.
    """

    def __init__(self, first: Strategy, then: SupportsPretraining, trials: int) -> None:
        self.batch_size = then.batch_size
        self._first, self._then, self._trials = first, then, trials
        self._asked: defaultdict[Tokens, deque[Strategy]] = defaultdict(deque)  # the proposers of what is not told yet
        self._rewards: dict[Tokens, float] = {}
        self._told = 0
        self._warm_up: list[tuple[Tokens, float | None]] = []  # what the first was asked (None) and told, in order

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Those of the strategy that proposes, and the results of the warm-up that are still to come."""
        return {**self._proposer.diagnostics, "warm_start_left": float(self._trials - self._told)}

    def ask(self) -> Tokens | None:
        """A proposal of the strategy whose turn it is."""
        proposer = self._proposer
        tokens = proposer.ask()
        if tokens is not None:
            self._asked[tokens].append(proposer)
            if proposer is self._first:
                self._warm_up.append((tokens, None))
        return tokens

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Tell the strategy that proposed it; with the last result of the warm-up the controller imitates the best."""
        proposer = self._asked[tokens].popleft()
        if not self._asked[tokens]:
            del self._asked[tokens]
        proposer.tell(tokens, reward)
        if proposer is self._first:
            self._warm_up.append((tokens, reward))
        if proposer is self._first and self._told < self._trials:
            self._rewards[tokens] = reward
            self._told += 1
            if self._told == self._trials:
                self._then.imitate(self._best())

    def state(self) -> dict[str, Any]:
        """The calls of the first strategy, which is quick to ask and tell again, and the state of the controller."""
        return {
            "warm_up": self._warm_up,
            "told": self._told,
            "rewards": list(self._rewards.items()),
            "asked": [(tokens, [proposer is self._then for proposer in held]) for tokens, held in self._asked.items()],
            "then": self._then.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the strategy that gave `state`."""
        self._warm_up = [(tuple(tokens), reward) for tokens, reward in state["warm_up"]]
        for tokens, reward in self._warm_up:
            if reward is None:
                self._first.ask()
            else:
                self._first.tell(tokens, reward)
        self._told = state["told"]
        self._rewards = {tuple(tokens): reward for tokens, reward in state["rewards"]}
        for tokens, of_then in state["asked"]:
            self._asked[tuple(tokens)].extend(self._then if each else self._first for each in of_then)
        self._then.load_state(state["then"])

    @property
    def _proposer(self) -> Strategy:
        return self._first if self._told < self._trials else self._then

    def _best(self) -> list[Tokens]:
        """The best share of what was told, best first; of equals the one told first."""
        ranked = sorted(self._rewards, key=lambda tokens: -self._rewards[tokens])
        return ranked[: round(len(ranked) * _BEST_FRACTION)]
