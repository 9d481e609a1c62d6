"""`nascli report` as a user calls it: a run folder in, a page and figures out."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nascli.cli import report
from nascli.cli.app import main
from nascli.config import SearchRecipe, TrainRecipe
from nascli.genotype.cells.space import resolve_cell_space
from nascli.runs.start import create_run
from nascli.search.journal import Finished, Journal, Proposed
from tests.report.search_runs import make_recipe, propose_trials

Nascli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    """The command, called in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, captured.out, captured.err

    return call


def search_run(recipe: SearchRecipe, trials: int, out: Path | None = None) -> Path:
    """A search run with a journal, under `runs` unless a folder is given."""
    with create_run("search", "made", recipe, runs=Path("runs").resolve(), out=out) as run:
        with Journal(run.file("trials.jsonl")) as journal:
            for trial in propose_trials(resolve_cell_space(recipe.space), trials):
                journal.append(Proposed.of(trial))
                reward = 0.5 + trial.id / 100
                journal.append(
                    Finished(
                        trial=trial.id, reward=reward, accuracy=reward, params=10, mult_adds=20 + trial.id, seconds=0.0
                    )
                )
        return run.path


def test_the_newest_search_becomes_a_page(nascli: Nascli) -> None:
    run = search_run(make_recipe(search__top=1), 3)
    code, out, err = nascli("latest", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["run"] == str(run)
    assert made["report"] == str(run / "report.html")
    assert Path(made["report"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert all(Path(file).parent == run / "report" and Path(file).is_file() for file in made["figures"])
    assert made["baseline"] is None
    assert made["verdict"] in re.sub(r"\s+", " ", err)
    assert made["warnings"] == []


def test_a_baseline_and_another_folder_can_be_given(nascli: Nascli) -> None:
    run = search_run(make_recipe(search__strategy="ppo", search__top=1), 2, Path("mine"))
    random = search_run(make_recipe(search__strategy="random"), 4, Path("elsewhere/random"))
    (run / "best.json").touch()
    code, out, err = nascli("mine", "--baseline", random, "--out", "page")
    assert code == 0
    assert out == "report: page/report.html\n"
    assert "2 trials each: ppo 51.00%, random search 52.33%" in Path("page/report.html").read_text(encoding="utf-8")
    assert not (run / "report.html").exists()
    assert err.splitlines()[-1] == "next: nascli train --cell mine --dataset digits"


def test_the_front_and_its_hypervolume_are_told_beside_those_of_random_search(nascli: Nascli) -> None:
    search_run(make_recipe(search__strategy="ppo", search__top=1), 2, Path("mine"))
    search_run(make_recipe(search__strategy="random"), 4, Path("elsewhere/random"))
    code, out, _ = nascli("mine", "--baseline", "elsewhere/random", "--json")
    made = json.loads(out)
    assert code == 0
    assert made["cost_is"] == "mult_adds"
    assert [(each["trial"], each["accuracy"], each["cost"]) for each in made["front"]] == [(0, 0.5, 20), (1, 0.51, 21)]
    # of the nine squares between 23 mult-adds, 50 % and 20, 53 %; two random trials have 11 in their six pairs
    volume = made["hypervolume"]
    assert volume["reference"] == {"accuracy": 0.5, "cost": 23.0}
    assert volume["search"] == pytest.approx(2 / 9)
    assert volume["random"] == pytest.approx(11 / 6 / 9, abs=0.03)


def prepare() -> None:
    """The files that wrong usages name."""
    Path("empty").mkdir()
    Path("file").touch()
    with create_run("train", "x", TrainRecipe(), runs=Path("runs"), out=Path("trained")):
        pass
    search_run(make_recipe(), 0, Path("propose_trials"))
    search_run(make_recipe(search__strategy="ppo", search__top=1), 1, Path("mine"))
    search_run(make_recipe(search__strategy="random", train__epochs=3), 1, Path("other"))


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("latest", 2, "nascli search makes one"),
        ("nowhere", 2, "nowhere: no such folder"),
        ("empty", 2, "empty: not a run folder"),
        ("trained", 2, "trained has made no epoch yet"),
        ("propose_trials", 2, "propose_trials has no trial yet"),
        ("mine --baseline mine", 2, "mine is a search by ppo, not by random"),
        ("mine --baseline other", 2, "train.epochs is 3 there and 10 here"),
        ("mine --out file", 1, "file cannot be written"),
    ],
)
def test_wrong_usage_is_explained(nascli: Nascli, line: str, code: int, words: str) -> None:
    prepare()
    before = sorted(Path().rglob("*"))
    left, out, err = nascli(*shlex.split(line))
    assert left == code, err
    assert words in err
    assert out == ""
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before, "nothing is written"


def test_the_examples_of_the_help_are_of_this_command() -> None:
    examples = [example.removeprefix("nascli report").strip() for example in report.run.examples]
    assert len(examples) == 6


def test_the_command_loads_neither_torch_nor_matplotlib_before_it_runs() -> None:
    code = "import sys, nascli.cli.report; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(report.__file__).parents[2], timeout=120)
