"""What every strategy owes: it proposes and learns, and nothing else."""

from collections.abc import Mapping
from typing import Protocol


class Strategy(Protocol):
    """Proposes decision sequences and learns from their rewards.

    A strategy is a deterministic function of its seed and of what it was told, in order. So it need not be saved: one
    made anew from the same recipe, asked and told the same again, is the same strategy. It touches no random state
    but its own.

    The caller asks for `batch_size` proposals, tells the reward of each in the order they were asked, then asks for the
    next batch. Each proposal is told once; a last batch that is not full is not told.
    """

    @property
    def batch_size(self) -> int:
        """How many proposals may be asked before the rewards of the earlier ones are told; at least 1."""
        ...

    def ask(self) -> tuple[int, ...]:
        """The next proposal: 10B tokens, each in the range that the search space's `decision_sizes` gives."""
        ...

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        """The reward of the earliest proposal that was not told yet.

        Args:
            tokens: That proposal, for a strategy that keeps no list of its own.
            reward: Finite; that of a failed trial too.
        """
        ...

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """How the learning goes, by name, for the log; may be empty."""
        ...
