"""What stays the same over a training: the order of pictures, the batches of one shape, the learning rate."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import DetectTrainConfig
from nascli.detect.plan import DetectPlan

CPU = torch.device("cpu")


def plan(images: int, high: tuple[bool, ...] = (), **settings: Any) -> DetectPlan:  # noqa: ANN401
    config = DetectTrainConfig.model_validate({"epochs": 3, "batch_size": 4, **settings})
    return DetectPlan(config, 0, CPU, images, high)


def test_an_epoch_uses_each_image_once_and_another_order_each_time() -> None:
    ten = plan(10)
    assert (ten.batch_size, ten.steps_per_epoch, ten.steps) == (4, 2, 6)
    orders = [ten.order(epoch) for epoch in range(3)]
    assert all(len(set(order)) == 8 for order in orders)
    assert orders[0] != orders[1]
    assert orders == [ten.order(epoch) for epoch in range(3)]
    assert replace(ten, images=3).batch_size == 3
    assert [plan(10, grad_accum_steps=parts).part_size for parts in (1, 2, 3)] == [4, 2, 2]


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 2))
def test_batches_of_one_shape_hold_the_same_pictures_in_as_many_steps(
    high: list[bool], batch_size: int, epoch: int
) -> None:
    loose, grouped = (plan(len(high), tuple(high), batch_size=batch_size, aspect_grouping=on) for on in (False, True))
    assert (grouped.batch_size, grouped.steps) == (loose.batch_size, loose.steps)
    order = grouped.order(epoch)
    assert sorted(order) == sorted(loose.order(epoch))
    assert order == grouped.order(epoch)
    size = grouped.batch_size
    shapes = [{high[k] for k in order[start : start + size]} for start in range(0, len(order), size)]
    assert sum(len(shape) == 2 for shape in shapes) <= 1


def test_the_batches_of_one_shape_do_not_come_one_shape_after_the_other() -> None:
    high = tuple(k % 2 == 0 for k in range(64))
    first = [high[order[0]] for order in (plan(64, high, aspect_grouping=True).order(epoch) for epoch in range(12))]
    assert set(first) == {True, False}


@pytest.mark.parametrize("settings", [{"flip": True}, {"flip": True, "aspect_grouping": True}])
def test_the_rest_of_an_epoch_is_what_would_have_come(settings: dict[str, Any]) -> None:
    high = tuple(k % 3 == 0 for k in range(18))
    whole = list(plan(18, high, **settings).batches(1))
    assert len(whole) == 4
    assert list(plan(18, high, **settings).batches(1, done=3)) == whole[3:]
    assert len({transform.flip for batch in whole for _, transform in batch}) == 2


def test_the_rate_falls_by_steps_at_parts_of_the_training() -> None:
    settings: dict[str, Any] = {
        "lr": 1.0,
        "warmup_steps": 2,
        "schedule": "steps",
        "lr_milestones": [0.5, 0.75],
        "lr_gamma": 0.1,
    }
    rate = plan(16, epochs=4, **settings).learning_rate
    rates = [rate(step) for step in range(16)]
    assert rates[2:8] == [1.0] * 6
    assert rates[8:] == pytest.approx([0.1] * 4 + [0.01] * 4)
    assert 0 < rates[0] < rates[1] < 1
    cosine = plan(16, epochs=4, lr=1.0, warmup_steps=2).learning_rate
    assert [cosine(step) for step in (2, 9)] == pytest.approx([1.0, 0.5])
    assert cosine(15) < 0.02
