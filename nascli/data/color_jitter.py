"""Colour distortion of a whole batch, each image by its own draws.

Brightness, contrast, saturation and hue are each an affine map of colours, so that the four of an image are one such
map, and a batch is one product of matrices. They commute: there is no order to be drawn.

Letters: N images, H rows, W columns. A colour is a row of three numbers from 0 to 255.
"""

import math

import torch
from torch import Tensor

from nascli.data.batch_rng import BatchRng

_BRIGHTNESS = 32.0
_CONTRAST = 0.5
_SATURATION = 0.5
_HUE = 0.2
"""The greatest change at strength 1: of every colour; of the factor 1; of the factor 1; in turns."""

_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luma, and two numbers whose plane is that of hue and saturation, of red, green and blue."""


def distort_colours(images: Tensor, strength: float, draws: BatchRng) -> Tensor:
    """Change brightness, contrast, saturation and hue of every image, each by an amount of its own.

    With m the mean colour of the image, all draws uniform and s the strength, a colour x becomes
        (m + f (x - m)) T + d,        f in 1 +- s / 2, d in +-32 s, then clipped to 0 to 255.
    T leaves the luma as it is; in the plane of I and Q (of YIQ) it turns by up to 0.2 s of a circle and multiplies by
    1 +- s / 2: hue and saturation.

    Args:
        images: uint8 (N, 3, H, W).
        strength: s, 0 to 1.
        draws: For these images.

    Returns:
        float32 (N, 3, H, W), channels last in memory.

    References: Szegedy et al. 2015; the amounts are those of the preprocessing that TensorFlow's models released.
    Deviation: that changes hue and saturation in HSV, which is no affine map.
    """
    n, _, height, width = images.shape
    amounts = strength * (2 * draws.uniform(n, 4)[..., None, None] - 1)
    brightness, contrast, saturation, hue = amounts  # (N, 1, 1) each
    turned = (1 + _SATURATION * saturation) * _turn(2 * math.pi * _HUE * hue)
    turned[:, 0, 0] = 1
    to_yiq = torch.tensor(_YIQ).T
    tint = (to_yiq @ turned @ to_yiq.inverse()).to(images.device)  # T (N, 3, 3)
    factor, shift = (1 + _CONTRAST * contrast).to(images.device), (_BRIGHTNESS * brightness).to(images.device)
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2).float()  # (N, H W, 3)
    offset = (1 - factor) * pixels.mean(dim=1, keepdim=True) @ tint + shift  # (N, 1, 3)
    changed = torch.baddbmm(offset, pixels, factor * tint).clamp_(0, 255)
    return changed.view(n, height, width, 3).permute(0, 3, 1, 2)


def _turn(angle: Tensor) -> Tensor:
    """The maps (N, 3, 3) that turn rows (Y, I, Q) about Y by angles (N, 1, 1)."""
    cosine, sine = angle.cos().flatten(), angle.sin().flatten()
    turn = torch.eye(3).repeat(len(angle), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = cosine
    turn[:, 1, 2], turn[:, 2, 1] = sine, -sine
    return turn
