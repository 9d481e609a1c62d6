"""What every strategy owes: it proposes and learns, and nothing else."""

from collections.abc import Mapping
from typing import Protocol


class Strategy(Protocol):
    """Proposes decision sequences and learns from their rewards.

    A strategy is a deterministic function of its seed and of what it was told, in order. So it need not be saved: one
    made anew from the same recipe, asked and told the same again, is the same strategy. It touches no random state
    but its own.

    A synchronous caller asks for `batch_size` proposals, tells the reward of each in the order they were asked, then
    asks for the next batch. An asynchronous one keeps some proposals outstanding, tells each as it finishes, in any
    order, and asks whenever somebody is free. Each proposal is told at most once; some never are.
    """

    @property
    def batch_size(self) -> int:
        """How many proposals a synchronous caller asks before it tells their rewards; at least 1."""
        ...

    def ask(self) -> tuple[int, ...] | None:
        """The next proposal, a token for each of the search space's `decision_sizes`; None if there is none left."""
        ...

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        """The reward of a proposal that was not told yet.

        Args:
            tokens: That proposal; of several equal ones the one that was asked first.
            reward: Finite; that of a failed trial too.
        """
        ...

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """How the learning goes, by name, for the log; may be empty."""
        ...
