"""Calibration: the expected calibration error (ECE) and the bins of the reliability diagram.

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
        above: Lower end of the bin, exclusive.
        to: Upper end of the bin, inclusive.
        images: Images in the bin.
        accuracy: Fraction of them that is classified correctly; None without images.
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

    An image's confidence is the probability of the predicted class; bin m, from 1 to M, holds those in
    ((m - 1) / M, m / M].

    Args:
        sums: float64 (3, M): per bin the images, the correctly classified ones, and the sum of their confidences.

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
        images, correct, confidence = self.sums
        return float((correct - confidence).abs().sum() / images.sum())

    def add(self, labels: Tensor, predictions: Tensor, confidences: Tensor) -> None:
        """Count a batch: true and predicted classes and the probabilities of the latter, (N,) each."""
        confidences = confidences.double()
        bins = (confidences * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # (N,)
        correct = (labels == predictions).double()
        self.sums.index_add_(1, bins, torch.stack([torch.ones_like(confidences), correct, confidences]))

    def bins(self) -> list[ReliabilityBin]:
        """The bins by rising confidence."""
        return [
            ReliabilityBin(
                above=m / BINS,
                to=(m + 1) / BINS,
                images=round(images),
                accuracy=correct / images if images else None,
                confidence=confidence / images if images else None,
            )
            for m, (images, correct, confidence) in enumerate(self.sums.t().tolist())
        ]
