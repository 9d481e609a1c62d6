"""How far runs are, from their files: running, killed, silent elsewhere, ended; in words and as JSON."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nascli.config import SearchRecipe, TrainRecipe, load_recipe
from nascli.locks import LOCK_FILE
from nascli.progress import PROGRESS, ProgressFile, read_progress
from nascli.records import format_line, read_record, write_record
from nascli.runs.start import create_run
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.study import run_search
from nascli.search.trial import Trial
from nascli.signals import StopRequest
from tests.cli.program import Nascli
from tests.fakes import FakeEvaluator, Recorder
from tests.front_door.made import TRAIN, write_classes, write_json
from tests.records import sign_lines

SPACE = {"name": "own", "ops": ["sep_conv_3x3", "identity"], "blocks": 1, "combines": ["add"]}
RUN = Path("runs/train/run [1]")


@contextmanager
def running(done: int = 30) -> Iterator[None]:
    """A training whose lock is held: of 100 steps `done` are made, at one step per second."""
    with create_run("train", "a", TrainRecipe(), runs=Path("runs"), out=RUN) as run:
        epochs = [{"epoch": k, "step": 10 * k, "top1": top1} for k, top1 in ((1, 0.5), (2, 0.75), (3, 0.625))]
        lines = b"".join(map(format_line, epochs))
        (run.path / "metrics.jsonl").write_bytes(lines + b'{"epoch": 4, "st')
        progress = ProgressFile(run.path, "steps")
        progress.begin(0, 100, "training")
        progress.write(done, 100, "training", epoch=4, epochs=10, loss=0.5, images_per_second=160.0)
        change_progress(begun=time.time() - done, written=time.time())
        yield


def change_progress(**values: object) -> None:
    path = RUN / PROGRESS
    write_record(path, read_record(path) | values)


def read(nascli: Nascli, line: str = "status") -> dict[str, Any]:
    (status,) = nascli(f"{line} --json").json["runs"]
    return dict(status)


def leave_as_killed() -> None:
    """The run's folder as a kill leaves it: no lock, and run.json as it was."""
    with running():
        record = (RUN / "run.json").read_bytes()
    (RUN / "run.json").write_bytes(record)


def test_a_run_that_is_running(nascli: Nascli) -> None:
    with running():
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in RUN.iterdir()}
        text = nascli("status").out
        status = read(nascli)
        assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in RUN.iterdir()}
    assert "run [1]  running" in text
    for each in ("30%", "step 30/100", "epoch 4/10", "160 images/s", "left", "best top-1 so far 75.00% (epoch 2)"):
        assert each in text
    assert (status["done"], status["total"], status["unit"], status["best"]) == (30, 100, "steps", 0.75)
    assert status["seconds_left"] == pytest.approx(70, rel=0.1)
    assert status["state"] == "running"
    assert read(nascli)["state"] == "complete", "the run could end while it was looked at"


def test_a_run_that_was_killed_says_how_to_resume(nascli: Nascli) -> None:
    leave_as_killed()
    status = read(nascli, "status latest")
    assert status["state"] == "killed"
    assert status["resume"] == ["nascli", "train", "--resume", str(RUN.absolute())]
    assert f"nascli train --resume '{RUN.absolute()}'" in nascli("status").out
    assert "killed" in nascli("runs runs").out


def test_a_run_of_another_machine_lives_while_it_gives_signs(nascli: Nascli) -> None:
    leave_as_killed()
    change_progress(host="elsewhere")
    assert read(nascli)["state"] == "running"
    for path in RUN.iterdir():
        os.utime(path, (time.time() - 750, time.time() - 750))
    assert read(nascli)["state"] == "silent"
    assert "silent on elsewhere" in nascli("status").out
    assert "no sign for 12 min" in nascli("status").out


def test_a_training_writes_its_progress_and_is_seen_from_outside(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nascli.report.run_status import read_status

    seen = []
    monkeypatch.setattr("nascli.engine.fit.ProgressFile", lambda folder, unit: ProgressFile(folder, unit, every=0.0))
    on_epoch = "nascli.cli.progress.TrainProgress.on_epoch"
    monkeypatch.setattr(on_epoch, lambda *_: seen.append(read_status(Path("run"))))
    write_classes(Path("data"))
    assert nascli(f"{TRAIN} --dataset folder:data --out run --epochs 2").code == 0
    assert [(each.state, each.phase, each.done, each.total) for each in seen] == [
        ("running", "evaluating", 3, 6),
        ("running", "evaluating", 6, 6),
    ]
    assert seen[0].images_per_second
    assert (read(nascli, "status run")["state"], read(nascli, "status run")["done"]) == ("complete", 6)


def test_a_search_while_it_runs_and_after(nascli: Nascli) -> None:
    seen: list[dict[str, Any]] = []

    class Looker(Recorder):
        def on_trial(self, trial: Trial) -> None:
            super().on_trial(trial)
            seen.append(read(nascli, "status run"))

    recipe = load_recipe(SearchRecipe, None, {"space": SPACE, "search.trials": 6, "search.strategy": "random"})
    with create_run("search", "test", recipe, runs=Path("runs"), out=Path("run")) as run:
        run_search(run, recipe, InProcessExecutor(FakeEvaluator(0.0)), stop=StopRequest(), observer=Looker())
    middle, last = seen[len(seen) // 2], read(nascli, "status run")
    assert (middle["state"], middle["total"], middle["unit"]) == ("running", 6, "trials")
    assert 0 < middle["done"] < 6
    assert 0 < middle["best"] <= last["best"]
    assert (last["state"], last["done"], last["best_is"]) == ("complete", 6, "proxy accuracy")
    assert sum(last["trials"][kind] for kind in ("complete", "duplicates")) == 6
    progress = read_progress(Path("run"))
    assert progress is not None
    assert (progress.unit, progress.done) == ("trials", 6)


def test_a_detector_and_runs_that_are_spoiled(nascli: Nascli, detector: str) -> None:
    assert read(nascli, f"status {detector}")["state"] == "complete"
    Path("bad").mkdir()
    Path("bad/run.json").write_text("{", encoding="utf-8")
    Path(detector, PROGRESS).write_text('{"unit": 1}', encoding="utf-8")
    assert {each["state"] for each in nascli("status . --json").json["runs"]} == {"damaged", "complete"}


def test_the_pack_that_is_being_made(nascli: Nascli) -> None:
    folder = Path("photos.h5.partial")
    folder.mkdir()
    (folder / LOCK_FILE).touch()
    ProgressFile(folder, "images").begin(50, 200, "packing")
    status = read(nascli, f"status {folder}")
    assert (status["command"], status["done"], status["total"], status["state"]) == ("pack", 50, 200, "killed")
    assert status["resume"] == [], "nascli pack has no --resume: the same command goes on"


def test_watching_ends_with_the_run(nascli: Nascli, classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "complete" in nascli(f"status {classifier} --watch").out
    asleep = []

    def sleep(seconds: float) -> None:
        asleep.append(seconds)
        if len(asleep) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("nascli.cli.status.time.sleep", sleep)
    with running():
        ran = nascli("status --watch --interval 1")
    assert (ran.code, asleep) == (0, [1.0, 1.0])
    assert nascli("status --watch --json").code == 2


def test_no_runs(nascli: Nascli) -> None:
    for line in ("status", "status latest", "status nowhere"):
        ran = nascli(line)
        assert ran.code == 2
        assert "nascli search" in ran.err


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"run_id": "1x", "config": {"lr": 1}},
        {"command": ["train"], "status": "running"},
        {"command": "train", "status": 1},
        {"command": "search", "status": "running", "recipe": "a.toml"},
        {"command": "search", "status": "running", "recipe": {"search": None}},
        {"command": "detect", "status": "complete", "results": [1]},
    ],
)
def test_a_run_json_of_another_program_is_damaged_and_the_other_runs_are_shown(
    nascli: Nascli, record: dict[str, Any]
) -> None:
    write_json(Path("runs/other/run.json"), record)
    write_json(Path("runs/own/run.json"), {"command": "train", "status": "complete"})
    states = {Path(each["path"]).name: each["state"] for each in nascli("status --json").json["runs"]}
    assert states == {"other": "damaged", "own": "complete"}
    assert nascli("runs").code == 0


def test_results_and_metrics_that_somebody_changed(nascli: Nascli) -> None:
    for command, results in (("train", {"top1": "best"}), ("train", {"top1": 0.5}), ("detect", {"ap50": 0.5})):
        write_json(Path("run/run.json"), {"command": command, "status": "complete", "results": results})
        assert read(nascli, "status run")["reached"] == ""
    write_json(Path("run/run.json"), {"command": "train", "status": "complete"})
    lines = ({"top1": "0.9", "epoch": 1}, {"top1": float("nan"), "epoch": 2}, {"top1": 0.25, "epoch": 3})
    Path("run/metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    sign_lines(Path("run/metrics.jsonl"))
    assert read(nascli, "status run")["best_at"] == 3


@pytest.mark.parametrize("change", [{"done": "3"}, {"total": None}, {"written": "now"}, {"facts": [1]}])
def test_a_progress_file_that_somebody_changed_is_not_told(nascli: Nascli, change: dict[str, Any]) -> None:
    with running():
        change_progress(**change)
        assert read(nascli)["state"] == "running"
        assert nascli("status").code == 0
