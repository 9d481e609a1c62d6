"""Order and augmentation of a training: each image once per epoch, batches of one shape, the learning rate."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import DetectTrainConfig
from nascli.detect.sampler import BatchSampler
from nascli.engine.task import TrainPlan


def sampler(images: int, is_tall: tuple[bool, ...] = (), **settings: Any) -> BatchSampler:  # noqa: ANN401
    config = DetectTrainConfig.model_validate({"epochs": 3, "batch_size": 4, **settings})
    return BatchSampler(TrainPlan(config, images), config, 0, is_tall)


def test_an_epoch_uses_each_image_once_and_another_order_each_time() -> None:
    ten = sampler(10)
    assert (ten.plan.batch_size, ten.plan.steps_per_epoch, ten.plan.steps) == (4, 2, 6)
    orders = [ten.order(epoch) for epoch in range(3)]
    assert all(len(set(order)) == 8 for order in orders)
    assert orders[0] != orders[1]
    assert orders == [ten.order(epoch) for epoch in range(3)]
    assert sampler(3).plan.batch_size == 3


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 2))
def test_batches_of_one_shape_hold_the_same_images_in_as_many_steps(
    tall: list[bool], batch_size: int, epoch: int
) -> None:
    loose, grouped = (
        sampler(len(tall), tuple(tall), batch_size=batch_size, aspect_grouping=on) for on in (False, True)
    )
    assert (grouped.plan.batch_size, grouped.plan.steps) == (loose.plan.batch_size, loose.plan.steps)
    order = grouped.order(epoch)
    assert sorted(order) == sorted(loose.order(epoch))
    assert order == grouped.order(epoch)
    size = grouped.plan.batch_size
    shapes = [{tall[k] for k in order[start : start + size]} for start in range(0, len(order), size)]
    assert sum(len(shape) == 2 for shape in shapes) <= 1


def test_the_batches_of_one_shape_do_not_come_one_shape_after_the_other() -> None:
    tall = tuple(k % 2 == 0 for k in range(64))
    first = [tall[order[0]] for order in (sampler(64, tall, aspect_grouping=True).order(epoch) for epoch in range(12))]
    assert set(first) == {True, False}


@pytest.mark.parametrize("settings", [{"flip": True}, {"flip": True, "aspect_grouping": True}])
def test_the_rest_of_an_epoch_is_what_would_have_come(settings: dict[str, Any]) -> None:
    tall = tuple(k % 3 == 0 for k in range(18))
    whole = list(sampler(18, tall, **settings).batches(1))
    assert len(whole) == 4
    assert list(sampler(18, tall, **settings).batches(1, done=3)) == whole[3:]
    assert len({transform.flip for batch in whole for _, transform in batch}) == 2


def test_the_rate_falls_by_steps_at_fractions_of_the_training() -> None:
    settings: dict[str, Any] = {
        "lr": 1.0,
        "warmup_steps": 2,
        "schedule": "steps",
        "lr_milestones": [0.5, 0.75],
        "lr_gamma": 0.1,
    }
    rate = sampler(16, epochs=4, **settings).plan.learning_rate
    rates = [rate(step) for step in range(16)]
    assert rates[2:8] == [1.0] * 6
    assert rates[8:] == pytest.approx([0.1] * 4 + [0.01] * 4)
    assert 0 < rates[0] < rates[1] < 1
    cosine = sampler(16, epochs=4, lr=1.0, warmup_steps=2).plan.learning_rate
    assert [cosine(step) for step in (2, 9)] == pytest.approx([1.0, 0.5])
    assert cosine(15) < 0.02
