"""`nascli search` as a user runs it: on real digits with real worker processes, killed and resumed."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nascli.cli.console import Terminal
from nascli.cli.search_view import LiveView, PlainView, watch
from nascli.config import SearchConfig, SearchRecipe, load_recipe
from nascli.genotype.genotype import read_genotype
from nascli.runs.find import read_run
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Trial
from nascli.signals import StopRequest
from tests.cli.program import exit_code
from tests.fakes import TINY, FakeEvaluator

RECIPE = """
seed = 5
[data]
dataset = "digits"
[space]
name = "mine"
ops = ["sep_conv_3x3", "max_pool_3x3", "identity"]
blocks = 1
[network]
filters = 2
cells_per_stage = 1
image_size = 8
[train]
epochs = 1
batch_size = 64
[search]
trials = 5
workers = 2
top = 2
[ppo]
batch_size = 3
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A search that nobody disturbed: its folder, stdout and stderr."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        assert exit_code("search", "--recipe", str(recipe), "--out", str(folder)) == 0
    return folder, stdout.getvalue(), stderr.getvalue()


def lasting(folder: Path) -> list[Trial]:
    """The trials of a run without their times."""
    trials = read_trials(folder / "trials.jsonl")
    return [replace(t, score=t.score and replace(t.score, seconds=0.0)) for t in trials]


def test_a_search_leaves_the_best_cell_and_says_what_comes_next(whole: tuple[Path, str, str]) -> None:
    folder, stdout, stderr = whole
    trials = read_trials(folder / "trials.jsonl")
    assert len(trials) == 5
    assert all(trial.finished for trial in trials)
    best = read_genotype(folder / "best.json")
    assert best.space == "mine"
    assert best.provenance["reward"] == max(trial.reward or 0 for trial in trials)
    assert {path.name for path in folder.iterdir()} >= {"run.json", "recipe.toml", "trials.jsonl", "top", "curves.json"}
    assert "best of 5 trials on digits" in stdout
    assert "proxy accuracy" in stdout
    assert "it is not the final accuracy" in stdout
    assert f"nascli decode {folder}" in stderr
    assert f"nascli train --cell {folder} --dataset digits" in stderr
    assert stderr.count("\ntrial ") == 5  # one line per finished trial
    assert load_recipe(SearchRecipe, folder / "recipe.toml").search.trials == 5
    record = read_run(folder, "search")
    assert record["status"] == "complete"
    assert record["results"]["trained"] + record["results"]["duplicates"] + record["results"]["failed"] == 5


def test_a_finished_search_resumes_to_the_same_and_grows(
    whole: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = whole
    before = (folder / "trials.jsonl").read_bytes()
    assert exit_code("search", "--resume", str(folder), "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)  # one JSON object and nothing else
    assert result["run"] == str(folder)
    assert result["trials"] == 5
    assert "proxy" in result["reward_is"]
    assert (folder / "trials.jsonl").read_bytes() == before
    assert exit_code("search", "--resume", str(folder), "--trials", "6") == 0
    assert (folder / "trials.jsonl").read_bytes().startswith(before)
    assert len(read_trials(folder / "trials.jsonl")) == 6
    record = read_run(folder)
    assert record["trials_changed"] == [{"from": 5, "to": 6}]
    assert record["recipe"]["search"]["trials"] == 6
    assert load_recipe(SearchRecipe, folder / "recipe.toml").search.trials == 6
    assert exit_code("search", "--resume", str(folder), "--trials", "5") == 2
    assert "--trials 5" in (said := capsys.readouterr().err)
    assert "6 were proposed" in said


def test_a_stopped_search_may_end_earlier(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"

    def interrupt() -> None:
        wait_for_lines(folder / "trials.jsonl", 2)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert exit_code("search", "--recipe", str(recipe), "--out", str(folder), "--trials", "40") == 130
    proposed = len(read_trials(folder / "trials.jsonl"))
    assert proposed < 40
    assert exit_code("search", "--resume", str(folder), "--trials", str(proposed - 1)) == 2
    assert f"{proposed} were proposed" in capsys.readouterr().err
    assert exit_code("search", "--resume", str(folder), "--trials", str(proposed)) == 0
    trials = read_trials(folder / "trials.jsonl")
    assert len(trials) == proposed
    assert all(trial.finished for trial in trials)
    record = read_run(folder)
    assert record["trials_changed"] == [{"from": 40, "to": proposed}]
    assert record["status"] == "complete"


def wait_for_lines(journal: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The worker processes of a search."""
    return [
        int(child)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_search_that_is_stopped_and_killed_ends_as_the_undisturbed_one(
    whole: tuple[Path, str, str], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C; then a worker is killed, then the search itself; then it may finish."""
    folder = tmp_path / "run"
    journal = folder / "trials.jsonl"

    def interrupt() -> None:
        wait_for_lines(journal, 2)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert exit_code("search", "--recipe", str(recipe), "--out", str(folder)) == 130
    stderr = capsys.readouterr().err
    assert f"Resume with: nascli search --resume {folder}" in stderr
    assert "Traceback" not in stderr
    assert read_run(folder)["status"] == "interrupted"

    command = [sys.executable, "-m", "nascli", "search", "--resume", str(folder)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(workers := children(killed.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)
    wait_for_lines(journal, 5)
    workers += children(killed.pid)
    killed.kill()
    killed.wait()
    while any(map(running, workers)):
        assert time.monotonic() < deadline + 60, "workers were left running"
        time.sleep(0.05)
    assert read_run(folder)["status"] == "running"

    assert exit_code("search", "--resume", str(folder)) == 0
    assert lasting(folder) == lasting(whole[0])[:5]
    assert capsys.readouterr().out.startswith("best of 5 trials")
    assert read_run(folder)["resumed"] == 2


@pytest.mark.parametrize("kills", [pytest.param(count, marks=pytest.mark.slow) for count in (3, 30)])
def test_kills_at_random_moments_change_nothing(
    whole: tuple[Path, str, str], recipe: Path, tmp_path: Path, kills: int
) -> None:
    folder, draw = tmp_path / "run", random.Random(kills)
    command = [sys.executable, "-m", "nascli", "search"]
    arguments = ["--recipe", str(recipe), "--out", str(folder)]
    for _ in range(kills):
        search = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(2, 12))
        search.kill()
        search.wait()
        if (folder / "run.json").exists():
            arguments = ["--resume", str(folder)]
    assert exit_code("search", *arguments) == 0
    assert lasting(folder) == lasting(whole[0])[:5]


def test_dry_run_measures_and_writes_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("search", "--recipe", str(recipe), "--dry-run") == 0
    captured = capsys.readouterr()
    assert "5, 2 at a time" in captured.out
    assert "estimated total" in captured.out
    assert not Path(os.environ["NASCLI_RUNS"]).exists()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataset", "digitz"], 2, "data set 'digitz' is unknown. Did you mean digits?"),
        (["--dataset", "folder:no/where"], 2, "no/where"),
        (["--recipe", "cifar11-cpu"], 2, "Did you mean cifar10-cpu?"),
        (["--recipe", "my.toml"], 2, "recipe my.toml: no such file"),
        (["--space", "nasnett"], 2, "Did you mean nasnet?"),
        (["--strategy", "magic"], 2, "magic"),
        (["--trials", "0"], 2, "search.trials = 0"),
        (["--epochs", "many"], 2, "integer"),
        (["--set", "search.holdot=0.2"], 2, "Did you mean holdout?"),
        (["--set", "search.holdout"], 2, "not of the form key=value"),
        (["--set", "space.ops=['sep_conv_9x9']", "--set", "space.name=x"], 2, "Did you mean sep_conv"),
        (["--set", "search.failure_reward=nan"], 2, "search.failure_reward"),
        (["--device", "abacus"], 2, "no such device"),
        (["--resume", "runs/nothing"], 2, "runs/nothing: no such folder"),
        (["--resume", "latest"], 2, "nascli search makes one"),
        (["--resume", "latest", "--seed", "3", "--dataset", "digits"], 2, "it excludes --dataset, --seed"),
        (["--resume", "latest", "--device", "auto", "--dry-run"], 2, "it excludes --device, --dry-run"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("search", *arguments) == code
    stderr = " ".join(capsys.readouterr().err.split())
    assert message in stderr
    assert "Traceback" not in stderr
    assert not Path(os.environ["NASCLI_RUNS"]).exists()


def test_a_folder_that_is_in_the_way_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for arguments in ([], ["--overwrite"]):
        assert exit_code("search", "--out", str(tmp_path), *arguments) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_a_damaged_journal_is_exit_code_1_and_named(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nascli.runs.start import create_run

    made = load_recipe(SearchRecipe, recipe)
    with create_run("search", "x", made, runs=tmp_path, out=tmp_path / "run", asked={"device": "cpu"}) as run:
        run.file("trials.jsonl").write_text('{"event": "proposed"}\n')
    assert exit_code("search", "--resume", str(tmp_path / "run")) == 1
    assert "trials.jsonl, line 1" in capsys.readouterr().err


def test_another_command_s_run_is_refused(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nascli.runs.start import create_run

    with create_run("train", "x", load_recipe(SearchRecipe, recipe), runs=tmp_path, out=tmp_path / "run"):
        pass
    assert exit_code("search", "--resume", str(tmp_path / "run")) == 2
    assert "is a run of nascli train" in capsys.readouterr().err


def test_without_a_recipe_the_data_set_chooses_one_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, name in (
        ([], "digits"),
        (["--dataset", "cifar10"], "cifar10-cpu"),
        (["--dataset", "x"], "cifar10-cpu"),
    ):
        exit_code("search", *arguments, "--set", "nothing=1")
        captured = capsys.readouterr()
        assert captured.err.startswith(f"recipe {name} (another with --recipe)")
        assert "options: unknown key nothing" in captured.err


def play(view: LiveView | PlainView, tmp_path: Path) -> None:
    """A whole search in front of a view."""
    with Journal(tmp_path / "trials.jsonl") as journal:
        plan = SearchPlan(space=TINY, trials=12, seed=0, failure_reward=0.0)
        executor = InProcessExecutor(FakeEvaluator(failing=0.3))
        SearchLoop(RandomSearch(TINY, 0), executor, journal, plan, view).run(StopRequest())


def test_the_live_view_shows_the_best_cells_counts_and_controller(tmp_path: Path) -> None:
    terminal = Terminal()
    terminal.notes = Console(file=io.StringIO(), force_terminal=True, width=100)
    with watch(terminal, "digits · random", SearchRecipe(search=SearchConfig(trials=12))) as view:
        assert isinstance(view, LiveView)
        play(view, tmp_path)
    view.on_update(4, {"updates": 1.0, "entropy": 84.4, "baseline": 0.5})
    shown = Console(file=io.StringIO(), width=100, record=True)
    shown.print(view.render())
    text = shown.export_text()
    trials = read_trials(tmp_path / "trials.jsonl")
    best = max(trials, key=lambda trial: trial.reward or 0.0)
    failed = sum(trial.score is None for trial in trials)
    for phrase in ("digits · random", "12/12", f"{12 - failed} trained · {failed} failed", "nan at step 3"):
        assert phrase in text
    assert f"{best.reward:.2%}".replace("%", " %") in text
    assert best.hash[:8] in text
    assert "1 update · entropy 84.4 nats · baseline 50.00 %" in text


def test_the_plain_view_writes_a_line_a_finished_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watch(Terminal(), "digits · random", SearchRecipe(search=SearchConfig(trials=12))) as view:
        assert isinstance(view, PlainView)
        play(view, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert any("failed: the loss became nan" in line for line in lines)
    assert "(12/12, best " in lines[-1]
