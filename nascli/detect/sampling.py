"""The boxes that a detector learns from in a step, in tensors whose shapes are known before their values.

torchvision picks them by masks, and so asks the device each time how many a mask chooses. Here as many are taken for
every image, and some of them do not count.

Shapes: G annotated boxes of an image, A candidates of it (anchors or proposals), K of these that are drawn.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

IGNORED, BACKGROUND = -1, 0
"""Labels of candidates that are not learned from, and of those that show nothing; from 1 on they are of objects."""

LOSS_BETA = 1 / 9
"""Error of a correction from which its loss grows linearly: torchvision's."""


class FixedMatcher(Matcher):  # type: ignore[misc]
    """torchvision's matcher, with the same answers, which asks the device nothing."""

    def __call__(self, match_quality_matrix: Tensor) -> Tensor:
        """For each candidate the annotated box that it overlaps most; negative where it overlaps none enough.

        Args:
            match_quality_matrix: Intersections over unions (G, A), G from 1 on.

        Returns:
            Places (A,) of annotated boxes, `BELOW_LOW_THRESHOLD` or `BETWEEN_THRESHOLDS`.
        """
        best, nearest = match_quality_matrix.max(dim=0)
        far = torch.where(best < self.low_threshold, self.BELOW_LOW_THRESHOLD, self.BETWEEN_THRESHOLDS)
        matches = torch.where(best < self.high_threshold, far, nearest)
        if not self.allow_low_quality_matches:
            return matches
        most = match_quality_matrix == match_quality_matrix.max(dim=1, keepdim=True).values
        return torch.where(most.any(dim=0), nearest, matches)


def match_boxes(matcher: FixedMatcher, candidates: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label the candidates of an image (A, 4) by how much they overlap its annotated boxes (G, 4).

    Args:
        labels: Those of the annotated boxes (G,), from 1 on.

    Returns:
        Labels (A,): of the matched box, `BACKGROUND` or `IGNORED`; and the matched boxes (A, 4), which mean nothing
        where the label is one of these two.
    """
    if not len(boxes):
        return labels.new_zeros(len(candidates)), torch.zeros_like(candidates)
    matches = matcher(box_iou(boxes, candidates))
    places = matches.clamp(min=0)
    none = torch.where(matches == matcher.BELOW_LOW_THRESHOLD, BACKGROUND, IGNORED)
    return torch.where(matches >= 0, labels[places], none), boxes[places]


@dataclass(frozen=True)
class DrawnSamples:
    """Candidates of one image that are drawn to be learned from.

    Args:
        places: Indices of candidates (K,), objects first.
        labels: Their labels (K,), `IGNORED` where there were too few to draw from.
    """

    places: Tensor
    labels: Tensor


def draw_samples(labels: Tensor, count: int, positive_fraction: float) -> DrawnSamples:
    """Draw `count` of an image's candidates: objects up to a fraction, and background for the rest.

    All of a kind are equally likely, as in torchvision. Where there are fewer than `count` to learn from, others fill
    the shape, objects beyond the fraction first, whose label becomes `IGNORED`.

    Args:
        labels: Those of the candidates (A,).

    Returns:
        min(count, A) samples.
    """
    random = torch.rand(len(labels), device=labels.device)
    objects = torch.where(labels > BACKGROUND, random, -1.0)
    most = min(int(count * positive_fraction), len(labels))
    values, places = objects.topk(most)
    # in one order: objects that are drawn, background, objects that are not, what is ignored
    rank = torch.where(labels == BACKGROUND, random + 1, objects)
    rank = rank.index_add(0, places, torch.where(values >= 0, 2.0, 0.0))
    ranks, drawn = rank.topk(min(count, len(labels)))
    return DrawnSamples(drawn, torch.where(ranks >= 1, labels[drawn], IGNORED))


def mean_of_learned(losses: Tensor, labels: Tensor) -> Tensor:
    """The mean of the losses (K,) of those samples whose label is not `IGNORED`; 0 where there is none."""
    learned = labels != IGNORED
    return torch.where(learned, losses, 0.0).sum() / count_learned(labels)


def box_loss(corrections: Tensor, goals: Tensor, labels: Tensor) -> Tensor:
    """The smooth L1 loss of the samples that are objects, per sample that is learned from.

    Args:
        corrections: The detector's answers (K, 4).
        goals: The right answers (K, 4); where a sample is no object even infinity or NaN.
        labels: The labels of the samples (K,).
    """
    # errors, not losses, are replaced: 0 times the gradient of NaN were NaN
    errors = torch.where((labels > BACKGROUND)[:, None], corrections - goals, 0.0)
    total = F.smooth_l1_loss(errors, torch.zeros_like(errors), beta=LOSS_BETA, reduction="sum")
    return total / count_learned(labels)


def count_learned(labels: Tensor) -> Tensor:
    """The number of samples that are learned from, at least 1."""
    return (labels != IGNORED).sum().clamp(min=1)
