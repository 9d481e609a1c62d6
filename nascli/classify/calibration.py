"""Whether a network is as often right as it is sure.

Letters: N images of a batch, M bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""M, as in the paper's tables."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence is in one bin.

    Args:
        above: Lower end of the bin, which is not in it.
        to: Upper end of the bin, which is.
        images: How many there are.
        accuracy: Part of them that is classified right; None without images.
        confidence: Mean confidence; None without images.
    """

    above: float
    to: float
    images: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence in M = 15 bins of equal width.

    An image's confidence is the probability of the class that the network answers; bin m, from 1 to M, holds those in
    ((m - 1) / M, m / M].

    Args:
        sums: float64 (3, M): of each bin the images, those classified right, and the sum of their confidences.

    References: Guo, Pleiss, Sun and Weinberger, 2017, "On Calibration of Modern Neural Networks", section 2.
    """

    sums: Tensor

    @classmethod
    def empty(cls, device: torch.device) -> "Reliability":
        """No images yet."""
        return cls(torch.zeros((3, BINS), dtype=torch.float64, device=device))

    @property
    def error(self) -> float:
        """The expected calibration error: sum over bins of |B_m| / n * |acc(B_m) - conf(B_m)|, equation 3, 0 to 1."""
        images, right, confidence = self.sums
        return float((right - confidence).abs().sum() / images.sum())

    def add(self, labels: Tensor, answers: Tensor, confidences: Tensor) -> None:
        """Count a batch: true and answered classes and the probabilities of the latter, (N,) each."""
        sure = confidences.double()
        bins = (sure * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # (N,)
        right = (labels == answers).double()
        self.sums.index_add_(1, bins, torch.stack([torch.ones_like(sure), right, sure]))

    def bins(self) -> list[ReliabilityBin]:
        """The reliability table, from the least sure to the surest."""
        return [
            ReliabilityBin(
                above=m / BINS,
                to=(m + 1) / BINS,
                images=round(images),
                accuracy=right / images if images else None,
                confidence=confidence / images if images else None,
            )
            for m, (images, right, confidence) in enumerate(self.sums.t().tolist())
        ]
