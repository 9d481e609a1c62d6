"""A trained detector as one function of an image, which exporters can follow.

Shapes: H and W of an image, C channels, S side of a crop, P proposals, M boxes.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, nms

from nascli.detect.engines import AnsweringBackbone, AnsweringProposals, BoxHead, ProposingBackbone
from nascli.detect.resizing import ExactTransform
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.settle import settle_padding

_SIDE = 64
"""Pixels of the square that paddings are taken from: torchvision pads images to multiples of 32."""

_LEAST_SIDE = 1e-2
"""Pixels; torchvision drops boxes that are smaller."""


class WholeDetector(nn.Module):
    """A detector whose graph, once it was traced, serves any H and W.

    Networks are folded. Proposals, crops and corrections of boxes are torchvision's, which can be traced; boxes are
    chosen here by its rules.

    Args:
        detector: From `build_detector`, on the CPU; it is left as it is.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        whole: Any = copy.deepcopy(detector).eval().requires_grad_(False)
        whole.to(memory_format=torch.contiguous_format)
        self.transform = _TracedTransform.of(whole.transform).eval()
        pool, channels = whole.roi_heads.box_roi_pool, whole.backbone.out_channels
        side = pool.output_size[0] if isinstance(pool, MultiScaleRoIAlign) else pool.size
        images, crops = fold(ProposingBackbone(whole)), fold(BoxHead(whole))
        settle_padding(images, torch.zeros(1, 3, _SIDE, _SIDE))
        settle_padding(crops, torch.zeros(1, channels, side, side))
        self.backbone, self.rpn, self.heads = AnsweringBackbone(images, channels), whole.rpn, whole.roi_heads
        self.rpn.head, self.heads.box_head = AnsweringProposals(self.backbone), crops

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """An image (3, H, W) in [0, 1] to its boxes.

        Returns:
            Corners (M, 4) in pixels of the image, labels (M,) from 1 on and scores (M,), best first.
        """
        images, _ = self.transform([image])
        maps = self.backbone(images.tensors)
        proposals, _ = self.rpn(images, maps)
        crops = self.heads.box_roi_pool(maps, proposals, images.image_sizes)  # (P, C, S, S)
        logits, corrections = self.heads.box_predictor(self.heads.box_head(crops))
        (size,) = images.image_sizes
        boxes = clip_boxes_to_image(self.heads.box_coder.decode(corrections, proposals), size)  # (P, classes, 4)
        boxes, labels, scores = self._choose(boxes, F.softmax(logits, -1))
        return resize_boxes(boxes, size, image.shape[-2:]), labels, scores

    def _choose(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best boxes of each class that are not much like a better one; the first class is the background."""
        labels = torch.arange(scores.shape[1])[None].expand_as(scores)
        boxes, scores, labels = boxes[:, 1:].reshape(-1, 4), scores[:, 1:].reshape(-1), labels[:, 1:].reshape(-1)
        sides = boxes[:, 2:] - boxes[:, :2]
        (kept,) = torch.where((scores > self.heads.score_thresh) & (sides >= _LEAST_SIDE).all(1))
        # from no boxes OpenVINO would choose one: an empty box is added, which is the last that is chosen
        boxes = torch.cat([boxes[kept], boxes.new_zeros(1, 4)])
        scores = torch.cat([scores[kept], scores.new_full((1,), -1)])
        labels = torch.cat([labels[kept], labels.new_zeros(1)])
        apart = labels.to(boxes) * (boxes.max() + 1)  # boxes of different classes do not overlap any more
        best = nms(boxes + apart[:, None], scores, self.heads.nms_thresh)[:-1][: self.heads.detections_per_img]
        return boxes[best], labels[best], scores[best]


class _TracedTransform(ExactTransform):
    """The transform with sizes that are computed from H and W in the graph."""

    def choose_size(self, height: Any, width: Any) -> tuple[Any, Any]:  # noqa: ANN401 - integers, tensors while traced
        """H and W after resizing, as integers or tensors."""
        if self.fixed_size is not None:
            return super().choose_size(height, width)
        sides = torch.stack([torch.as_tensor(height), torch.as_tensor(width)])
        shorter, longer, least = sides.min(), sides.max(), self.min_size[-1]
        fits = least * longer <= self.max_size * shorter
        times, over = torch.where(fits, least, self.max_size), torch.where(fits, shorter, longer)
        after = torch.div(sides * times, over, rounding_mode="floor").clamp(min=1)
        return after[0], after[1]
