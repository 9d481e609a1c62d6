"""The proposal network of a detector: torchvision's, trained with next to no waiting for the device.

Shapes: N images, A anchors of an image, T of them with the highest objectness, P proposals of an image.

References: Ren et al. 2015, "Faster R-CNN", section 3.1; the numbers are torchvision's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image, nms

from nascli.detect.box_coder import NumberBoxCoder
from nascli.detect.resizing import Target
from nascli.detect.sampling import FixedMatcher, box_loss, draw_samples, match_boxes, mean_of_learned

LEAST_SIDE = 1e-3
"""Pixels of the shorter side from which a proposal counts."""


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's, with the same answers and losses; what differs is how the boxes of a training step are picked.

    torchvision takes boxes by masks and asks the device each time how many there are. Here those that do not count
    stay, which `draw_samples` and `LEAST_SIDE` tell; and only anchors with the highest objectness are corrected.

    Args:
        anchors: Makes the A anchors of an image from the sizes of its maps.
        head: Maps to objectness and corrections of the anchors.
        pre_nms_top_n: Best anchors per map and image that are compared, in training and in inference.
        post_nms_top_n: P at most.
    """

    def __init__(
        self, anchors: AnchorGenerator, head: nn.Module, pre_nms_top_n: tuple[int, int], post_nms_top_n: int
    ) -> None:
        phases, low, high = ("training", "testing"), 0.3, 0.7
        super().__init__(
            anchors,
            head,
            fg_iou_thresh=high,
            bg_iou_thresh=low,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(phases, pre_nms_top_n, strict=True)),
            post_nms_top_n=dict.fromkeys(phases, post_nms_top_n),
            nms_thresh=0.7,
        )
        self.min_size = LEAST_SIDE
        self.box_coder = NumberBoxCoder((1.0, 1.0, 1.0, 1.0))
        self.proposal_matcher = FixedMatcher(high, low, allow_low_quality_matches=True)

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals (P, 4) of each image, corners in its pixels, best first; in training two losses as well.

        In training the last of them may be too small to count, as `is_large_enough` tells.
        """
        if not self.training:
            found: tuple[list[Tensor], dict[str, Tensor]] = super().forward(images, features)
            return found
        assert targets is not None
        maps = list(features.values())
        scores_by_map, corrections_by_map = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        flat, corrections = concat_box_prediction_layers(scores_by_map, corrections_by_map)
        objectness, corrections = flat.view(len(anchors), -1), corrections.view(len(anchors), -1, 4)
        counts = [each[0].numel() for each in scores_by_map]
        with torch.no_grad():
            proposals = self._propose(objectness, corrections, anchors, images.image_sizes, counts)
        return proposals, self._measure_losses(objectness, corrections, anchors, targets)

    def _propose(
        self,
        objectness: Tensor,
        corrections: Tensor,
        anchors: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        counts: Sequence[int],
    ) -> list[Tensor]:
        """The best boxes of each image, those apart that are much like a better one.

        Args:
            objectness: Logits (N, A).
            corrections: Changes to the anchors (N, A, 4).
            anchors: The anchors of each image (A, 4).
            sizes: H and W of each image.
            counts: Anchors of each map.
        """
        most = self.pre_nms_top_n()
        find_apart = find_apart_by_level if objectness.device.type == "cpu" else find_apart_at_once
        best = self._get_top_n_idx(objectness, counts)  # (N, T), map by map
        kept_counts = [min(most, count) for count in counts]
        proposals = []
        for places, logits, changes, own, size in zip(best, objectness, corrections, anchors, sizes, strict=True):
            boxes = clip_boxes_to_image(self.box_coder.decode_single(changes[places], own[places]), size)
            counting = is_large_enough(boxes)
            boxes = torch.where(counting[:, None], boxes, 0.0)  # they are cropped like others: NaN would be no place
            scores = torch.where(counting, torch.sigmoid(logits[places]), -1.0)  # the last that are compared
            apart = find_apart(boxes, scores, kept_counts, self.nms_thresh)
            proposals.append(boxes[apart[: self.post_nms_top_n()]])
        return proposals

    def _measure_losses(
        self, objectness: Tensor, corrections: Tensor, anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Whether an anchor shows an object, and how it is to be corrected, each a mean over drawn anchors."""
        logits, answers, goals, labels = [], [], [], []
        for scores, changes, own, target in zip(objectness, corrections, anchors, targets, strict=True):
            boxes = target["boxes"]
            of_anchors, matched = match_boxes(self.proposal_matcher, own, boxes, torch.ones_like(target["labels"]))
            drawn = draw_samples(
                of_anchors, self.fg_bg_sampler.batch_size_per_image, self.fg_bg_sampler.positive_fraction
            )
            logits.append(scores[drawn.places])
            answers.append(changes[drawn.places])
            goals.append(self.box_coder.encode_single(matched[drawn.places], own[drawn.places]))
            labels.append(drawn.labels)
        of_all = torch.cat(labels)
        wanted = of_all.clamp(min=0).to(objectness.dtype)
        missed = F.binary_cross_entropy_with_logits(torch.cat(logits), wanted, reduction="none")
        return {
            "loss_objectness": mean_of_learned(missed, of_all),
            "loss_rpn_box_reg": box_loss(torch.cat(answers), torch.cat(goals), of_all),
        }


def is_large_enough(boxes: Tensor) -> Tensor:
    """Whether boxes (P, 4) count as proposals, (P,): no side is shorter than `LEAST_SIDE`."""
    return (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(dim=1)


def find_apart_by_level(boxes: Tensor, scores: Tensor, counts: Sequence[int], most: float) -> Tensor:
    """Places of the boxes that overlap no better one of their map by more than `most`, the best first.

    Map by map, which compares fewest: the way for a CPU.

    Args:
        boxes: The boxes of one image (T, 4), map by map.
        scores: Their scores (T,).
        counts: Boxes per map.
        most: Intersection over union.
    """
    starts = [sum(counts[:k]) for k in range(len(counts))]
    of_maps = zip(starts, torch.split(boxes, list(counts)), torch.split(scores, list(counts)), strict=True)
    apart = torch.cat([start + nms(own, best, most) for start, own, best in of_maps])
    return apart[scores[apart].argsort(descending=True)]


def find_apart_at_once(boxes: Tensor, scores: Tensor, counts: Sequence[int], most: float) -> Tensor:
    """The same with all maps compared at once: the way for a GPU, as each comparison waits for its end.

    Boxes are moved so that those of two maps do not touch, as torchvision does; that rounds them.
    """
    maps = torch.cat([boxes.new_full((count,), k) for k, count in enumerate(counts)])
    apart: Tensor = nms(boxes + (maps * (boxes.max() + 1))[:, None], scores, most)
    return apart
