"""The asynchronous search: nobody waits for a batch, and a kill loses nothing."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nascli.genotype.cells.space import CellSpace
from nascli.search.executors.executor import JobOutcome
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.signals import StopRequest
from tests.fakes import ChainStrategy, FakeEvaluator, Recorder, ShuffledExecutor

SPACE = CellSpace(name="pair", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=1)
TRIALS = 30


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@dataclass
class Search:
    journal: Path
    workers: int = 4
    shuffle: int = 0
    asynchronous: bool = True
    idle: list[int] = field(default_factory=list)

    def run(self) -> "Search":
        self.strategy = ChainStrategy(SPACE, 7, 20)
        self.observer = Recorder()
        idle = self.idle

        class Watched(ShuffledExecutor):
            def collect(self, timeout: float) -> list[JobOutcome]:
                idle.append(self.free)
                return super().collect(timeout)

        executor = Watched(FakeEvaluator(0.1), self.workers, self.shuffle)
        plan = SearchPlan(space=SPACE, trials=TRIALS, seed=7, failure_reward=0.0, asynchronous=self.asynchronous)
        with Journal(self.journal) as journal:
            SearchLoop(self.strategy, executor, journal, plan, self.observer).run(StopRequest())
        return self


def test_every_worker_is_busy_until_nothing_is_left_to_propose(tmp_path: Path) -> None:
    search = Search(tmp_path / "trials.jsonl").run()
    trials = read_trials(search.journal)
    assert len(trials) == TRIALS
    assert all(trial.finished for trial in trials)
    assert set(search.idle[: -search.workers]) == {0}
    waiting = Search(tmp_path / "batches.jsonl", asynchronous=False).run()
    assert max(waiting.idle[: -search.workers]) > 0  # a batch of 20 leaves workers idle at its end


def test_each_result_is_told_once_and_in_the_order_of_the_journal(tmp_path: Path) -> None:
    search = Search(tmp_path / "trials.jsonl", shuffle=2).run()
    assert [told for told, _ in search.observer.updates] == list(range(1, TRIALS + 1))
    with Journal(search.journal) as journal:
        order = [number for number, _ in journal.finishes]
        trials = journal.trials
    assert sorted(order) == list(range(TRIALS))
    assert order != sorted(order)
    replayed = ChainStrategy(SPACE, 7, 20)
    asked = 0
    with Journal(search.journal) as journal:
        for number, count in journal.finishes:
            while asked < count:
                assert replayed.ask() == trials[asked].tokens
                asked += 1
            replayed.tell(trials[number].tokens, trials[number].reward or 0.0)
    assert replayed.state == search.strategy.state


@pytest.mark.parametrize("workers", [1, 4])
def test_a_kill_after_any_event_keeps_all_that_was_finished_and_goes_on(tmp_path: Path, workers: int) -> None:
    lines = Search(tmp_path / "whole.jsonl", workers).run().journal.read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines) + 1, 2):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        before = read_trials(path)
        Search(path, workers, shuffle=kept).run()
        after = read_trials(path)
        assert len(after) == TRIALS
        assert all(trial.finished for trial in after)
        assert [after[trial.id] for trial in before if trial.finished] == [t for t in before if t.finished]
        assert path.read_bytes().startswith(b"".join(lines[:kept]))
        Search(path, workers).run()  # a finished one is read back without a complaint
        assert read_trials(path) == after


def test_with_one_worker_the_end_after_a_kill_is_that_without(tmp_path: Path) -> None:
    whole = Search(tmp_path / "whole.jsonl", workers=1).run()
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 5):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        resumed = Search(path, workers=1).run()
        assert (path.read_bytes(), resumed.strategy.state) == (whole.journal.read_bytes(), whole.strategy.state)
