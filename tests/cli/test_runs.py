"""The list of runs."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nascli.config import TrainRecipe
from nascli.runs.start import create_run
from tests.cli.program import exit_code


@contextmanager
def make_runs(folder: Path) -> Iterator[None]:
    """A complete run, one that is running, one that is damaged."""
    with create_run("train", "a", TrainRecipe(), runs=folder, out=folder / "train" / "1-a") as run:
        (run.path / "metrics.jsonl").touch()
        run.update(results={"top1": 0.5, "dataset": "digits", "params": 1234})
    damaged = folder / "search" / "3-c"
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{")
    with create_run("detect", "b", TrainRecipe(), runs=folder, out=folder / "detect" / "2-b"):
        yield


def test_each_run_is_listed_with_its_state_results_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "[odd]")  # brackets would be markup
    with make_runs(Path(folder)):
        assert exit_code("runs", folder) == 0
        text = capsys.readouterr().out
        assert exit_code("runs", folder, "--json") == 0
        runs = json.loads(capsys.readouterr().out)["runs"]
    assert re.search(r"\[odd\]/train/1-a  complete, \d+\.\d s", text)
    assert "final top-1 50.00% on digits, 1,234 params" in text
    assert "metrics.jsonl" in text
    assert "2-b  running\n" in text
    assert "3-c  damaged" in text
    assert {each["status"]: each["command"] for each in runs} == {
        "complete": "train",
        "running": "detect",
        "damaged": "?",
    }


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("runs", str(tmp_path)) == 2
    assert "holds no run" in capsys.readouterr().err
    assert exit_code("runs", str(tmp_path / "nowhere")) == 2
