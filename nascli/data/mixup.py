"""Images of a batch mixed with each other, and their labels with them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import DataConfig


def mix_batch(images: Tensor, labels: Tensor, classes: int, augmentation: DataConfig) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix, as `augmentation` says; with both, one of them by a fair coin for each batch.

    Mixup: l x + (1 - l) x', where x' is the batch moved on by one image and l is drawn from Beta(alpha, alpha), once a
    batch. Cutmix pastes a rectangle of x' instead, whose part of the area is 1 - l before it is clipped at the border.
    Labels are mixed in the same parts.

    Args:
        images: float32 (N, 3, H, W), normalised.
        labels: int64 (N,).
        classes: How many there are.
        augmentation: Its `mixup` and `cutmix` are read; 0 is off.

    Returns:
        The images, channels last in memory, and the labels: as they came where both are off, else probabilities,
        float32 (N, classes). BatchRng come from torch's global generator.

    References: Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix"; computed by torchvision.
    """
    if not augmentation.mixup and not augmentation.cutmix:
        return images, labels
    from torchvision.transforms import v2  # takes a second to import, and most runs do not mix

    kinds = ((augmentation.mixup, v2.MixUp), (augmentation.cutmix, v2.CutMix))
    mixes = [kind(alpha=alpha, num_classes=classes) for alpha, kind in kinds if alpha]
    if len(images) < 2:
        return images, F.one_hot(labels, classes).to(images.dtype)
    chosen = mixes[int(torch.randint(len(mixes), ()))]
    mixed, probabilities = chosen(images, labels)
    return mixed.contiguous(memory_format=torch.channels_last), probabilities.to(images.dtype)
