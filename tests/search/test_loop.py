"""The loop: the same search whatever the workers and however often it is killed."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from nascli.config import PpoConfig
from nascli.errors import CorruptFileError, Interrupted, RejectedError
from nascli.genotype.cells.space import CellSpace
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.strategies.policy_gradient import ppo
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Score, Trial, TrialState
from nascli.signals import StopRequest
from tests.fakes import TINY, ChainStrategy, FakeEvaluator, Recorder, ShuffledExecutor

SMALL = CellSpace(name="small", ops=("sep_conv_3x3", "identity"), blocks=1)
"""A hundred cell pairs: some proposals repeat an earlier one."""


@dataclass
class Search:
    """One search and all that can be looked at afterwards."""

    journal: Path
    space: CellSpace = SMALL
    trials: int = 22
    batch: int = 5
    seed: int = 7
    failing: float = 0.15
    workers: int = 1
    shuffle: int = 0
    stop: StopRequest = field(default_factory=StopRequest)

    def run(self) -> "Search":
        self.strategy = ChainStrategy(self.space, self.seed, self.batch)
        self.observer = Recorder()
        self.executor = ShuffledExecutor(FakeEvaluator(self.failing), self.workers, self.shuffle)
        with Journal(self.journal) as journal:
            plan = SearchPlan(space=self.space, trials=self.trials, seed=self.seed, failure_reward=0.0)
            SearchLoop(self.strategy, self.executor, journal, plan, self.observer).run(self.stop)
        return self

    @property
    def result(self) -> tuple[list[Trial], str]:
        return read_trials(self.journal), self.strategy.state


def assert_same(one: Search, other: Search) -> None:
    assert one.result == other.result


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills are simulated by cutting the file, so nothing here depends on flushes, which cost most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return Search(tmp_path_factory.mktemp("whole") / "trials.jsonl").run()


def test_a_search_holds_successes_failures_and_repeats(whole: Search) -> None:
    """An assumption of the tests below."""
    trials, _ = whole.result
    assert len(trials) == 22
    assert all(trial.finished for trial in trials)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAILED}
    assert any(trial.duplicate_of is not None for trial in trials)


@pytest.mark.parametrize(("workers", "shuffle"), [(1, 1), (2, 1), (3, 2), (8, 3), (50, 4)])
def test_the_result_does_not_depend_on_the_number_and_speed_of_workers(
    whole: Search, tmp_path: Path, workers: int, shuffle: int
) -> None:
    other = Search(tmp_path / "trials.jsonl", workers=workers, shuffle=shuffle).run()
    assert_same(whole, other)
    if workers > 2:
        assert other.executor.ran != sorted(other.executor.ran)


def test_the_same_search_writes_the_same_journal_byte_for_byte(whole: Search, tmp_path: Path) -> None:
    assert Search(tmp_path / "trials.jsonl").run().journal.read_bytes() == whole.journal.read_bytes()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_kill_after_any_event_changes_nothing(whole: Search, tmp_path: Path, workers: int) -> None:
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    if workers > 1:
        other = Search(tmp_path / "other.jsonl", workers=workers, shuffle=5).run()
        lines = other.journal.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines) + 1):
        journal = tmp_path / f"{kept}.jsonl"
        journal.write_bytes(b"".join(lines[:kept]))
        before = read_trials(journal)
        resumed = Search(journal, workers=workers, shuffle=kept).run()
        assert_same(whole, resumed)
        done = {trial.id for trial in before if trial.finished}
        assert not done & set(resumed.executor.ran)  # what is finished is not run again
        assert resumed.observer.restored == len(before)
        assert journal.read_bytes().startswith(b"".join(lines[:kept]))


def test_a_kill_at_any_byte_of_the_last_two_records_changes_nothing(whole: Search, tmp_path: Path) -> None:
    content = whole.journal.read_bytes()
    start = len(b"".join(content.splitlines(keepends=True)[:-2]))
    journal = tmp_path / "trials.jsonl"
    for length in range(start, len(content)):
        journal.write_bytes(content[:length])
        assert_same(whole, Search(journal).run())


def test_kills_again_and_again(whole: Search, tmp_path: Path) -> None:
    """Every session adds one event at most, as if killed right after it."""
    journal = tmp_path / "trials.jsonl"
    events = len(whole.journal.read_bytes().splitlines())
    for allowed in range(1, events + 1):
        Search(journal, workers=2, shuffle=allowed).run()
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:allowed]))
    assert_same(whole, Search(journal).run())


def test_the_controller_after_a_kill_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    def search(journal_path: Path, workers: int) -> dict[str, torch.Tensor]:
        strategy = ppo(SMALL, PpoConfig(batch_size=5, lr=0.01), seed=1)
        with Journal(journal_path) as journal:
            plan = SearchPlan(space=SMALL, trials=20, seed=1, failure_reward=0.0)
            executor = ShuffledExecutor(FakeEvaluator(), workers, seed=workers)
            SearchLoop(strategy, executor, journal, plan, Recorder()).run(StopRequest())
        return strategy.controller.state_dict()

    whole = tmp_path / "whole.jsonl"
    weights = search(whole, workers=1)
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 4):
        cut = tmp_path / f"{kept}.jsonl"
        cut.write_bytes(b"".join(lines[:kept]))
        resumed = search(cut, workers=3)
        assert all(torch.equal(value, resumed[name]) for name, value in weights.items())
        assert read_trials(cut) == read_trials(whole)


def test_a_longer_search_goes_on_as_if_it_had_been_longer_from_the_start(tmp_path: Path) -> None:
    long = Search(tmp_path / "long.jsonl", trials=33).run()
    grown = Search(tmp_path / "grown.jsonl", trials=8).run()
    for trials in (9, 20, 33):
        grown = Search(grown.journal, trials=trials, workers=2).run()
    assert_same(long, grown)


def test_duplicates_are_not_run_and_take_the_result_of_the_first(tmp_path: Path) -> None:
    search = Search(tmp_path / "trials.jsonl", trials=80, failing=0.18, workers=4).run()
    trials, _ = search.result
    repeats = [trial for trial in trials if trial.duplicate_of is not None]
    assert len(repeats) > 20
    assert {trial.state for trial in repeats} == {TrialState.COMPLETE, TrialState.FAILED}
    assert sorted(search.executor.ran) == [trial.id for trial in trials if trial.duplicate_of is None]
    for trial in repeats:
        first = trials[trial.duplicate_of or 0]
        assert first.duplicate_of is None
        assert first.id < trial.id
        assert (trial.hash, trial.state, trial.reward, trial.failure) == (
            first.hash,
            first.state,
            first.reward,
            first.failure,
        )
    firsts = [trial.hash for trial in trials if trial.duplicate_of is None]
    assert len(firsts) == len(set(firsts))


def test_a_batch_is_asked_when_the_one_before_is_finished_and_told(tmp_path: Path) -> None:
    search = Search(tmp_path / "trials.jsonl", workers=50, shuffle=1).run()
    running: set[int] = set()
    for change in search.observer.changes:
        if change.finished:
            running.discard(change.id)
        else:
            assert all(other // search.batch == change.id // search.batch for other in running)
            running.add(change.id)
    assert [told for told, _ in search.observer.updates] == [5, 10, 15, 20]


def test_failures_are_told_to_the_strategy_with_their_reward(tmp_path: Path) -> None:
    class Listening(RandomSearch):
        batch_size = 4

        def __init__(self) -> None:
            super().__init__(TINY, 0)
            self.told: list[float] = []

        def tell(self, tokens: tuple[int, ...], reward: float) -> None:
            self.told.append(reward)

    strategy = Listening()
    with Journal(tmp_path / "trials.jsonl") as journal:
        plan = SearchPlan(space=TINY, trials=8, seed=0, failure_reward=-2.0)
        SearchLoop(strategy, InProcessExecutor(FakeEvaluator(failing=0.5)), journal, plan, Recorder()).run(
            StopRequest()
        )
        failed = [trial for trial in journal.trials if trial.state is TrialState.FAILED]
        assert 0 < len(failed) < 8
        assert strategy.told == [trial.reward for trial in journal.trials]
        assert {trial.reward for trial in failed} == {-2.0}
        assert failed[0].failure is not None
        assert failed[0].failure.error == "the loss became nan at step 3"


def test_any_exception_of_a_child_is_a_failed_trial(tmp_path: Path) -> None:
    class Broken:
        def evaluate(self, genotype: object, seed: int, epochs: int | None = None) -> Score:
            if seed % 2:
                raise ZeroDivisionError("one\ntwo")
            return Score(reward=float("nan"), accuracy=0.0, params=1, mult_adds=1, seconds=0.0)

    with Journal(tmp_path / "trials.jsonl") as journal:
        plan = SearchPlan(space=TINY, trials=8, seed=0, failure_reward=0.0)
        SearchLoop(RandomSearch(TINY, 0), InProcessExecutor(Broken()), journal, plan, Recorder()).run(StopRequest())
        assert {trial.failure.error for trial in journal.trials if trial.failure} == {
            "ZeroDivisionError: one two",
            "ValueError: the evaluator's reward is nan",
        }


def test_a_stop_request_ends_the_search_with_everything_saved(whole: Search, tmp_path: Path) -> None:
    stopped = Search(tmp_path / "trials.jsonl", workers=3)

    class StopAfterFour(Recorder):
        def on_trial(self, trial: Trial) -> None:
            super().on_trial(trial)
            stopped.stop.requested = sum(change.finished for change in self.changes) >= 4

    with Journal(stopped.journal) as journal:
        strategy = ChainStrategy(SMALL, 7, 5)
        plan = SearchPlan(space=SMALL, trials=22, seed=7, failure_reward=0.0)
        loop = SearchLoop(strategy, ShuffledExecutor(FakeEvaluator(0.15), 3, 0), journal, plan, StopAfterFour())
        with pytest.raises(Interrupted, match="after 4 of 22 trials"):
            loop.run(stopped.stop)
    trials = read_trials(stopped.journal)
    assert sum(trial.finished for trial in trials) == 4
    stopped.stop = StopRequest()
    assert_same(whole, stopped.run())


@pytest.mark.parametrize("change", [{"seed": 8}, {"space": TINY}])
def test_a_journal_of_another_recipe_is_refused(whole: Search, tmp_path: Path, change: dict[str, object]) -> None:
    journal = tmp_path / "trials.jsonl"
    journal.write_bytes(whole.journal.read_bytes())
    with pytest.raises(CorruptFileError, match="trial 0 is not what this recipe proposes"):
        Search(journal, **change).run()  # type: ignore[arg-type]
    assert journal.read_bytes() == whole.journal.read_bytes()


def test_a_journal_that_departs_later_is_refused_there(whole: Search, tmp_path: Path) -> None:
    journal = tmp_path / "trials.jsonl"
    journal.write_bytes(whole.journal.read_bytes())
    with pytest.raises(CorruptFileError, match=r"trial \d+ is not what"):
        Search(journal, batch=4).run()


def test_seeds_of_trials_are_their_own(whole: Search) -> None:
    seeds = [json.loads(line)["seed"] for line in whole.journal.read_text().splitlines() if '"proposed"' in line]
    assert len(set(seeds)) == len(seeds) == 22


def test_a_search_that_proposes_nothing_new_ends(tmp_path: Path) -> None:
    class Stuck(ChainStrategy):
        """Proposes the same few cells from the 10th proposal on."""

        def ask(self) -> tuple[int, ...]:
            tokens = super().ask()
            return tokens if self._asked < 10 else (self._asked % 2,) + (0,) * (len(tokens) - 1)

    def search() -> tuple[list[Trial], list[str]]:
        observer = Recorder()
        plan = SearchPlan(space=SMALL, trials=500, seed=0, failure_reward=0.0, patience=30)
        with Journal(tmp_path / "trials.jsonl") as journal:
            executor = ShuffledExecutor(FakeEvaluator(), 2, 0)
            SearchLoop(Stuck(SMALL, 0, 5), executor, journal, plan, observer).run(StopRequest())
            return list(journal.trials), observer.notes

    trials, notes = search()
    assert notes == ["the search is exhausted: its last 30 proposals repeat earlier ones"]
    assert 39 <= len(trials) <= 45
    assert all(trial.duplicate_of is not None for trial in trials[-30:])
    assert all(trial.finished for trial in trials)
    assert search() == (trials, notes)


def test_rejected_cells_are_told_but_are_no_failures(tmp_path: Path) -> None:
    class Rejecting:
        def evaluate(self, genotype: object, seed: int, epochs: int | None = None) -> Score:
            raise RejectedError("params 7M violates params<6M")

    with Journal(tmp_path / "trials.jsonl") as journal:
        plan = SearchPlan(space=SMALL, trials=60, seed=0, failure_reward=-1.0)
        SearchLoop(RandomSearch(SMALL, 0), InProcessExecutor(Rejecting()), journal, plan, Recorder()).run(StopRequest())
        assert {(trial.state, trial.reward) for trial in journal.trials} == {(TrialState.REJECTED, -1.0)}
