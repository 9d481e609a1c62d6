"""The second half of a detector: torchvision's, trained with next to no waiting for the device.

Shapes: M samples of all images, K classes and the background.

References: Girshick 2015, "Fast R-CNN", section 2.3; the numbers that are not passed in are torchvision's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from nascli.detect.box_coder import NumberBoxCoder
from nascli.detect.proposals import is_large_enough
from nascli.detect.resizing import Target
from nascli.detect.sampling import IGNORED, FixedMatcher, box_loss, draw_samples, match_boxes, mean_of_learned

_CORRECTION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class SampledRoIHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's, with the same answers and losses; what is learned from is drawn in tensors of fixed shape.

    Where an image has fewer to learn from than `batch_size_per_image`, others are cropped as well and do not count in
    the losses. They do in the statistics of batch norms, if those of the box head are not frozen.

    Args:
        roi_pool: Maps and proposals to crops.
        box_head: Crops to vectors.
        box_predictor: Vectors to logits (M, K + 1) and corrections (M, 4 (K + 1)).
        batch_size_per_image: Proposals of an image that are learned from.
        score_thresh: Least score of a box that is found.
        nms_thresh: Intersection over union from which the better of two boxes of a class is kept.
        detections_per_img: Boxes of an image that are found at most.
    """

    def __init__(
        self,
        roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        *,
        batch_size_per_image: int,
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
    ) -> None:
        super().__init__(
            roi_pool,
            box_head,
            box_predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=batch_size_per_image,
            positive_fraction=0.25,
            bbox_reg_weights=_CORRECTION_WEIGHTS,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
        )
        self.box_coder = NumberBoxCoder(_CORRECTION_WEIGHTS)
        self.proposal_matcher = FixedMatcher(0.5, 0.5)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Boxes, labels and scores of each image; in training two losses instead."""
        if not self.training:
            found: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes
            )
            return found
        assert targets is not None
        drawn = [self._draw(own, target) for own, target in zip(proposals, targets, strict=True)]
        boxes, labels_of_each, goals_of_each = zip(*drawn, strict=True)
        labels, goals = torch.cat(labels_of_each), torch.cat(goals_of_each)
        logits, corrections = self.box_predictor(self.box_head(self.box_roi_pool(features, list(boxes), image_shapes)))
        classes = labels.clamp(min=0)
        rows = torch.arange(len(labels), device=labels.device)
        missed = F.cross_entropy(logits, classes, reduction="none")
        return [], {
            "loss_classifier": mean_of_learned(missed, labels),
            "loss_box_reg": box_loss(corrections.unflatten(1, (-1, 4))[rows, classes], goals, labels),
        }

    def _draw(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from an image's proposals and annotated boxes those to learn from: boxes, labels, wanted corrections."""
        candidates = torch.cat((proposals, target["boxes"]))
        labels, matched = match_boxes(self.proposal_matcher, candidates, target["boxes"], target["labels"])
        labels = torch.where(is_large_enough(candidates), labels, IGNORED)
        sampler = self.fg_bg_sampler
        drawn = draw_samples(labels, sampler.batch_size_per_image, sampler.positive_fraction)
        boxes = candidates[drawn.places]
        return boxes, drawn.labels, self.box_coder.encode_single(matched[drawn.places], boxes)
