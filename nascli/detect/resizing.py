"""Images in the size that a detector sees.

Shapes: H and W of an image, C channels.
"""

from typing import Self

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

Target = dict[str, Tensor]


class ExactTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's transform, with sizes computed in whole numbers.

    torchvision multiplies H and W by a factor and rounds down: of some sizes, one in ten or twenty, the shorter side
    gets a pixel less than `min_size`. Of which depends on the format of the numbers, so that a detector in a file for
    other programs would see other images.
    """

    @classmethod
    def of(cls, plain: GeneralizedRCNNTransform) -> Self:
        """A transform with the numbers of another."""
        sizes = plain.min_size, plain.max_size
        colors = plain.image_mean, plain.image_std
        return cls(*sizes, *colors, plain.size_divisible, plain.fixed_size)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        """An image (C, H, W) with its boxes in the size of `choose_size`.

        Args:
            image: Already normalized.
            target: Its `boxes` are replaced, in place.
        """
        before = image.shape[-2:]
        after = self.choose_size(*before)
        resized = F.interpolate(image[None], after, mode="bilinear", align_corners=False)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], before, after)
        return resized, target

    def choose_size(self, height: int, width: int) -> tuple[int, int]:
        """H and W after resizing: the shorter side is `min_size` unless the longer would exceed `max_size`.

        In training the shorter side is one of several, drawn from torch's global random generator.
        """
        if self.fixed_size is not None:
            return self.fixed_size[1], self.fixed_size[0]
        least = self.torch_choice(self.min_size) if self.training else self.min_size[-1]
        shorter, longer = min(height, width), max(height, width)
        if least * longer <= self.max_size * shorter:
            return height * least // shorter, width * least // shorter
        return max(1, height * self.max_size // longer), max(1, width * self.max_size // longer)
