"""Random changes of batches: crop, flip, cutout, RandAugment, color jitter, mixup and CutMix, by their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from nascli.config import DataConfig
from nascli.data.changes import BatchRng
from nascli.data.color_jitter import color_jitter
from nascli.data.rand_augment import rand_augment
from nascli.data.transforms import Normalizer, augment_batch, mix_batch

BYTES = Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Leaves bytes as they are, divided by 255."""

LUMA = torch.tensor([0.299, 0.587, 0.114])
IQ = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

LABELS = torch.arange(8) % 4
IMAGES = (LABELS.view(-1, 1, 1, 1) * torch.ones(8, 3, 16, 16)).contiguous(memory_format=torch.channels_last)
"""Every pixel is the image's class, so that a mixed image says how much it has of which."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_rng(seed: int) -> BatchRng:
    return BatchRng(generator(seed))


def augment(images: torch.Tensor, seed: int = 0, **settings: float) -> torch.Tensor:
    """The batch as bytes again."""
    config = DataConfig.model_validate(settings)
    return (augment_batch(images, config, BYTES, batch_rng(seed)) * 255).round().to(torch.uint8)


def make_numbered_images(count: int, size: int) -> torch.Tensor:
    """Equal images whose pixels all differ and are not zero."""
    assert size * size <= 250
    one = torch.arange(1, size * size + 1, dtype=torch.uint8).view(1, 1, size, size)
    return one.expand(count, 3, size, size)


@given(padding=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs(padding: int, seed: int) -> None:
    size, count = 7, 1500
    images = make_numbered_images(count, size)
    padded = np.pad(images[0, 0].numpy(), padding)
    windows = {
        padded[top : top + size, left : left + size].tobytes()
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }
    seen = {image.numpy().tobytes() for image in augment(images, seed, crop_padding=padding)[:, 0]}
    assert seen == windows


@given(seed=st.integers(0, 2**40))
def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others(seed: int) -> None:
    images = make_numbered_images(400, 5)
    flipped = augment(images, seed, flip=True)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 140 < int(mirrored.sum()) < 260


@given(side=st.integers(1, 20), size=st.integers(4, 15), seed=st.integers(0, 2**40))
def test_cutout_is_a_square_centered_anywhere_and_clipped(side: int, size: int, seed: int) -> None:
    images = torch.full((200, 3, size, size), 200, dtype=torch.uint8)
    spans = [(max(0, c - side // 2), min(size, c - side // 2 + side)) for c in range(size)]
    possible = {(top, bottom, left, right) for top, bottom in spans for left, right in spans}
    for image in augment(images, seed, cutout=side):
        gone = (image == 0).all(0)
        assert bool((image[:, ~gone] == 200).all())
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        square = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        assert square in possible
        assert int(gone.sum()) == (square[1] - square[0]) * (square[3] - square[2])


def test_cutout_in_the_middle_has_the_whole_area_and_every_center_occurs() -> None:
    size, side = 8, 4
    gone = augment(torch.full((4000, 3, size, size), 9, dtype=torch.uint8), cutout=side)[:, 0] == 0
    assert gone.flatten(1).sum(1).max() == side * side
    assert gone.any(0).all()
    assert len({image.numpy().tobytes() for image in gone}) == size * size


def test_cutout_leaves_the_mean_where_it_cuts() -> None:
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8, generator=generator(1))
    normalizer = Normalizer((0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    assert bool((augment_batch(images, DataConfig(cutout=30), normalizer, batch_rng(0)) == 0).all())


@given(seed=st.integers(0, 2**40), other=st.integers(0, 2**40))
def test_all_random_numbers_follow_from_the_seed(seed: int, other: int) -> None:
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator(1))
    every = {"crop_padding": 2, "flip": True, "cutout": 3, "rand_augment": 1, "color_jitter": 0.5}
    first, again = augment(images, seed, **every), augment(images, seed, **every)
    assert torch.equal(first, again)
    assert torch.equal(first, augment(images, other, **every)) == (seed % 2**32 == other % 2**32)


@given(chosen=st.lists(st.integers(0, 30), min_size=1, max_size=40), seed=st.integers(0, 2**40))
def test_some_images_of_a_batch_are_varied_as_in_the_whole_batch(chosen: list[int], seed: int) -> None:
    images = torch.randint(0, 256, (31, 3, 9, 9), dtype=torch.uint8, generator=generator(1))
    every = DataConfig(crop_padding=2, flip=True, cutout=3, rand_augment=2, color_jitter=1)
    whole = augment_batch(images, every, BYTES, batch_rng(seed))
    places = torch.tensor(chosen)
    part = augment_batch(images[places], every, BYTES, BatchRng(generator(seed), (31, places)))
    torch.testing.assert_close(part, whole[places])


def test_augmentation_leaves_the_global_generator_and_the_images_alone() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=generator(1))
    before, state = images.clone(), torch.get_rng_state()
    augment(images, crop_padding=2, flip=True, cutout=3, rand_augment=2, color_jitter=1)
    augment(images, flip=True)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalizing_is_the_formula_and_gives_channels_last() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=generator(1))
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    numbers = Normalizer(mean, std)(images)
    expected = (images.double() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(numbers.double(), expected, atol=1e-5, rtol=1e-5)
    assert numbers.is_contiguous(memory_format=torch.channels_last)


@given(size=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_how_images_lie_in_memory_makes_no_difference(size: int, seed: int) -> None:
    images = torch.randint(0, 256, (9, 3, size, size), dtype=torch.uint8, generator=generator(1))
    last = images.contiguous(memory_format=torch.channels_last)
    every = DataConfig(crop_padding=2, flip=True, cutout=3, rand_augment=1, color_jitter=1)
    normalizer = Normalizer((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    first, second = (augment_batch(each, every, normalizer, batch_rng(seed)) for each in (images, last))
    torch.testing.assert_close(first, second)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalizer(images), normalizer(last))


def noise(count: int, size: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(1))


@pytest.mark.parametrize("magnitude", [0, 9, 17, 30])
def test_rand_augment_of_one_operation_gives_what_torchvisions_gives_and_every_one_occurs(magnitude: int) -> None:
    image = noise(1)
    theirs = v2.RandAugment(num_ops=1, magnitude=magnitude)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        possible = torch.unique(torch.stack([theirs(image[0]) for _ in range(400)]), dim=0)
    found = torch.unique(rand_augment(image.expand(600, -1, -1, -1), 1, magnitude, batch_rng(2)), dim=0)
    apart = (found[:, None].int() - possible[None].int()).abs().flatten(2).amax(2)  # rounded amounts may differ by 1
    assert int(apart.amin(dim=0).max()) <= 1
    assert int(apart.amin(dim=1).max()) <= 1
    assert len(found) >= (23 if magnitude else 3)


def test_rand_augment_gives_each_image_random_numbers_of_its_own() -> None:
    image = noise(1)
    found = rand_augment(image.expand(64, -1, -1, -1), 2, 9, batch_rng(0))
    assert len(torch.unique(found, dim=0)) > 40
    assert torch.equal(image, noise(1))


def test_what_rand_augment_makes_of_an_image_does_not_depend_on_its_neighbors() -> None:
    images = noise(50)
    others = images.clone()
    others[::2] = 255 - others[::2]
    first, second = (rand_augment(each, 2, 9, batch_rng(3)) for each in (images, others))
    assert torch.equal(first[1::2], second[1::2])
    assert not torch.equal(first[::2], second[::2])


def test_rand_augment_follows_from_the_seed_and_none_is_none() -> None:
    images = noise(32)
    assert torch.equal(rand_augment(images, 2, 9, batch_rng(4)), rand_augment(images, 2, 9, batch_rng(4)))
    assert not torch.equal(rand_augment(images, 2, 9, batch_rng(4)), rand_augment(images, 2, 9, batch_rng(5)))
    assert rand_augment(images, 0, 9, batch_rng(4)) is images


def test_a_recipe_switches_rand_augment_on_after_crop_and_flip() -> None:
    images = noise(32)
    state = torch.get_rng_state()
    plain = DataConfig(crop_padding=2, flip=True)
    before = (augment_batch(images, plain, BYTES, batch_rng(6)) * 255).round().byte()
    asked = plain.model_copy(update={"rand_augment": 2, "rand_augment_magnitude": 5})
    used = generator(6)
    torch.randint(5, (2, 32), generator=used)
    torch.rand(32, generator=used)
    expected = rand_augment(before, 2, 5, BatchRng(used))
    assert torch.equal((augment_batch(images, asked, BYTES, batch_rng(6)) * 255).round().byte(), expected)
    assert torch.equal(torch.get_rng_state(), state)


def plain(count: int, *color: int) -> torch.Tensor:
    """Images of one color."""
    return torch.tensor(color, dtype=torch.uint8).view(1, 3, 1, 1).expand(count, 3, 4, 6)


@given(strength=st.floats(0.05, 1), seed=st.integers(0, 2**40))
def test_the_luma_of_a_plain_image_moves_by_its_brightness_alone(strength: float, seed: int) -> None:
    changed = color_jitter(plain(200, 120, 130, 140), strength, batch_rng(seed))
    assert changed.is_contiguous(memory_format=torch.channels_last)
    moved = (changed.permute(0, 2, 3, 1) @ LUMA) - (LUMA @ torch.tensor([120.0, 130, 140]))
    assert float((moved - moved[:, :1, :1]).abs().max()) < 0.01  # everywhere the same
    assert float(moved.abs().max()) <= 32 * strength + 0.01
    assert float(moved.min()) < -16 * strength
    assert float(moved.max()) > 16 * strength


def test_hue_turns_by_a_fifth_at_most_and_saturation_by_half() -> None:
    color = torch.tensor([140.0, 120, 110])
    changed = color_jitter(plain(2000, 140, 120, 110), 1, batch_rng(0))[:, :, 0, 0]
    (i, q), (i2, q2) = IQ @ color, IQ @ changed.T
    turns = (torch.atan2(q2, i2) - torch.atan2(q, i)).remainder(2 * math.pi) / (2 * math.pi)
    turns = torch.where(turns > 0.5, turns - 1, turns)
    assert -0.2005 < float(turns.min()) < -0.18
    assert 0.18 < float(turns.max()) < 0.2005
    factors = torch.hypot(i2, q2) / torch.hypot(i, q)
    assert 0.495 < float(factors.min()) < 0.53
    assert 1.47 < float(factors.max()) < 1.505


def test_contrast_stretches_about_the_mean_and_grays_stay_gray() -> None:
    images = plain(1000, 120, 120, 120).clone()
    images[:, :, :2] = 136
    changed = color_jitter(images, 1, batch_rng(0))
    assert float((changed - changed.mean(dim=1, keepdim=True)).abs().max()) < 0.05
    spans = changed[:, 0, 0, 0] - changed[:, 0, 3, 0]
    assert 8 - 0.1 < float(spans.min()) < 8.5
    assert 23.5 < float(spans.max()) < 24.1
    assert float((changed.mean(dim=(1, 2, 3)) - 128).abs().max()) <= 32.1  # brightness alone moves the mean


@given(seed=st.integers(0, 2**40))
def test_color_jitter_follows_from_the_seed_and_leaves_the_images(seed: int) -> None:
    images = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8, generator=generator(1))
    before = images.clone()
    first, second = (color_jitter(images, 0.7, batch_rng(seed)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, color_jitter(images, 0.7, batch_rng(seed + 1)))
    assert torch.equal(images, before)
    assert 0 <= float(first.min()) <= float(first.max()) <= 255


@pytest.mark.parametrize("strength", [0.0, 1e-6])
def test_in_a_recipe_color_jitter_comes_before_normalizing(strength: float) -> None:
    images = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8, generator=generator(1))
    normalizer = Normalizer((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    config = DataConfig(color_jitter=strength)
    torch.testing.assert_close(augment_batch(images, config, normalizer, batch_rng(0)), normalizer(images))
    strong = augment_batch(images, DataConfig(color_jitter=1), normalizer, batch_rng(0))
    torch.testing.assert_close(strong, normalizer(color_jitter(images, 1, batch_rng(0))))
    assert not torch.equal(strong, normalizer(images))


def test_mixing_that_is_off_gives_back_what_it_got() -> None:
    images, labels = mix_batch(IMAGES, LABELS, 4, DataConfig())
    assert images is IMAGES
    assert labels is LABELS


@pytest.mark.parametrize("numbers", [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_labels_are_mixed_as_the_images_are(numbers: dict[str, float]) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        images, labels = mix_batch(IMAGES, LABELS, 4, DataConfig.model_validate(numbers))
        assert images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(labels.sum(1), torch.ones(8))
        assert int((labels > 0).sum(1).max()) <= 2
        mean_class = (labels * torch.arange(4)).sum(1)
        torch.testing.assert_close(images.mean((1, 2, 3)), mean_class, atol=1e-5, rtol=0)
    assert IMAGES.mean() == 1.5  # left as they were


def test_mixup_mixes_every_pixel_and_cutmix_a_rectangle() -> None:
    torch.manual_seed(1)
    mixed, _ = mix_batch(IMAGES, LABELS, 4, DataConfig(mixup=1.0))
    assert all(len(image.unique()) == 1 for image in mixed.round(decimals=4))
    cut, _ = mix_batch(IMAGES, LABELS, 4, DataConfig(cutmix=1.0))
    assert {len(image.unique()) for image in cut} <= {1, 2}


def test_mixing_with_a_seed_gives_one_result() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(mix_batch(IMAGES, LABELS, 4, DataConfig(mixup=0.2, cutmix=1.0))[0])
    assert torch.equal(*results)


def test_one_image_has_no_other_to_be_mixed_with() -> None:
    images, labels = mix_batch(IMAGES[:1], LABELS[:1], 4, DataConfig(mixup=1.0))
    assert torch.equal(images, IMAGES[:1])
    assert labels.tolist() == [[1, 0, 0, 0]]
