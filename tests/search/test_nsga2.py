"""NSGA-II: ranks and crowding distances, who lives on, children of two parents, and a search that can be killed."""

import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import Nsga2Config
from nascli.errors import RejectedError
from nascli.genotype.cells.space import NASNET
from nascli.genotype.genotype import Genotype
from nascli.search.evaluators.evaluator import Evaluator
from nascli.search.front import Point, find_front, hypervolume
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.strategies.evolution import Mutation
from nascli.search.strategies.nsga2 import Nsga2, crowding_distances, sort_by_rank
from nascli.search.strategies.strategy import MultiObjective, Tokens
from nascli.search.trial import Score, Trial
from nascli.signals import StopRequest
from tests.fakes import TINY, FakeEvaluator, Recorder, ShuffledExecutor

POINTS = st.lists(st.builds(Point, st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=14)


def dominates(one: Point, other: Point) -> bool:
    return one != other and one.accuracy >= other.accuracy and one.cost <= other.cost


@given(POINTS)
def test_a_rank_is_the_longest_chain_of_points_that_dominate_each_other(points: list[Point]) -> None:
    def rank(point: Point) -> int:
        return max((1 + rank(other) for other in points if dominates(other, point)), default=0)

    found = {place: number for number, front in enumerate(sort_by_rank(points)) for place in front}
    assert [found[place] for place in range(len(points))] == [rank(point) for point in points]


@given(POINTS)
def test_crowding_distances_are_those_of_the_paper(points: list[Point]) -> None:
    front = [points[place] for place in find_front(points)]
    expected = [0.0] * len(front)
    for axis in range(2):
        order = sorted(range(len(front)), key=lambda place: front[place][axis])
        expected[order[0]] = expected[order[-1]] = math.inf
        span = front[order[-1]][axis] - front[order[0]][axis]
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            expected[place] += (front[after][axis] - front[before][axis]) / (span or 1)
    assert crowding_distances(front) == pytest.approx(expected)


def toy(tokens: Tokens) -> Point:
    """Two aims that are at odds: zeros are accurate, ones are cheap."""
    return Point(tokens.count(0) / len(tokens), 1 - tokens.count(1) / len(tokens))


def breed(strategy: Nsga2, count: int) -> list[Tokens]:
    return [strategy.ask() for _ in range(count)]


def test_a_child_mixes_two_parents_and_changes_one_decision() -> None:
    strategy = Nsga2(NASNET, Nsga2Config(population=2, batch_size=2, crossover=1.0), seed=0)
    one, other = breed(strategy, 2)
    strategy.tell_point(one, Point(0.5, 1.0))
    strategy.tell_point(other, Point(0.9, 2.0))  # neither dominates
    mixed = 0
    for child in breed(strategy, 100):
        foreign = [place for place, token in enumerate(child) if token not in (one[place], other[place])]
        assert len(foreign) <= 1
        differing = [place for place in range(len(one)) if one[place] != other[place]]
        shares = [sum(child[place] == parent[place] for place in differing) / len(differing) for parent in (one, other)]
        mixed += min(shares) > 0.2
    assert 30 < mixed < 70  # in half of the cases both parents are the same


def test_without_crossover_a_child_is_a_mutant_of_one_that_lives() -> None:
    strategy = Nsga2(NASNET, Nsga2Config(population=2, batch_size=2, crossover=0.0), seed=0)
    parents = breed(strategy, 2)
    for tokens in parents:
        strategy.tell_point(tokens, Point(0.5, 1.0))
    for child in breed(strategy, 30):
        assert 1 in [sum(a != b for a, b in zip(child, parent, strict=True)) for parent in parents]


def test_the_ends_of_the_front_live_and_what_is_dominated_dies() -> None:
    strategy = Nsga2(NASNET, Nsga2Config(population=3, batch_size=3), seed=0)
    points = [Point(0.1, 1), Point(0.5, 5), Point(0.9, 9), Point(0.52, 5.1), Point(0.4, 6), Point(0.05, 2)]
    for tokens, point in zip(breed(strategy, 6), points, strict=True):
        strategy.tell_point(tokens, point)
    assert strategy.diagnostics == {"front": 3, "best_accuracy": 0.9, "least_cost": 1}


def test_what_has_no_point_is_not_born_but_counts() -> None:
    strategy = Nsga2(NASNET, Nsga2Config(population=4, batch_size=2), seed=0)
    first = breed(strategy, 4)
    for tokens in first[:3]:
        strategy.tell_point(tokens, None)
    assert strategy.diagnostics == {}
    strategy.tell_point(first[3], Point(0.5, 1.0))
    assert strategy.diagnostics["front"] == 1
    assert all(sum(a != b for a, b in zip(child, first[3], strict=True)) == 1 for child in breed(strategy, 9))


def test_rewards_alone_are_one_objective() -> None:
    strategy = Nsga2(NASNET, Nsga2Config(population=4, batch_size=4), seed=0)
    for reward, tokens in enumerate(breed(strategy, 4)):
        strategy.tell(tokens, float(reward))
    assert strategy.diagnostics == {"front": 1, "best_accuracy": 3, "least_cost": 0}


def test_no_network_is_proposed_twice_while_there_are_others() -> None:
    strategy = Nsga2(TINY, Nsga2Config(population=8, batch_size=4), seed=0)
    asked = []
    for _ in range(40):
        for tokens in breed(strategy, 4):
            asked.append(TINY.decode(tokens).canonical_hash())
            strategy.tell_point(tokens, toy(tokens))
    assert len(set(asked)) == len(asked)


def test_it_finds_more_of_the_front_than_random_search() -> None:
    def play(population: int) -> float:
        strategy = Nsga2(NASNET, Nsga2Config(population=population, batch_size=4), seed=1)
        points = []
        for _ in range(100):
            for tokens in breed(strategy, 4):
                points.append(toy(tokens))
                strategy.tell_point(tokens, points[-1])
        return hypervolume(points, Point(0.0, 1.0))

    assert play(20) > 1.5 * play(1000)  # a population that is never full proposes at random


class Limited:
    """Rejects every fifth network or so."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        if random.Random(genotype.canonical_hash()).random() < 0.2:
            raise RejectedError("too large")
        return FakeEvaluator(0.1).evaluate(genotype, seed)


def search(path: Path, *, workers: int = 1, shuffle: int = 0, asynchronous: bool = False) -> list[Trial]:
    evaluator: Evaluator = Limited()
    strategy = Nsga2(TINY, Nsga2Config(population=6, batch_size=4), seed=2)
    assert isinstance(strategy, MultiObjective)
    plan = SearchPlan(space=TINY, trials=26, seed=2, failure_reward=0.0, asynchronous=asynchronous, cost="params")
    with Journal(path, TINY) as journal:
        executor = ShuffledExecutor(evaluator, workers, shuffle)
        SearchLoop(strategy, executor, journal, plan, Recorder()).run(StopRequest())
    return read_trials(path)


@pytest.fixture
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_a_search_that_is_killed_anywhere_ends_as_without(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole.jsonl")
    assert {str(trial.state) for trial in whole} == {"complete", "failed", "rejected"}
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 3):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        assert search(path, workers=1 + kept % 4, shuffle=kept) == whole


@pytest.mark.usefixtures("_no_waiting_for_the_disk")
def test_an_asynchronous_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    search(tmp_path / "alone.jsonl", asynchronous=True)
    alone = (tmp_path / "alone.jsonl").read_bytes()
    search(tmp_path / "whole.jsonl", workers=3, shuffle=1, asynchronous=True)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 5):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        assert len(search(path, workers=3, shuffle=kept, asynchronous=True)) == 26
        path.write_bytes(b"".join(alone.splitlines(keepends=True)[:kept]))
        search(path, asynchronous=True)
        assert path.read_bytes() == alone


def test_a_mutation_is_that_of_regularized_evolution() -> None:
    """An assumption of the tests above: one decision, always another token."""
    tokens, draw = (0,) * len(NASNET.decision_sizes), random.Random(0)
    assert all(sum(map(bool, Mutation(NASNET).mutate(tokens, draw))) == 1 for _ in range(50))
