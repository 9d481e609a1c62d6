"""Test-time variation: several views of an image, whose probabilities are averaged.

Letters: N images of a batch, H rows, W columns, S side of what the network takes, K classes.
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

CROPS = (1, 5, 10)
"""What can be asked for: the image as it is; four corners and centre; the same five and their mirror images."""


@dataclass(frozen=True)
class Views:
    """Which views of each image a network is asked about.

    Args:
        image_size: S in pixels.
        crops: 1, the image as it is; or 5, the squares of S pixels in the four corners and in the centre.
        flip: The mirror image of each besides.
        padding: Pixels of zeros around an image before the corners are cut.
        cut_from: Side in pixels of what the corners are cut from; S where there is one crop.

    References: Krizhevsky et al. 2012, section 4.1, ten patches of 224 pixels from the central square of 256.
    """

    image_size: int
    crops: int
    flip: bool
    padding: int
    cut_from: int

    @property
    def count(self) -> int:
        """How many views of an image there are."""
        return self.crops * (2 if self.flip else 1)

    def of(self, images: Tensor) -> list[Tensor]:
        """The views of a batch.

        Args:
            images: uint8 (N, 3, H, W) as the split of `plan_views` gives them, with H = W = `cut_from` - 2 `padding`.

        Returns:
            `count` batches (N, 3, S, S); with one crop the images themselves come first.
        """
        views = [images] if self.crops == 1 else self._corners(images)
        return views + [view.flip(3) for view in views] if self.flip else views

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"count": self.count, **asdict(self)}

    def _corners(self, images: Tensor) -> list[Tensor]:
        padded = F.pad(images, [self.padding] * 4) if self.padding else images
        last = padded.shape[2] - self.image_size
        middle = round(last / 2)
        places = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)]
        return [padded[:, :, y : y + self.image_size, x : x + self.image_size] for y, x in places]


def plan_views(split: Split, *, crops: int = 1, flip: bool = False, padding: int = 0) -> tuple[Split, Views]:
    """The views that are asked for, and the split with as much of each image as they need.

    An image that is streamed is brought to the length that `network.json` says (size / crop), the central square of
    that length is kept, and the corners are cut from it. An image in memory has no more than the network's size: it is
    surrounded by as many zeros as in training, and the corners are cut from that.

    Args:
        split: What is measured.
        crops: One of `CROPS`.
        flip: Mirror images too; with 10 crops they are there anyway.
        padding: Zeros on each side that the training knew (`data.crop_padding`); used for images in memory alone.

    Raises:
        InputError: No such number of crops, or there is nothing around the centre that could be cut.
    """
    size = split.image_size
    if crops not in CROPS:
        raise InputError(f"--crops {crops}: possible are {', '.join(map(str, CROPS))}")
    if crops == 1:
        return split, Views(size, 1, flip, 0, size)
    mirrored = flip or crops == 10
    if isinstance(split, ImageFiles):
        whole = _whole_square(split, crops)
        return whole, Views(size, 5, mirrored, 0, whole.image_size)
    if not padding:
        raise InputError(
            f"--crops {crops}: these images are held in memory at the network's own {size} pixels, and the training "
            "put no zeros around them (data.crop_padding), so there are no corners to cut",
            "Leave --crops out; --flip is possible",
        )
    return split, Views(size, 5, mirrored, padding, size + 2 * padding)


def mean_scores(scores: Sequence[Tensor]) -> Tensor:
    """The mean of the views' probabilities, as logits: log((softmax(a) + softmax(b) + ...) / count).

    Args:
        scores: Logits (N, K), one a view; those of a single view are given back as they are.
    """
    if len(scores) == 1:
        return scores[0]
    return torch.stack([F.log_softmax(each, dim=1) for each in scores]).logsumexp(dim=0) - math.log(len(scores))


def _whole_square(files: ImageFiles, crops: int) -> ImageFiles:
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
