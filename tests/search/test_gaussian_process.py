"""A Gaussian process of normal scores: by order alone, near what was told, doubtful far away."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.search.gaussian_process import GaussianProcess, Shape, log_improvement, normal_scores

SHAPES: tuple[Shape, ...] = ("smooth", "rough")


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30))
def test_scores_keep_the_order_and_nothing_else(numbers: list[int]) -> None:
    scores = normal_scores(numbers)
    np.testing.assert_allclose(scores, normal_scores([math.exp(number / 500) for number in numbers]))
    for one, score in zip(numbers, scores, strict=True):
        for other, against in zip(numbers, scores, strict=True):
            assert (one < other) == (score < against)
    if len(set(numbers)) > 1:
        assert scores.mean() == pytest.approx(0, abs=1e-9)
        assert scores.std() == pytest.approx(1)


@pytest.mark.parametrize("shape", SHAPES)
@given(st.integers(0, 50))
def test_near_what_was_told_it_expects_that_and_far_away_the_mean(shape: Shape, seed: int) -> None:
    told = np.random.default_rng(seed).normal(size=(12, 2))
    scores = normal_scores((told[:, 0] + 3).tolist())
    model = GaussianProcess.fit(told, scores, shape)
    mean, covariance = model.predict(np.vstack([told, [[1e3, 1e3]]]))
    np.testing.assert_allclose(mean[:12], model.expected, atol=1e-6)
    assert np.corrcoef(mean[:12], scores)[0, 1] > 0.5
    assert mean[12] == pytest.approx(0, abs=1e-6)
    deviations = np.sqrt(np.diag(covariance))
    assert deviations[12] > deviations[:12].max()


def test_luck_is_told_from_worth() -> None:
    """Of twins, of which one was lucky, both are expected to be as good; a lucky one among bad ones is not the best."""
    good, bad = [[1.0, 0.0]] * 6, [[0.0, 1.0]] * 6
    rewards = [0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
    expected = GaussianProcess.fit(np.array(good + bad), normal_scores(rewards), "rough").expected
    assert np.ptp(expected[:6]) < 1e-6
    assert expected[:6].min() > expected[6:].max()


def test_a_batch_is_not_of_twins() -> None:
    told = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    model = GaussianProcess.fit(told, normal_scores([0.1, 0.2, 0.3, 0.4]), "smooth")
    candidates = np.array([[2.0, 2.0], [2.0, 2.0], [2.0, 0.0], [0.5, 0.5]])
    chosen = model.choose(candidates, 2)
    assert len({tuple(candidates[place]) for place in chosen}) == 2
    assert sorted(model.choose(candidates, 9)) == [0, 1, 2, 3]


@given(st.floats(-30, 8))
def test_the_expected_improvement_is_an_integral(lead: float) -> None:
    x = np.linspace(max(0.0, lead - 12), max(0.0, lead) + 12, 400_001)
    density = np.exp(-((x - lead) ** 2) / 2 + min(lead, 0.0) ** 2 / 2) / math.sqrt(2 * math.pi)
    integral = float(np.trapezoid(x * density, x))
    assert log_improvement(np.array([lead]))[0] == pytest.approx(math.log(integral) - min(lead, 0.0) ** 2 / 2, abs=1e-4)


def test_very_small_improvements_still_have_an_order() -> None:
    values = log_improvement(np.array([-1e4, -1e3, -1e2, -1.0000001, -1.0, 0.0, 10.0]))
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
