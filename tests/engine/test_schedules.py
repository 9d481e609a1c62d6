"""Schedules are functions of the step; their values at the ends and between are known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import OptimConfig
from nascli.engine.schedules import cosine, join_schedules, learning_rate, linear, staircase, warm_up


def test_linear_goes_from_start_to_end_and_stays() -> None:
    schedule = linear(0.0, 0.4, 10)
    assert [schedule(step) for step in (0, 5, 10, 99)] == pytest.approx([0.0, 0.2, 0.4, 0.4])
    assert linear(0.1, 0.4, 0)(0) == 0.4


def test_cosine_falls_from_start_over_half_to_zero() -> None:
    schedule = cosine(2.0, 8)
    assert [schedule(step) for step in (0, 4, 8, 20)] == pytest.approx([2.0, 1.0, 0.0, 0.0])
    assert schedule(2) == pytest.approx(1 + math.cos(math.pi / 4))


def test_joined_schedules_count_from_the_boundary() -> None:
    schedule = join_schedules(lambda step: float(step), lambda step: 100.0 + step, 3)
    assert [schedule(step) for step in range(5)] == [0, 1, 2, 100, 101]


@given(warmup=st.integers(0, 50), more=st.integers(1, 200), peak=st.floats(1e-4, 10))
def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero(warmup: int, more: int, peak: float) -> None:
    steps = warmup + more
    schedule = learning_rate(OptimConfig(epochs=steps, lr=peak, warmup_steps=warmup), 64, 1)
    rates = [schedule(step) for step in range(steps + 1)]
    assert max(rates) == rates[warmup] == pytest.approx(peak)
    assert all(rate > 0 for rate in rates[:-1])
    assert rates[-1] == 0
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_a_staircase_falls_by_its_factor_and_stays_between() -> None:
    schedule = staircase(2.0, 0.5, 2.4)
    assert [schedule(step) for step in (0, 2, 3, 4, 5, 12)] == pytest.approx([2, 2, 1, 1, 0.5, 2 * 0.5**5])


def test_a_warm_up_ends_where_the_next_schedule_begins() -> None:
    schedule = warm_up(3, 2.0, staircase(2.0, 0.5, 2))
    assert [schedule(step) for step in range(6)] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(("warmup_epochs", "warmup_steps", "first"), [(0.0, 0, 2.0), (0.5, 1, 2 / 7), (1.0, 0, 2 / 11)])
def test_milestones_are_fractions_of_the_whole_training(warmup_epochs: float, warmup_steps: int, first: float) -> None:
    numbers = {"warmup_epochs": warmup_epochs, "warmup_steps": warmup_steps, "lr_milestones": (0.5, 0.75)}
    config = OptimConfig(epochs=4, lr=1.0, lr_base_size=32, schedule="steps", **numbers)
    schedule = learning_rate(config, 64, 10)
    assert schedule(0) == pytest.approx(first)
    assert [schedule(step) for step in (19, 20, 29, 30, 39)] == pytest.approx([2.0, 0.2, 0.2, 0.02, 0.02])
