"""Splits in memory: order, holdout and color statistics."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.data.dataset import split_holdout
from nascli.data.in_memory import ImageArray, measure_colors


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_colors_are_measured_over_all_pixels() -> None:
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
