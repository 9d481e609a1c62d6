"""Crops of proposals from the levels of a feature pyramid.

Shapes: C channels of every map, M proposals of all images, S side of a crop.

References: Lin et al. 2017, "Feature Pyramid Networks", section 4.2: the rule by which a proposal has its level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

_SAMPLES = 2
"""Samples of a crop's pixel in each direction."""


class PyramidRoIPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's, with the same crops.

    torchvision guesses the strides from the first images it sees, and wrongly where they are small and padded: a
    resumed training would see others first. And it asks the device for each level which proposals belong to it; in
    training here it is asked once for all levels.

    Args:
        names: Of the maps, the one with the least stride first.
        strides: Theirs, in pixels of the image.
        size: S, in pixels.
    """

    def __init__(self, names: Sequence[str], strides: Sequence[int], size: int) -> None:
        super().__init__(list(names), size, _SAMPLES)
        self.scales = [1 / stride for stride in strides]
        self.map_levels = LevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Maps by name and each image's proposals, corners in pixels, to crops (M, C, S, S)."""
        if not self.training or len(self.featmap_names) == 1:
            whole: Tensor = super().forward(x, boxes, image_shapes)
            return whole
        maps, rois = [x[name] for name in self.featmap_names], convert_boxes_to_roi_format(boxes)
        levels = self.map_levels(boxes)  # (M,)
        order = levels.argsort()
        numbers = torch.arange(len(maps), device=levels.device)
        counts = (levels[:, None] == numbers).sum(dim=0).tolist()
        by_level = torch.cat(
            [
                roi_align(own, of_level, self.output_size, scale, self.sampling_ratio).to(maps[0].dtype)
                for own, of_level, scale in zip(maps, rois[order].split(counts), self.scales, strict=True)
            ]
        )
        return torch.empty_like(by_level).index_copy(0, order, by_level)
