"""Ranking the best again: which trainings are done, that kills and workers make no difference, and who wins."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from nascli.errors import DivergedError, Interrupted, NascliError
from nascli.genotype.genotype import Genotype
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.recommend import recommend
from nascli.search.rerank import RerankPlan, rerank, sort_reranked
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Score, Trial
from nascli.signals import StopRequest
from tests.fakes import TINY, FakeEvaluator, Recorder, ShuffledExecutor


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@dataclass(frozen=True)
class Trainer:
    """The seed decides; cells whose name ends so diverge, or are lost."""

    diverging: str = "none"
    crashing: str = "none"

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        if genotype.name.endswith(self.diverging):
            raise DivergedError("the loss became nan")
        if genotype.name.endswith(self.crashing):
            raise MemoryError("no more")
        accuracy = (seed % 1000) / 1000
        return Score(reward=accuracy, accuracy=accuracy, params=1, mult_adds=1, seconds=float(epochs or 0))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "trials.jsonl"
    plan = SearchPlan(space=TINY, trials=12, seed=1, failure_reward=0.0)
    with Journal(path) as journal:
        executor = ShuffledExecutor(FakeEvaluator(), 1, 0)
        SearchLoop(RandomSearch(TINY, 1), executor, journal, plan, Recorder()).run(StopRequest())
    return path


def ranking(
    path: Path, workers: int = 1, shuffle: int = 0, trainer: Trainer | None = None, stop: StopRequest | None = None
) -> list[Trial]:
    plan = RerankPlan([5, 2, 7], epochs=20, num_seeds=3, seed=1)
    with Journal(path) as journal:
        executor = ShuffledExecutor(trainer or Trainer(), workers, shuffle)
        rerank(executor, journal, plan, Recorder(), stop or StopRequest())
    return read_trials(path)


def test_each_of_the_chosen_is_trained_with_every_seed(journal: Path) -> None:
    trials = ranking(journal)
    assert {trial.id: [r.index for r in trial.reranks] for trial in trials if trial.reranks} == {
        2: [0, 1, 2],
        5: [0, 1, 2],
        7: [0, 1, 2],
    }
    accuracies = [r.accuracy for trial in trials for r in trial.reranks]
    assert len(set(accuracies)) == 9
    assert {r.epochs for trial in trials for r in trial.reranks} == {20}


def test_the_best_by_mean_comes_first_and_before_all_that_were_not_trained_again(journal: Path) -> None:
    trials = ranking(journal)
    first = sort_reranked(trials)
    means = [sum(r.accuracy for r in trial.reranks) / 3 for trial in first]
    assert means == sorted(means, reverse=True)
    found = recommend(trials, TINY)
    assert found.trials[:3] == first
    others = [found.expected[trial.id] for trial in found.trials[3:]]
    assert others == sorted(others, reverse=True)


@pytest.mark.parametrize(("workers", "shuffle"), [(2, 1), (9, 2)])
def test_workers_and_kills_make_no_difference(journal: Path, tmp_path: Path, workers: int, shuffle: int) -> None:
    before = journal.read_bytes()
    whole = ranking(journal)
    lines = journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(lines) == 9
    for kept in range(len(lines) + 1):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(before + b"".join(lines[:kept]))
        assert ranking(cut, workers, shuffle + kept) == whole
        assert cut.read_bytes() == journal.read_bytes()


def test_a_training_that_diverges_counts_as_zero(journal: Path) -> None:
    trials = ranking(journal, trainer=Trainer(diverging="trial-5"))
    assert [r.accuracy for r in trials[5].reranks] == [0.0, 0.0, 0.0]
    assert sort_reranked(trials)[-1].id == 5


def test_any_other_failure_stops_with_what_was_done_kept(journal: Path) -> None:
    with pytest.raises(NascliError, match=r"trial 7 could not be trained again \(out_of_memory\): .*no more.*--resume"):
        ranking(journal, trainer=Trainer(crashing="trial-7"))
    assert sum(len(trial.reranks) for trial in read_trials(journal)) == 2
    assert sum(len(trial.reranks) for trial in ranking(journal)) == 9


def test_a_stop_request_is_heard(journal: Path) -> None:
    stop = StopRequest()
    stop.requested = True
    with pytest.raises(Interrupted, match="9 trainings to do"):
        ranking(journal, stop=stop)
