"""The front and its hypervolume, against counting by brute force."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.genotype.cells.space import resolve_cell_space
from nascli.search.front import Point, find_front, front_of, hypervolume, point_of, trace_hypervolume, worst_of
from nascli.search.trial import Failure, FailureKind, Rerank, Rung, Score, Trial
from tests.fakes import make_latency
from tests.report.search_runs import make_recipe, propose_trials

POINTS = st.lists(st.builds(Point, st.integers(0, 6), st.integers(0, 6)), max_size=14)
SPACE = resolve_cell_space(make_recipe().space)


def dominates(one: Point, other: Point) -> bool:
    return one != other and one.accuracy >= other.accuracy and one.cost <= other.cost


def made_of(*figures: tuple[float, int]) -> list[Trial]:
    """Trials with these accuracies and mult-adds."""
    trials = propose_trials(SPACE, len(figures))
    return [trial.complete(score(*each)) for trial, each in zip(trials, figures, strict=True)]


def score(accuracy: float | None, mult_adds: int, latency: float | None = None, reward: float = 0.1) -> Score:
    return Score(
        reward=reward,
        accuracy=accuracy,
        params=7,
        mult_adds=mult_adds,
        seconds=1.0,
        latency=make_latency(latency) if latency else None,
    )


def ids(trials: list[Trial], quantity: str = "mult_adds") -> list[int]:
    return [member.trial.id for member in front_of(trials, quantity)]


@given(POINTS)
def test_the_front_is_what_no_point_dominates_cheapest_first(points: list[Point]) -> None:
    kept = [place for place, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    assert find_front(points) == sorted(kept, key=lambda place: (points[place].cost, place))


@given(POINTS, st.integers(0, 4), st.integers(2, 7))
def test_the_hypervolume_counts_the_squares_that_are_dominated(points: list[Point], lowest: int, highest: int) -> None:
    squares = itertools.product(range(lowest, 8), range(highest))  # by their corners
    covered = sum(any(p.accuracy > accuracy and p.cost <= cost for p in points) for accuracy, cost in squares)
    assert hypervolume(points, Point(lowest, highest)) == covered


@given(POINTS, st.randoms(use_true_random=False))
def test_the_hypervolume_does_not_depend_on_the_order_to_the_last_bit(points: list[Point], draw: random.Random) -> None:
    real = [Point(accuracy / 7, cost / 3) for accuracy, cost in points]
    shuffled = draw.sample(real, len(real))
    assert hypervolume(real, Point(0.1, 2.1)) == hypervolume(shuffled, Point(0.1, 2.1))


@given(st.lists(st.none() | st.builds(Point, st.integers(0, 6), st.integers(0, 6)), max_size=14))
def test_its_trace_is_the_hypervolume_of_each_beginning(points: list[Point | None]) -> None:
    reference = Point(0, 6)
    begun = [[p for p in points[: end + 1] if p is not None] for end in range(len(points))]
    assert trace_hypervolume(points, reference) == [hypervolume(each, reference) for each in begun]


def test_a_point_that_is_no_better_than_the_reference_counts_nothing() -> None:
    reference = worst_of([Point(0.5, 3), Point(0.9, 8), Point(0.4, 7)])
    assert reference == Point(0.4, 8)
    assert hypervolume([Point(0.4, 1), Point(0.9, 8)], reference) == 0
    assert hypervolume([Point(0.6, 3)], reference) == pytest.approx(1.0)


def test_of_equal_trials_the_earlier_is_on_the_front() -> None:
    assert ids(made_of((0.5, 100), (0.7, 200), (0.5, 100), (0.7, 150), (0.6, 150), (0.9, 900))) == [0, 3, 5]


def test_what_was_not_trained_to_its_end_is_not_on_the_front() -> None:
    whole, copy, failed, rejected, stopped, running = propose_trials(SPACE, 6)
    rung = Rung(epochs=1, score=score(0.9, 5))
    trials = [
        whole.complete(score(0.5, 100)),
        Trial(**{**vars(copy), "duplicate_of": 0}).complete(score(0.6, 90)),
        failed.fail(Failure(FailureKind.DIVERGED, "nan"), 0.0),
        rejected.fail(Failure(FailureKind.REJECTED, "too slow", make_latency(0.001)), 0.0),
        stopped.advance(rung).complete(rung.score, stopped=True),
        running,
    ]
    for quantity in ("params", "mult_adds"):
        assert ids(trials, quantity) == [0]
    assert ids(trials, "latency") == []
    assert ids(trials[1:]) == []


def test_the_cost_is_the_quantity_that_is_named() -> None:
    one, other = propose_trials(SPACE, 2)
    trials = [one.complete(score(0.5, 100, 0.002)), other.complete(score(0.5, 90, 0.003))]
    assert ids(trials, "mult_adds") == [1]
    assert ids(trials, "latency") == [0]
    assert point_of(trials[0], "latency") == (0.5, 0.002)
    assert point_of(trials[0], "params") == (0.5, 7)


def test_without_an_accuracy_the_reward_counts_and_with_one_it_does_not() -> None:
    one, other = propose_trials(SPACE, 2)
    assert point_of(one.complete(score(None, 3, reward=42.0)), "mult_adds") == (42.0, 3)
    assert point_of(one.complete(score(0.8, 3, reward=42.0)), "mult_adds") == (0.8, 3)
    assert point_of(other, "mult_adds") is None


def train_again(trial: Trial, *accuracies: float) -> Trial:
    for index, accuracy in enumerate(accuracies):
        trial = trial.add_rerank(Rerank(index=index, epochs=9, accuracy=accuracy, seconds=1.0))
    return trial


def test_fresh_accuracies_count_where_the_whole_front_has_them() -> None:
    trials = made_of((0.5, 100), (0.7, 200), (0.6, 300))
    trials[0] = train_again(trials[0], 0.55, 0.65)
    assert [(m.trial.id, m.accuracy) for m in front_of(trials, "mult_adds")] == [(0, 0.5), (1, 0.7)]
    trials[1] = train_again(trials[1], 0.58)
    (fresh,) = front_of(trials, "mult_adds")
    assert fresh.trial.id == 0
    assert fresh.accuracy == pytest.approx(0.6)
    trials[2] = train_again(trials[2], 0.61)  # it was not on the front of the search
    assert ids(trials) == [0, 2]
