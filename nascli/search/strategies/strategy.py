"""The protocols of strategies: a strategy proposes and learns, and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nascli.search.front import Point

Tokens = tuple[int, ...]
"""A proposal: one token for each of the space's `decision_sizes`."""

COLLAPSED = 0.05
"""Share of the greatest possible entropy below which a controller counts as collapsed: in the paper's space 4 of 84
nats are left, the same few cells again and again, and no advantage brings the others back."""


class Strategy(Protocol):
    """Proposes decision sequences and learns from their rewards.

    A strategy is a deterministic function of its seed and of what it was told, in order. So it need not be saved: one
    made anew from the same recipe, asked and told the same again, is the same strategy. It touches no random state
    but its own.

    A synchronous caller asks for `batch_size` proposals, tells the reward of each in the order they were asked, then
    asks for the next batch. An asynchronous one keeps some proposals outstanding, tells each as it finishes, in any
    order, and asks whenever a worker is free. Each proposal is told at most once; some never are.
    """

    @property
    def batch_size(self) -> int:
        """Proposals that a synchronous caller asks before it tells their rewards; at least 1."""
        ...

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Figures on the learning so far, by name, for the log; may be empty."""
        ...

    def ask(self) -> Tokens | None:
        """The next proposal; None if there is none left."""
        ...

    def tell(self, tokens: Tokens, reward: float) -> None:
        """The reward of a proposal that was not told yet.

        Args:
            tokens: That proposal; of several equal ones the one that was asked first.
            reward: Finite; that of a failed trial too.
        """
        ...


@runtime_checkable
class MultiObjective(Strategy, Protocol):
    """A strategy that weighs accuracy against cost itself: it is told both, and `tell` by callers that know no cost."""

    def tell_point(self, tokens: Tokens, point: Point | None) -> None:
        """Accuracy and cost of a proposal that was not told yet, in place of `tell`.

        Args:
            tokens: As for `tell`.
            point: None for a trial without them: it failed, was rejected, or its cost was not measured.
        """
        ...


@runtime_checkable
class SeesStops(Strategy, Protocol):
    """A strategy that tells the rewards of trainings that were stopped early from others."""

    def tell_stopped(self, tokens: Tokens, reward: float, share: float) -> None:
        """The reward of a proposal that was not told yet, in place of `tell`.

        Args:
            tokens, reward: As for `tell`.
            share: Of the epochs of a full training, in (0, 1).
        """
        ...


def tell_result(strategy: Strategy, tokens: Tokens, reward: float, point: Point | None, share: float = 1.0) -> None:
    """Tell a strategy the result of a proposal in the way that it takes most of.

    Args:
        strategy, tokens, reward: As for `Strategy.tell`.
        point: As for `MultiObjective.tell_point`.
        share: Of the epochs of a full training after which it was stopped; 1 where it was not.
    """
    if isinstance(strategy, MultiObjective):
        strategy.tell_point(tokens, point)
    elif share < 1 and isinstance(strategy, SeesStops):
        strategy.tell_stopped(tokens, reward, share)
    else:
        strategy.tell(tokens, reward)


@runtime_checkable
class Stateful(Strategy, Protocol):
    """A strategy whose state can be saved, because making it anew takes long."""

    def state(self) -> dict[str, Any]:
        """Everything that asking and telling has changed, as tensors and plain values."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the strategy that gave `state`; this one is new, and made from the same recipe."""
        ...


@runtime_checkable
class Skippable(Strategy, Protocol):
    """A strategy whose proposals of a resumed search need not be made again, because making them takes long."""

    def skip(self, proposals: Sequence[Tokens], diagnostics: Mapping[str, float]) -> None:
        """Become the strategy that has made these proposals; the next call tells a reward.

        Args:
            proposals: All since the last reward that was told.
            diagnostics: Its diagnostics after the last of them.
        """
        ...


@runtime_checkable
class SupportsPretraining(Stateful, Protocol):
    """A strategy that can be shown good sequences before it proposes: the controllers."""

    def imitate(self, sequences: Sequence[Tokens]) -> None:
        """Make such sequences more probable; best first."""
        ...
