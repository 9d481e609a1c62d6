"""A search in its run folder: what it leaves there, however it ends."""

import json
import re
from pathlib import Path

import pytest

from nascli.config import SearchRecipe, load_recipe
from nascli.errors import Interrupted, NascliError
from nascli.genotype.genotype import read_genotype
from nascli.genotype.space import resolve_space
from nascli.records import read_record
from nascli.runs.find import read_run
from nascli.runs.start import create_run, resume_run
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.journal import read_trials
from nascli.search.recommend import recommend
from nascli.search.results import summarize
from nascli.search.study import run_search, search_name
from nascli.search.trial import Trial
from nascli.signals import StopRequest
from tests.fakes import FakeEvaluator, Recorder
from tests.published import as_cells, cell_file

OWN_SPACE = {"space": {"name": "own", "ops": ["sep_conv_3x3", "identity"], "blocks": 1, "combines": ["add"]}}


def recipe(**flags: object) -> SearchRecipe:
    given = OWN_SPACE | {"search.trials": 30, "ppo.batch_size": 5, "search.top": 3}
    return load_recipe(SearchRecipe, None, given | {key.replace("__", "."): value for key, value in flags.items()})


def search(
    path: Path,
    made: SearchRecipe,
    failing: float = 0.1,
    stop: StopRequest | None = None,
    observer: Recorder | None = None,
) -> list[Trial]:
    with (
        resume_run(path, "search")
        if path.exists()
        else create_run("search", "test", made, runs=path.parent, out=path) as run
    ):
        return run_search(
            run,
            made,
            InProcessExecutor(FakeEvaluator(failing)),
            stop=stop or StopRequest(),
            observer=observer or Recorder(),
        )


class StopAfter(Recorder):
    def __init__(self, count: int, stop: StopRequest) -> None:
        super().__init__()
        self._count, self._stop = count, stop

    def on_trial(self, trial: Trial) -> None:
        super().on_trial(trial)
        self._stop.requested = sum(change.finished for change in self.changes) >= self._count


def test_best_and_top_are_the_best_different_networks(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trials = search(path, recipe())
    trained = [t for t in trials if t.score is not None and t.duplicate_of is None]
    assert len(trained) < len(trials)
    expected = recommend(trials, resolve_space(recipe().space)).trials[:3]
    assert len({trial.hash for trial in expected}) == 3
    assert sorted(file.name for file in (path / "top").iterdir()) == ["01.json", "02.json", "03.json"]
    for place, trial in enumerate(expected, start=1):
        written, expected_cells = cell_file(path / "top" / f"{place:02d}.json"), as_cells(trial.genotype)
        assert (written.normal, written.reduction) == (expected_cells.normal, expected_cells.reduction)
    best = read_genotype(path / "best.json")
    assert best == read_genotype(path / "top" / "01.json")
    assert best.name == f"digits-ppo-trial-{expected[0].id}"
    assert best.provenance == {
        "source": "nascli search",
        "search_run": str(path),
        "trial": expected[0].id,
        "reward": expected[0].reward,
        "reward_is": "proxy accuracy",
        "dataset": "digits",
        "strategy": "ppo",
        "seed": 0,
    }


def test_front_files_are_the_networks_that_no_other_beats_cheapest_first(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trials = search(path, recipe())
    found = [(t.score.mult_adds, t.score.accuracy or 0.0, t) for t in trials if t.scored and t.score is not None]
    beaten = [any(m <= n and b >= a and (m, b) != (n, a) for m, b, _ in found) for n, a, _ in found]
    expected = sorted(each[:2] for each, is_beaten in zip(found, beaten, strict=True) if not is_beaten)
    files = sorted((path / "front").iterdir())
    assert [file.name for file in files] == [f"{place:02d}.json" for place in range(1, len(expected) + 1)]
    assert len(files) > 1
    provenances = [read_genotype(file).provenance for file in files]
    assert [(each["cost"], each["accuracy"]) for each in provenances] == expected
    assert {each["cost_is"] for each in provenances} == {"mult_adds"}
    results = read_run(path)["results"]
    assert [(each["cost"], each["accuracy"]) for each in results["front"]] == expected
    assert [each["trial"] for each in results["front"]] == [each["trial"] for each in provenances]
    assert results["cost_is"] == "mult_adds"


def test_files_of_a_longer_front_before_a_resume_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    search(path, recipe())
    before = {file.name: file.read_bytes() for file in (path / "front").iterdir()}
    for name in ("98.json", "101.json", "mine.json"):
        (path / "front" / name).write_text("{}")
    search(path, recipe())
    after = {file.name: file.read_bytes() for file in (path / "front").iterdir()}
    assert after == before | {"mine.json": b"{}"}


def test_run_json_says_what_came_out(tmp_path: Path) -> None:
    trials = search(tmp_path / "run", recipe())
    record = read_run(tmp_path / "run")
    results = record["results"]
    assert record["status"] == "complete"
    assert results["trials"] == 30 == results["trained"] + results["duplicates"] + results["failed"]
    rewards = [t.reward for t in trials if t.score is not None and t.duplicate_of is None and t.reward is not None]
    assert results["best"]["reward"] == max(rewards)
    assert results["reward_mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert "proxy" in results["reward_is"]
    updates = json.loads((tmp_path / "run" / "curves.json").read_text())["updates"]
    assert [update["trials"] for update in updates] == [5, 10, 15, 20, 25, 30]
    assert {"entropy", "kl", "clip_fraction", "baseline"} < set(updates[0])


def test_a_stopped_search_names_its_resume_command_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", recipe())
    path, stop = tmp_path / "run", StopRequest()
    with pytest.raises(Interrupted, match=re.escape(f"Resume with: nascli search --resume {path}")):
        search(path, recipe(), stop=stop, observer=StopAfter(7, stop))
    record = read_run(path)
    assert (record["status"], record["results"]["trials"]) == ("interrupted", len(read_trials(path / "trials.jsonl")))
    assert (path / "best.json").is_file()
    observer = Recorder()
    assert search(path, recipe(), observer=observer) == whole
    assert observer.restored == record["results"]["trials"]
    best, other = (read_record(folder / "top" / "01.json") for folder in (path, tmp_path / "whole"))
    assert best["provenance"].pop("search_run") != other["provenance"].pop("search_run")
    assert best == other
    assert json.loads((path / "curves.json").read_text()) == json.loads((tmp_path / "whole/curves.json").read_text())


def test_best_json_is_there_as_soon_as_a_trial_is(tmp_path: Path) -> None:
    class Looking(Recorder):
        def on_trial(self, trial: Trial) -> None:
            super().on_trial(trial)
            rewards = [c.reward for c in self.changes if c.score is not None and c.reward is not None]
            if rewards:
                assert read_genotype(tmp_path / "run" / "best.json").provenance["reward"] == max(rewards)

    search(tmp_path / "run", recipe(), observer=Looking())


def test_a_search_whose_trials_all_failed_is_an_error_that_shows_why(tmp_path: Path) -> None:
    with pytest.raises(NascliError, match=r"all 9 trials failed; most often \(9 times\): the loss became nan"):
        search(tmp_path / "run", recipe(search__trials=9), failing=1.0)
    assert read_run(tmp_path / "run")["status"] == "failed"
    assert not (tmp_path / "run" / "best.json").exists()
    assert len(read_trials(tmp_path / "run" / "trials.jsonl")) == 9


def test_too_many_failures_stop_the_search_with_a_diagnosis_and_resume_goes_on(tmp_path: Path) -> None:
    said = r"11 of the last 11 evaluations failed, 11 of them diverged.*nan at step 3\. A smaller train\.lr.*--resume"
    with pytest.raises(NascliError, match=said):
        search(tmp_path / "run", recipe(), failing=1.0)
    trials = read_trials(tmp_path / "run" / "trials.jsonl")
    assert 11 <= sum(trial.finished for trial in trials) < 30
    search(tmp_path / "run", recipe(), failing=0.1)  # the fault is mended: the failures of before do not count
    trials = read_trials(tmp_path / "run" / "trials.jsonl")
    assert len(trials) == 30
    assert all(trial.finished for trial in trials)


def test_seconds_add_up_over_the_sessions(tmp_path: Path) -> None:
    search(tmp_path / "run", recipe())
    first = read_run(tmp_path / "run")["results"]["seconds"]
    search(tmp_path / "run", recipe())
    assert read_run(tmp_path / "run")["results"]["seconds"] >= first > 0


def test_random_and_ppo_are_searched_by_name(tmp_path: Path) -> None:
    random = search(tmp_path / "random", recipe(search__strategy="random"))
    ppo = search(tmp_path / "ppo", recipe())
    assert [t.tokens for t in random] != [t.tokens for t in ppo]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("cifar10", "cifar10-ppo"), ("folder:/data/my flowers/", "my-flowers-ppo"), ("folder:..", "..-ppo")],
)
def test_the_run_is_named_after_data_and_strategy(dataset: str, name: str) -> None:
    assert search_name(recipe(data__dataset=dataset)) == name


def test_the_summary_of_nothing_has_no_best() -> None:
    summary = summarize([], 1.0)
    assert (summary.best, summary.reward_mean, summary.trials) == (None, None, 0)
