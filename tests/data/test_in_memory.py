"""Whole-batch augmentation, normalising and splitting, by their properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import DataConfig
from nascli.data.dataset import split_holdout
from nascli.data.in_memory import ImageArray, measure_colors
from nascli.data.transforms import BatchRng, Normalizer, augment_batch

BYTES = Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Leaves bytes as they are, divided by 255."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int) -> BatchRng:
    return BatchRng(generator(seed))


def augmented(images: torch.Tensor, seed: int = 0, **settings: float) -> torch.Tensor:
    """The batch as bytes again."""
    config = DataConfig.model_validate(settings)
    return (augment_batch(images, config, BYTES, draws(seed)) * 255).round().to(torch.uint8)


def numbered(count: int, size: int) -> torch.Tensor:
    """Equal images whose pixels all differ and are not zero."""
    assert size * size <= 250
    one = torch.arange(1, size * size + 1, dtype=torch.uint8).view(1, 1, size, size)
    return one.expand(count, 3, size, size)


@given(padding=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs(padding: int, seed: int) -> None:
    size, count = 7, 1500
    images = numbered(count, size)
    padded = np.pad(images[0, 0].numpy(), padding)
    windows = {
        padded[top : top + size, left : left + size].tobytes()
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }
    seen = {image.numpy().tobytes() for image in augmented(images, seed, crop_padding=padding)[:, 0]}
    assert seen == windows


@given(seed=st.integers(0, 2**40))
def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others(seed: int) -> None:
    images = numbered(400, 5)
    flipped = augmented(images, seed, flip=True)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 140 < int(mirrored.sum()) < 260


@given(side=st.integers(1, 20), size=st.integers(4, 15), seed=st.integers(0, 2**40))
def test_cutout_is_a_square_centred_anywhere_and_clipped(side: int, size: int, seed: int) -> None:
    images = torch.full((200, 3, size, size), 200, dtype=torch.uint8)
    spans = [(max(0, c - side // 2), min(size, c - side // 2 + side)) for c in range(size)]
    possible = {(top, bottom, left, right) for top, bottom in spans for left, right in spans}
    for image in augmented(images, seed, cutout=side):
        gone = (image == 0).all(0)
        assert bool((image[:, ~gone] == 200).all())
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        square = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        assert square in possible
        assert int(gone.sum()) == (square[1] - square[0]) * (square[3] - square[2])


def test_cutout_in_the_middle_has_the_whole_area_and_every_centre_occurs() -> None:
    size, side = 8, 4
    gone = augmented(torch.full((4000, 3, size, size), 9, dtype=torch.uint8), cutout=side)[:, 0] == 0
    assert gone.flatten(1).sum(1).max() == side * side
    assert gone.any(0).all()
    assert len({image.numpy().tobytes() for image in gone}) == size * size


def test_cutout_leaves_the_mean_where_it_cuts() -> None:
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8, generator=generator(1))
    normalizer = Normalizer((0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    assert bool((augment_batch(images, DataConfig(cutout=30), normalizer, draws(0)) == 0).all())


@given(seed=st.integers(0, 2**40), other=st.integers(0, 2**40))
def test_all_draws_follow_from_the_seed(seed: int, other: int) -> None:
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator(1))
    every = {"crop_padding": 2, "flip": True, "cutout": 3, "rand_augment": 1, "color_jitter": 0.5}
    first, again = augmented(images, seed, **every), augmented(images, seed, **every)
    assert torch.equal(first, again)
    assert torch.equal(first, augmented(images, other, **every)) == (seed % 2**32 == other % 2**32)


@given(chosen=st.lists(st.integers(0, 30), min_size=1, max_size=40), seed=st.integers(0, 2**40))
def test_some_images_of_a_batch_are_varied_as_in_the_whole_batch(chosen: list[int], seed: int) -> None:
    images = torch.randint(0, 256, (31, 3, 9, 9), dtype=torch.uint8, generator=generator(1))
    every = DataConfig(crop_padding=2, flip=True, cutout=3, rand_augment=2, color_jitter=1)
    whole = augment_batch(images, every, BYTES, draws(seed))
    places = torch.tensor(chosen)
    part = augment_batch(images[places], every, BYTES, BatchRng(generator(seed), (31, places)))
    torch.testing.assert_close(part, whole[places])


def test_augmentation_leaves_the_global_generator_and_the_images_alone() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=generator(1))
    before, state = images.clone(), torch.get_rng_state()
    augmented(images, crop_padding=2, flip=True, cutout=3, rand_augment=2, color_jitter=1)
    augmented(images, flip=True)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalising_is_the_formula_and_gives_channels_last() -> None:
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
    first, second = (augment_batch(each, every, normalizer, draws(seed)) for each in (images, last))
    torch.testing.assert_close(first, second)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalizer(images), normalizer(last))


def test_colours_are_measured_over_all_pixels() -> None:
    images = torch.randint(0, 256, (5000, 3, 4, 4), dtype=torch.uint8, generator=generator(1))
    images[:, 2] = 51
    mean, std = measure_colors(images)
    numbers = images.double().numpy() / 255
    assert mean == pytest.approx(numbers.mean((0, 2, 3)), rel=1e-12)
    assert std[:2] == pytest.approx(numbers.std((0, 2, 3))[:2], rel=1e-9)
    assert std[2] == 1.0


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 1000),
)
def test_a_holdout_takes_its_part_of_every_class_and_loses_nothing(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    images = torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 3, 1, 1).to(torch.uint8)
    train, held = split_holdout(ImageArray(images, labels), fraction, seed)
    together = torch.cat([train.images, held.images])[:, 0, 0, 0]
    assert sorted(together.tolist()) == list(range(len(labels)))
    assert bool((labels[train.images[:, 0, 0, 0].long()] == train.labels).all())
    for k, n in enumerate(counts):
        taken = int((held.labels == k).sum())
        assert taken == min(max(1, round(n * fraction)), n - 1)


def test_a_holdout_follows_from_its_seed() -> None:
    array = ImageArray(torch.arange(200).view(-1, 1, 1, 1).to(torch.uint8), torch.arange(200) % 4)
    parts = [split_holdout(array, 0.25, seed)[1].images.flatten().tolist() for seed in (3, 3, 4)]
    assert parts[0] == parts[1] != parts[2]


def test_batches_follow_the_order_and_cover_everything() -> None:
    array = ImageArray(torch.arange(10).view(-1, 1, 1, 1).to(torch.uint8), torch.arange(10))
    trained = [labels.tolist() for _, labels in array.training_batches(torch.tensor([5, 2, 9, 0]), 2, seed=0)]
    assert trained == [[5, 2], [9, 0]]
    tested = [labels.tolist() for _, labels in array.evaluation_batches(4)]
    assert tested == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
