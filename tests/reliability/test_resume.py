"""A search that was killed resumes with the proposals that the undisturbed one made, and fits no model of its past."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nascli.config import SearchRecipe
from nascli.errors import CorruptFileError
from nascli.search.builders import build_strategy
from nascli.search.gaussian_process import Floats, GaussianProcess, Shape
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.snapshot import SnapshotFile
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.trial import Trial
from nascli.signals import StopRequest
from tests.fakes import TINY, FakeEvaluator, Recorder, ShuffledExecutor

TRIALS = 40
RECIPE: dict[str, Any] = {
    "bayesian": {"n_startup_trials": 6, "batch_size": 4, "candidates": 10, "max_observations": 20},
    "evolution": {"population": 6, "sample": 3, "batch_size": 3},
    "nsga2": {"population": 6, "batch_size": 3},
    **{name: {"batch_size": 5, "hidden": 8, "lr": 0.01} for name in ("ppo", "reinforce")},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    **{
        name: {"strategy": name}
        for name in ("random", "evolution", "exhaustive", "bayesian", "nsga2", "ppo", "reinforce")
    },
    "ppo after evolution": {"strategy": "ppo", "warm_start_trials": 13, "warm_start_strategy": "evolution"},
}


class Learning(Recorder):
    """Keeps the diagnostics as they were when it was told them."""

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        super().on_update(told, dict(diagnostics))


def search(
    folder: Path,
    name: str,
    *,
    asynchronous: bool = False,
    rungs: tuple[int, ...] = (),
    seed: int = 3,
    kept: bool = True,
) -> Learning:
    """Search in a folder to the end of the plan, with three workers; every snapshot is kept if any is."""
    recipe = SearchRecipe.model_validate({"seed": seed, "search": STRATEGIES[name], **RECIPE})
    plan = SearchPlan(
        space=TINY, trials=TRIALS, seed=seed, failure_reward=0.0, asynchronous=asynchronous, rungs=rungs, epochs=9
    )
    observer = Learning()
    snapshots = SnapshotFile(folder / "strategy.pt", name, every=0) if kept else None
    with Journal(folder / "trials.jsonl") as journal:
        executor = ShuffledExecutor(FakeEvaluator(0.1), 3, 1)
        SearchLoop(build_strategy(recipe, TINY), executor, journal, plan, observer, snapshots).run(StopRequest())
    return observer


def trials_of(folder: Path) -> list[Trial]:
    """The trials of a run without the time they took."""
    trials = read_trials(folder / "trials.jsonl")
    return [replace(trial, score=trial.score and replace(trial.score, seconds=0.0)) for trial in trials]


def kill(source: Path, target: Path, lines: int) -> Path:
    """A copy of a run that was killed while it wrote the line after the first so many."""
    shutil.copytree(source, target)
    content = (source / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (target / "trials.jsonl").write_bytes(b"".join(content[:lines]) + content[lines][:17])
    return target


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of observations of each model that is fitted."""
    made: list[int] = []
    fit = GaussianProcess.fit

    def counted(features: Floats, scores: Floats, shape: Shape) -> GaussianProcess:
        if shape == "smooth":  # the other one recommends
            made.append(len(scores))
        return fit(features, scores, shape)

    monkeypatch.setattr(GaussianProcess, "fit", counted)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An empty folder for the undisturbed search."""
    (tmp_path / "whole").mkdir()
    return tmp_path / "whole"


@pytest.mark.parametrize(
    ("name", "rungs"), [*((name, ()) for name in STRATEGIES), ("bayesian", (1, 3)), ("ppo after evolution", (1, 3))]
)
def test_a_killed_search_ends_as_the_undisturbed_one(whole: Path, name: str, rungs: tuple[int, ...]) -> None:
    learning = search(whole, name, rungs=rungs)
    expected = trials_of(whole)
    lines = len((whole / "trials.jsonl").read_bytes().splitlines())
    for after in range(1, lines - 1, lines // 3):
        killed = kill(whole, whole.parent / f"{after}", after)
        resumed = search(killed, name, rungs=rungs, kept=False)
        assert trials_of(killed) == expected
        assert resumed.updates == learning.updates


def test_skipping_what_an_asynchronous_search_proposed_is_as_proposing_it_again(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results come in another order after a resume; but the same order, however it is resumed."""
    search(whole, "bayesian", asynchronous=True)
    for after in range(9, 70, 20):
        skipped = kill(whole, whole.parent / f"{after}-skipped", after)
        learning = search(skipped, "bayesian", asynchronous=True)
        repeated = kill(whole, whole.parent / f"{after}-repeated", after)
        with monkeypatch.context() as patch:
            patch.delattr(BayesianSearch, "skip")
            again = search(repeated, "bayesian", asynchronous=True)
        assert [trial.tokens for trial in trials_of(skipped)] == [trial.tokens for trial in trials_of(repeated)]
        assert learning.updates == again.updates


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_resume_fits_the_models_of_the_last_proposals_alone(whole: Path, asynchronous: bool, fits: list[int]) -> None:
    search(whole, "bayesian", asynchronous=asynchronous)
    assert len(fits) >= (TRIALS - 6 - 3) / 4
    fits.clear()
    finished = search(whole, "bayesian", asynchronous=asynchronous)
    assert len(finished.updates) >= TRIALS / 4
    assert len(fits) == 1


def test_the_proposals_do_not_depend_on_how_often_the_search_was_killed(whole: Path, fits: list[int]) -> None:
    search(whole, "bayesian")
    once, expected = len(fits), trials_of(whole)
    folder = whole.parent / "killed again and again"
    folder.mkdir()
    lines = (whole / "trials.jsonl").read_bytes().splitlines(keepends=True)
    fits.clear()
    for after in range(10, len(lines), 15):
        shutil.rmtree(folder)
        kill(whole, folder, after)
        before = len(fits)
        search(folder, "bayesian")
        assert trials_of(folder) == expected
        assert len(fits) - before <= once - len(trials_of(folder)[:after]) // 8 + 2


def spoil(folder: Path, content: bytes) -> None:
    (folder / "strategy.pt").write_bytes(content)


def put_folder(folder: Path) -> None:
    (folder / "strategy.pt").unlink()
    (folder / "strategy.pt").mkdir()


def put_loop(folder: Path) -> None:
    (folder / "strategy.pt").unlink()
    (folder / "strategy.pt").symlink_to("strategy.pt")


SNAPSHOTS: dict[str, Callable[[Path], None]] = {
    "absent": lambda folder: (folder / "strategy.pt").unlink(),
    "empty": lambda folder: spoil(folder, b""),
    "cut": lambda folder: spoil(folder, (folder / "strategy.pt").read_bytes()[:-9]),
    "another file": lambda folder: spoil(folder, b"\x89PNG" + bytes(100)),
    "a folder": put_folder,
    "a link to itself": put_loop,
}


@pytest.mark.parametrize("how", SNAPSHOTS)
@pytest.mark.parametrize("name", ["bayesian", "ppo after evolution"])
def test_a_snapshot_of_any_state_only_costs_time(whole: Path, name: str, how: str) -> None:
    search(whole, name)
    killed = kill(whole, whole.parent / "killed", 50)
    if not (killed / "strategy.pt").exists():
        spoil(killed, b"of an earlier version")
    SNAPSHOTS[how](killed)
    resumed = search(killed, name)
    assert trials_of(killed) == trials_of(whole)
    assert len(resumed.notes) <= 1, "a snapshot that cannot be written is said once"


def test_a_journal_of_another_recipe_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(whole, "bayesian")
    kill(whole, whole.parent / "killed", 60)
    monkeypatch.setitem(RECIPE, "bayesian", {**RECIPE["bayesian"], "candidates": 11})
    with pytest.raises(CorruptFileError, match="not what this recipe proposes"):
        search(whole.parent / "killed", "bayesian")
