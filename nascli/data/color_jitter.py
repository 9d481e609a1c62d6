"""Random colors: brightness, contrast, saturation and hue of every image of a batch by one product of matrices."""

import math

import torch
from torch import Tensor

from nascli.data.changes import BatchRng, Change, apply_changes

_BRIGHTNESS = 32.0
_CONTRAST = 0.5
_SATURATION = 0.5
_HUE = 0.2
"""The greatest change at strength 1: of every color; of the factor 1; of the factor 1; in turns."""

_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luma, and two numbers whose plane is that of hue and saturation, of red, green and blue."""


def color_jitter(images: Tensor, strength: float, rng: BatchRng) -> Tensor:
    """Change brightness, contrast, saturation and hue of every image.

    With m the mean color of the image, s the strength and all random numbers uniform, a color x, a row of three numbers
    from 0 to 255, becomes
        (m + f (x - m)) T + d,        f in 1 +- s / 2, d in +-32 s, then clipped to 0 to 255.
    T leaves the luma as it is; in the plane of I and Q (of YIQ) it turns by up to 0.2 s of a circle and multiplies by
    1 +- s / 2: hue and saturation. Each of the four is an affine map of colors, so a batch is one product of matrices;
    they commute, so that no order is drawn.

    From uint8 (N, 3, H, W) to float32 of the same shape, channels last in memory.

    References: Szegedy et al. 2015; the amounts are those of the preprocessing that TensorFlow's models released.
    Deviation: that changes hue and saturation in HSV, which is no affine map.
    """
    return apply_changes(images, [draw_color_jitter(len(images), strength, rng)])


def draw_color_jitter(count: int, strength: float, rng: BatchRng) -> Change:
    """Draw the change of each of `count` images, as for `color_jitter`."""
    amounts = strength * (2 * rng.uniform(count, 4)[..., None, None] - 1)
    brightness, contrast, saturation, hue = amounts  # (N, 1, 1) each
    angle = (2 * math.pi * _HUE * hue).flatten()
    turn = torch.eye(3).repeat(count, 1, 1)  # of rows (Y, I, Q) about Y
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = angle.sin(), -angle.sin()
    turn = (1 + _SATURATION * saturation) * turn
    turn[:, 0, 0] = 1
    to_yiq = torch.tensor(_YIQ).T
    tint = to_yiq @ turn @ to_yiq.inverse()  # T (N, 3, 3)
    return Change((tint, 1 + _CONTRAST * contrast, _BRIGHTNESS * brightness), _change_colors)


def _change_colors(images: Tensor, tint: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    n, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2).float()  # (N, H W, 3)
    offset = (1 - factor) * pixels.mean(dim=1, keepdim=True) @ tint + shift  # (N, 1, 3)
    changed = torch.baddbmm(offset, pixels, factor * tint).clamp_(0, 255)
    return changed.view(n, height, width, 3).permute(0, 3, 1, 2)
