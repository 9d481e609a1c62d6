"""Running statistics of batch norms, where several processes compute the micro-batches of a batch."""

import torch
from torch import Tensor, nn

from nascli.engine.dist import DistContext


class BatchNormSync:
    """Running statistics as those of one process that computes all micro-batches one after the other.

    A batch norm with momentum m counts the statistics s of a micro-batch as r <- (1 - m) r + m s. Process k of n, whose
    a micro-batches start from r, so ends at q_k. All of them in the order of the processes would have given

        (1 - m)^(a n) r + sum over k of (1 - m)^(a (n - 1 - k)) (q_k - (1 - m)^a r),

    which the processes compute together. One process does nothing.

    Args:
        network: In training mode; the statistics of batch norms that are in evaluation mode even so, as frozen ones,
            must not move, by rounding neither.
    """

    def __init__(self, network: nn.Module, dist: DistContext) -> None:
        norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d) and each.track_running_stats]
        self._norms = [norm for norm in norms if norm.training] if dist.size > 1 else []
        self.dist = dist
        self._before: list[Tensor] = []

    @torch.no_grad()
    def snapshot(self) -> None:
        """Remember the statistics before a step."""
        if self._norms:
            self._before = list(torch._foreach_mul(self._tensors(), 1))  # copies, in a call or two

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the snapshot, so that the micro-batches of a step that failed do not count."""
        if self._norms:
            torch._foreach_copy_(self._tensors(), self._before)

    @torch.no_grad()
    def terms(self, count: int) -> list[Tensor]:
        """The statistics, turned in place into this process's term of the sum above; `count` is a."""
        if not self._norms:
            return []
        tensors, after = self._tensors(), self.dist.size - 1 - self.dist.rank
        torch._foreach_sub_(tensors, torch._foreach_mul(self._before, self._kept(count)))
        torch._foreach_mul_(tensors, self._kept(count * after))
        return tensors

    @torch.no_grad()
    def complete(self, count: int) -> None:
        """Add the first term, (1 - m)^(a n) r, to the sums of the others."""
        if self._norms:
            kept = self._kept(count * self.dist.size)
            torch._foreach_add_(self._tensors(), torch._foreach_mul(self._before, kept))

    def _tensors(self) -> list[Tensor]:
        pairs = ((norm.running_mean, norm.running_var) for norm in self._norms)
        return [tensor for pair in pairs for tensor in pair if tensor is not None]

    def _kept(self, count: int) -> list[float]:
        """(1 - m)^count of each statistic."""
        return [(1 - (norm.momentum or 0.0)) ** count for norm in self._norms for _ in range(2)]
