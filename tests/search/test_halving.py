"""Successive halving: which trials are promoted, whatever the order and kills, and what a stopped child gets."""

import os
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nascli.genotype.cells.space import CellSpace
from nascli.genotype.genotype import Genotype
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.recommend import recommend
from nascli.search.trial import Score, Trial
from nascli.signals import StopRequest
from tests.fakes import ChainStrategy, Recorder, ShuffledExecutor, make_latency

SPACE = CellSpace(name="pair", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=1)
RUNGS = (1, 3)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@dataclass(frozen=True)
class SlowLearner:
    """Accuracy grows with the epochs towards what the seed gives; each training takes a second an epoch.

    The latency is measured before the first.
    """

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        trained = 9 if epochs is None else epochs
        accuracy = random.Random(seed).random() * trained / (trained + 1)
        score = Score(reward=accuracy, accuracy=accuracy, params=1, mult_adds=1, seconds=float(trained))
        return replace(score, latency=make_latency(1 + accuracy)) if epochs == RUNGS[0] else score


def search(path: Path, workers: int = 1, shuffle: int = 0, *, asynchronous: bool = False) -> list[Trial]:
    plan = SearchPlan(
        space=SPACE,
        trials=40,
        seed=3,
        failure_reward=0.0,
        rungs=RUNGS,
        promote_fraction=1 / 3,
        asynchronous=asynchronous,
    )
    strategy = ChainStrategy(SPACE, 3, 8)
    executor = ShuffledExecutor(SlowLearner(), workers, shuffle)
    with Journal(path) as journal:
        SearchLoop(strategy, executor, journal, plan, Recorder()).run(StopRequest())
    return read_trials(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    return search(tmp_path_factory.mktemp("whole") / "trials.jsonl")


def test_the_best_third_of_those_before_it_goes_on(whole: list[Trial]) -> None:
    evaluated = [trial for trial in whole if trial.duplicate_of is None]
    for rung in range(len(RUNGS)):
        seen: list[float] = []
        for trial in evaluated:
            if len(trial.rungs) <= rung:
                continue
            accuracy = trial.rungs[rung].score.reward
            seen.append(accuracy)
            passes = sorted(seen, reverse=True).index(accuracy) < -(-len(seen) // 3)
            went_on = len(trial.rungs) > rung + 1 or not trial.stopped
            assert passes == went_on


def test_the_score_is_that_of_the_longest_training_and_the_time_that_of_all(whole: list[Trial]) -> None:
    depths = Counter(len(trial.rungs) + (not trial.stopped) for trial in whole if trial.scored)
    assert set(depths) == {1, 2, 3}
    assert depths[1] > depths[3]
    for trial in whole:
        if not trial.scored:
            continue
        assert trial.score is not None
        assert [rung.epochs for rung in trial.rungs] == list(RUNGS[: len(trial.rungs)])
        epochs = sum(RUNGS[: len(trial.rungs)]) + (0 if trial.stopped else 9)
        assert trial.score.seconds == epochs
        if trial.stopped:
            assert trial.score.accuracy == trial.rungs[-1].score.accuracy


def test_the_latency_is_the_one_measured_before_the_first_training(whole: list[Trial]) -> None:
    for trial in whole:
        if trial.scored and trial.score:
            first = trial.rungs[0].score
            assert first.latency == make_latency(1 + first.reward)
            assert {each.score.latency for each in trial.rungs} == {trial.score.latency} == {first.latency}


def test_a_stopped_child_is_never_before_one_that_was_not(whole: list[Trial]) -> None:
    stopped = [trial.stopped for trial in recommend(whole, SPACE).trials]
    assert stopped == sorted(stopped)
    assert True in stopped


@pytest.mark.parametrize(("workers", "shuffle"), [(2, 1), (5, 2), (50, 3)])
def test_workers_make_no_difference(whole: list[Trial], tmp_path: Path, workers: int, shuffle: int) -> None:
    assert search(tmp_path / "trials.jsonl", workers, shuffle) == whole


def test_a_kill_after_any_event_changes_nothing(whole: list[Trial], tmp_path: Path) -> None:
    search(tmp_path / "whole.jsonl", 3, 4)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines) + 1, 3):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        assert search(path, 2, kept) == whole


def test_asynchronously_every_trial_ends_too(tmp_path: Path) -> None:
    trials = search(tmp_path / "trials.jsonl", 4, 1, asynchronous=True)
    assert len(trials) == 40
    assert all(trial.finished for trial in trials)
    assert {trial.stopped for trial in trials} == {True, False}
