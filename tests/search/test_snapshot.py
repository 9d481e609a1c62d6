"""A strategy from a snapshot continues as one that learned everything again."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from nascli.config import EvolutionConfig, PpoConfig, ReinforceConfig
from nascli.errors import Interrupted
from nascli.genotype.cells.space import CellSpace
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.snapshot import SnapshotFile
from nascli.search.strategies.evolution import Evolution
from nascli.search.strategies.policy_gradient import ppo, reinforce
from nascli.search.strategies.strategy import Stateful
from nascli.search.strategies.warm_start import WarmStarted
from nascli.search.trial import Trial
from nascli.signals import StopRequest
from tests.fakes import FakeEvaluator, Recorder, ShuffledExecutor

SPACE = CellSpace(name="small", ops=("sep_conv_3x3", "identity", "max_pool_3x3"), blocks=2)
NUMBERS = {"batch_size": 4, "lr": 0.05, "hidden": 8}
MADE: dict[str, Callable[[int], Stateful]] = {
    "ppo": lambda seed: ppo(SPACE, PpoConfig.model_validate(NUMBERS), seed),
    "reinforce": lambda seed: reinforce(SPACE, ReinforceConfig.model_validate(NUMBERS), seed),
    "ppo after evolution": lambda seed: WarmStarted(
        Evolution(SPACE, EvolutionConfig(population=3), seed), ppo(SPACE, PpoConfig.model_validate(NUMBERS), seed), 10
    ),
}


class Counted:
    """Counts what is asked and told."""

    def __init__(self, strategy: Stateful) -> None:
        self.strategy, self.calls = strategy, Counter[str]()
        self.batch_size = strategy.batch_size

    @property
    def diagnostics(self) -> Mapping[str, float]:
        return self.strategy.diagnostics

    def ask(self) -> tuple[int, ...] | None:
        self.calls["ask"] += 1
        return self.strategy.ask()

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        self.calls["tell"] += 1
        self.strategy.tell(tokens, reward)

    def state(self) -> dict[str, Any]:
        return self.strategy.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.calls["load"] += 1
        self.strategy.load_state(state)


@dataclass
class Search:
    """A search in a folder, which may be stopped after so many finished trials."""

    folder: Path
    name: str = "ppo"
    trials: int = 30
    asynchronous: bool = False
    seed: int = 3
    identity: str = "x"
    every: float = 1e9
    kept: bool = True
    stop_after: int = 0

    def run(self) -> "Search":
        self.strategy = Counted(MADE[self.name](self.seed))
        self.observer = Watching(self.stop_after)
        snapshots = SnapshotFile(self.folder / "strategy.pt", self.identity, self.every) if self.kept else None
        executor = ShuffledExecutor(FakeEvaluator(0.1), 3, 1)
        plan = SearchPlan(
            space=SPACE, trials=self.trials, seed=self.seed, failure_reward=0.0, asynchronous=self.asynchronous
        )
        with Journal(self.folder / "trials.jsonl") as journal:
            loop = SearchLoop(self.strategy, executor, journal, plan, self.observer, snapshots)
            if self.stop_after:
                with pytest.raises(Interrupted):
                    loop.run(self.observer.stop)
            else:
                loop.run(StopRequest())
        return self

    @property
    def result(self) -> tuple[object, ...]:
        """Every trial, the learning, and what the strategy would continue with."""
        trials = read_trials(self.folder / "trials.jsonl")
        return trials, self.observer.learning, as_plain(self.strategy.state())


def as_plain(state: object) -> object:
    """Tensors as lists, so that whole states can be compared."""
    if isinstance(state, Tensor):
        return state.tolist()
    if isinstance(state, Mapping):
        return {key: as_plain(value) for key, value in state.items()}
    return [as_plain(each) for each in state] if isinstance(state, list | tuple) else state


class Watching(Recorder):
    """Remembers the learning, and asks to stop."""

    def __init__(self, stop_after: int) -> None:
        super().__init__()
        self.stop, self._stop_after, self._finished = StopRequest(), stop_after, 0
        self.learning: list[tuple[int, dict[str, float]]] = []

    def on_trial(self, trial: Trial) -> None:
        super().on_trial(trial)
        self._finished += trial.finished
        self.stop.requested = bool(self._stop_after) and self._finished >= self._stop_after

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        self.learning.append((told, dict(diagnostics)))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("stop_after", [4, 9, 17])
def test_a_search_goes_on_from_a_snapshot_as_from_its_journal(
    tmp_path: Path, name: str, asynchronous: bool, stop_after: int
) -> None:
    (tmp_path / "kept").mkdir()
    begun = Search(tmp_path / "kept", name, asynchronous=asynchronous, stop_after=stop_after).run()
    alone = copied(begun.folder, tmp_path / "alone")
    kept = Search(begun.folder, name, asynchronous=asynchronous).run()
    replayed = Search(alone, name, asynchronous=asynchronous, kept=False).run()
    assert kept.result == replayed.result
    assert kept.strategy.calls["load"] == 1
    told = 30 if asynchronous else 28  # whole batches of 4
    assert kept.strategy.calls["tell"] < replayed.strategy.calls["tell"] == told
    assert kept.strategy.calls["ask"] < replayed.strategy.calls["ask"] == 30


def test_a_killed_search_goes_on_from_its_last_snapshot(tmp_path: Path) -> None:
    """The journal is ahead of it, by whole events and a part of one."""
    (tmp_path / "whole").mkdir()
    whole = Search(tmp_path / "whole", kept=False).run()
    lines = (whole.folder / "trials.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(4, len(lines), 7):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "trials.jsonl").write_bytes(b"".join(lines[:kept]))
        Search(folder, every=0, stop_after=1).run()
        with (folder / "trials.jsonl").open("ab") as journal:
            journal.write(lines[-1][:20])
        resumed = Search(folder).run()
        assert resumed.result[2] == whole.result[2]
        assert resumed.observer.learning == whole.observer.learning


def test_a_finished_search_is_extended_without_learning_again(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = Search(tmp_path / "whole", trials=32).run()
    Search(tmp_path / "parts", trials=16).run()
    extended = Search(tmp_path / "parts", trials=32).run()
    assert extended.result[2] == whole.result[2]
    assert extended.strategy.calls == {"load": 1, "ask": 16, "tell": 16}


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


SPOILT: dict[str, Callable[[Path], object]] = {
    "absent": lambda folder: (folder / "strategy.pt").unlink(),
    "cut": lambda folder: (folder / "strategy.pt").write_bytes((folder / "strategy.pt").read_bytes()[:-40]),
    "empty": lambda folder: (folder / "strategy.pt").write_bytes(b""),
    "first byte": lambda folder: damage(folder / "strategy.pt", 0),
    "in the middle": lambda folder: damage(folder / "strategy.pt", 900),
    "last byte": lambda folder: damage(folder / "strategy.pt", -1),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_snapshot_that_is_not_whole_is_as_none(tmp_path: Path, how: str) -> None:
    (tmp_path / "run").mkdir()
    Search(tmp_path / "run", stop_after=12).run()
    alone = copied(tmp_path / "run", tmp_path / "alone")
    SPOILT[how](tmp_path / "run")
    resumed = Search(tmp_path / "run").run()
    assert not resumed.strategy.calls["load"]
    assert resumed.result == Search(alone, kept=False).run().result


def test_a_snapshot_of_another_search_does_not_count(tmp_path: Path) -> None:
    for seed in (3, 4):
        (tmp_path / str(seed)).mkdir()
        Search(tmp_path / str(seed), seed=seed, stop_after=12).run()
    shutil.copy(tmp_path / "3" / "strategy.pt", tmp_path / "4" / "strategy.pt")
    assert not Search(tmp_path / "4", seed=4).run().strategy.calls["load"]
    assert not Search(tmp_path / "3", identity="other numbers").run().strategy.calls["load"]


def test_snapshots_are_kept_as_often_as_asked(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    seen: list[float] = []
    search = Search(tmp_path / "run", every=0)
    path = search.folder / "strategy.pt"
    on_update = Watching.on_update

    def watch(observer: Watching, told: int, diagnostics: Mapping[str, float]) -> None:
        on_update(observer, told, diagnostics)
        seen.append(path.stat().st_mtime_ns if path.exists() else 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watching, "on_update", watch)
        search.run()
    assert len(set(seen)) == len(seen) == 7  # before each snapshot the one of the batch before it
