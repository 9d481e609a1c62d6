"""Colour distortion, by its properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import DataConfig
from nascli.data.transforms import BatchRng, Normalizer, augment_batch, color_jitter

LUMA = torch.tensor([0.299, 0.587, 0.114])
IQ = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int) -> BatchRng:
    return BatchRng(generator(seed))


def plain(count: int, *colour: int) -> torch.Tensor:
    """Images of one colour."""
    return torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).expand(count, 3, 4, 6)


@given(strength=st.floats(0.05, 1), seed=st.integers(0, 2**40))
def test_the_luma_of_a_plain_image_moves_by_its_brightness_alone(strength: float, seed: int) -> None:
    changed = color_jitter(plain(200, 120, 130, 140), strength, draws(seed))
    assert changed.is_contiguous(memory_format=torch.channels_last)
    moved = (changed.permute(0, 2, 3, 1) @ LUMA) - (LUMA @ torch.tensor([120.0, 130, 140]))
    assert float((moved - moved[:, :1, :1]).abs().max()) < 0.01  # everywhere the same
    assert float(moved.abs().max()) <= 32 * strength + 0.01
    assert float(moved.min()) < -16 * strength
    assert float(moved.max()) > 16 * strength


def test_hue_turns_by_a_fifth_at_most_and_saturation_by_half() -> None:
    colour = torch.tensor([140.0, 120, 110])
    changed = color_jitter(plain(2000, 140, 120, 110), 1, draws(0))[:, :, 0, 0]
    (i, q), (i2, q2) = IQ @ colour, IQ @ changed.T
    turns = (torch.atan2(q2, i2) - torch.atan2(q, i)).remainder(2 * math.pi) / (2 * math.pi)
    turns = torch.where(turns > 0.5, turns - 1, turns)
    assert -0.2005 < float(turns.min()) < -0.18
    assert 0.18 < float(turns.max()) < 0.2005
    factors = torch.hypot(i2, q2) / torch.hypot(i, q)
    assert 0.495 < float(factors.min()) < 0.53
    assert 1.47 < float(factors.max()) < 1.505


def test_contrast_stretches_about_the_mean_and_greys_stay_grey() -> None:
    images = plain(1000, 120, 120, 120).clone()
    images[:, :, :2] = 136
    changed = color_jitter(images, 1, draws(0))
    assert float((changed - changed.mean(dim=1, keepdim=True)).abs().max()) < 0.05
    spans = changed[:, 0, 0, 0] - changed[:, 0, 3, 0]
    assert 8 - 0.1 < float(spans.min()) < 8.5
    assert 23.5 < float(spans.max()) < 24.1
    assert float((changed.mean(dim=(1, 2, 3)) - 128).abs().max()) <= 32.1  # brightness alone moves the mean


@given(seed=st.integers(0, 2**40))
def test_the_seed_decides_and_the_images_stay(seed: int) -> None:
    images = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8, generator=generator(1))
    before = images.clone()
    first, second = (color_jitter(images, 0.7, draws(seed)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, color_jitter(images, 0.7, draws(seed + 1)))
    assert torch.equal(images, before)
    assert 0 <= float(first.min()) <= float(first.max()) <= 255


@pytest.mark.parametrize("strength", [0.0, 1e-6])
def test_in_a_recipe_it_comes_before_normalising(strength: float) -> None:
    images = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8, generator=generator(1))
    normalizer = Normalizer((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    config = DataConfig(color_jitter=strength)
    torch.testing.assert_close(augment_batch(images, config, normalizer, draws(0)), normalizer(images))
    strong = augment_batch(images, DataConfig(color_jitter=1), normalizer, draws(0))
    torch.testing.assert_close(strong, normalizer(color_jitter(images, 1, draws(0))))
    assert not torch.equal(strong, normalizer(images))
