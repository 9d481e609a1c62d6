"""Test-time augmentation: crops and mirror images of an image, whose class probabilities are averaged.

Letters: N images of a batch, H rows, W columns, S side of the network's input, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.data.dataset import Split
from nascli.data.streaming import ImageFiles
from nascli.errors import InputError

CROP_COUNTS = (1, 5, 10)
"""The image as it is; four corners and center; the same five and their mirror images."""


@dataclass(frozen=True)
class TtaTransform:
    """The crops of each image, and their mirror images, over which a prediction is averaged.

    Args:
        image_size: S in pixels.
        crops: 1, the image as it is; or 5, the squares of S pixels in the four corners and in the center.
        flip: The mirror image of each as well.
        padding: Pixels of zeros around an image before the crops are cut.
        cut_from: Side in pixels of the square that the crops are cut from; S with one crop.

    References: Krizhevsky et al. 2012, section 4.1, ten patches of 224 pixels from the central square of 256.
    """

    image_size: int
    crops: int
    flip: bool
    padding: int
    cut_from: int

    @property
    def count(self) -> int:
        """Network inputs per image."""
        return self.crops * (2 if self.flip else 1)

    def apply(self, images: Tensor) -> list[Tensor]:
        """The crops and mirror images of a batch.

        Args:
            images: uint8 (N, 3, H, W) as the split of `plan_tta` gives them, with H = W = `cut_from` - 2 `padding`.

        Returns:
            `count` batches (N, 3, S, S); with one crop the images themselves come first.
        """
        crops = [images] if self.crops == 1 else self._cut_crops(images)
        return crops + [crop.flip(3) for crop in crops] if self.flip else crops

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"count": self.count, **asdict(self)}

    def _cut_crops(self, images: Tensor) -> list[Tensor]:
        padded = F.pad(images, [self.padding] * 4) if self.padding else images
        last = padded.shape[2] - self.image_size
        middle = round(last / 2)
        places = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)]
        return [padded[:, :, y : y + self.image_size, x : x + self.image_size] for y, x in places]


def plan_tta(split: Split, *, crops: int = 1, flip: bool = False, padding: int = 0) -> tuple[Split, TtaTransform]:
    """Plan the augmentation that is asked for; the split then yields as much of each image as it needs.

    A streamed image is resized to the length in `network.json` (size / crop), and the crops are cut from the central
    square of that length. An image in memory is no larger than the network's input: it is padded with as many zeros as
    in training, and the crops are cut from that.

    Args:
        split: The images to evaluate.
        crops: One of `CROP_COUNTS`.
        flip: Mirror images as well; with 10 crops they are included anyway.
        padding: Zeros on each side in training (`data.crop_padding`); used for images in memory only.

    Raises:
        InputError: No such number of crops, or there is nothing around the center that could be cut.
    """
    size = split.image_size
    if crops not in CROP_COUNTS:
        raise InputError(f"--crops {crops}: possible are {', '.join(map(str, CROP_COUNTS))}")
    if crops == 1:
        return split, TtaTransform(size, 1, flip, 0, size)
    mirrored = flip or crops == 10
    if isinstance(split, ImageFiles):
        whole = _keep_square(split, crops)
        return whole, TtaTransform(size, 5, mirrored, 0, whole.image_size)
    if not padding:
        raise InputError(
            f"--crops {crops}: these images are held in memory at the network's own {size} pixels, and the training "
            "put no zeros around them (data.crop_padding), so there are no corners to cut",
            "Leave --crops out; --flip is possible",
        )
    return split, TtaTransform(size, 5, mirrored, padding, size + 2 * padding)


def average_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logits of the mean probabilities: log((softmax(a) + softmax(b) + ...) / count).

    Args:
        logits: (N, K) each; a single one is returned as it is.
    """
    if len(logits) == 1:
        return logits[0]
    return torch.stack([F.log_softmax(each, dim=1) for each in logits]).logsumexp(dim=0) - math.log(len(logits))


def _keep_square(files: ImageFiles, crops: int) -> ImageFiles:
    """The same images, each as the central square of the length that it is resized to."""
    crop = files.preprocessing.crop
    length = round(files.image_size / crop)
    if length <= files.image_size:
        raise InputError(
            f"--crops {crops}: the network takes the whole image (network.json: preprocessing.crop = {crop:g}), so "
            "there are no corners to cut",
            "Leave --crops out; --flip is possible",
        )
    return replace(files, image_size=length, preprocessing=files.preprocessing.model_copy(update={"crop": 1.0}))
