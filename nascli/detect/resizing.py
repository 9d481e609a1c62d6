"""Images in the size that a detector sees.

Shapes: H and W of an image, C channels.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

Target = dict[str, Tensor]


class ExactTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's transform, with sizes computed in whole numbers.

    torchvision multiplies H and W by a factor and rounds down: of some sizes, one in ten or twenty, the shorter side
    gets a pixel less than `min_size`. Of which depends on the format of the numbers, so that a detector in a file for
    other programs would see other images. Colors and factors of boxes are at hand, where torchvision makes tensors of
    them for each image: copies to a GPU, which all wait for it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *numbers: Any) -> None:  # noqa: ANN401 - torchvision's, in its order
        super().__init__(*numbers)
        for name, values in (("mean", self.image_mean), ("std", self.image_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    @classmethod
    def of(cls, plain: GeneralizedRCNNTransform) -> Self:
        """A transform with the numbers of another."""
        sizes = plain.min_size, plain.max_size
        colors = plain.image_mean, plain.image_std
        return cls(*sizes, *colors, plain.size_divisible, plain.fixed_size)

    def normalize(self, image: Tensor) -> Tensor:
        """An image (3, H, W), from 0 to 1, less the mean colors and divided by their deviations."""
        return (image - self.mean) / self.std

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
            target["boxes"] = scale_boxes(target["boxes"], before, after)
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


def scale_boxes(boxes: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Boxes (n, 4), corners x, y, x, y in pixels, of an image whose H and W change."""
    y, x = (new / old for new, old in zip(after, before, strict=True))
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack((left * x, top * y, right * x, bottom * y), dim=1)
