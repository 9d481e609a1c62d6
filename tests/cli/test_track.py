"""`--track`: figures go to a tracker through its client, whose failure ends no training.

The clients are played: each has the functions of its library that are called, and remembers the calls.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.program import Nascli

TRAIN = "train --cell cell.json --dataset folder:images --filters 4 --cells-per-stage 1 --batch-size 16 --device cpu"


class Played:
    """A module like trackio and wandb, or like mlflow."""

    def __init__(self, broken: str = "") -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.broken = broken
        self.MlflowClient = lambda: self

    def _call(self, name: str, /, **given: object) -> Any:  # noqa: ANN401
        if name == self.broken:
            raise ConnectionError("the server is away\nsecond line")
        self.calls.append((name, given))
        return SimpleNamespace(name="name-1", id="id-1", info=SimpleNamespace(run_id="run-1"), experiment_id="7")

    def init(self, **given: object) -> Any:  # noqa: ANN401
        return self._call("init", **given)

    def log(self, figures: dict[str, float], step: int) -> None:
        self._call("log", figures=figures, step=step)

    def finish(self, **given: object) -> None:
        self._call("finish", **given)

    def get_experiment_by_name(self, name: str) -> None:
        self._call("find", name=name)

    def create_experiment(self, name: str) -> str:
        self._call("experiment", name=name)
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:  # noqa: ANN401
        return self._call("init", experiment=experiment, name=run_name)

    def update_run(self, run: str, status: str) -> None:
        self._call("again", run=run, status=status)

    def log_param(self, run: str, key: str, value: object) -> None:
        self._call("param", run=run, key=key, value=value)

    def log_metric(self, run: str, key: str, value: float, step: int) -> None:
        self._call("log", figures={key: value}, step=step)

    def set_terminated(self, run: str, status: str) -> None:
        self._call("finish", run=run, status=status)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [given for call, given in self.calls if call == name]


def play(monkeypatch: pytest.MonkeyPatch, tool: str, broken: str = "") -> Played:
    played = Played(broken)
    monkeypatch.setitem(sys.modules, tool, played)
    return played


@pytest.mark.parametrize("tool", ["mlflow", "trackio", "wandb"])
def test_the_figures_of_each_epoch_are_sent_and_a_resumed_run_goes_on(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    played = play(monkeypatch, tool)
    ran = nascli(f"{TRAIN} --epochs 2 --track {tool} --out run")
    assert ran.code == 0, ran.err
    epochs = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    sent: dict[int, dict[str, float]] = {}
    for given in played.named("log"):
        sent.setdefault(given["step"], {}).update(given["figures"])
    assert [sent[each["step"]]["val/top1"] for each in epochs] == [each["top1"] for each in epochs]
    assert [sent[each["step"]]["train/top1"] for each in epochs] == [each["train_top1"] for each in epochs]
    settings = {given["key"]: given["value"] for given in played.named("param")} or played.named("init")[0]["config"]
    assert (settings["train.epochs"], settings["data.dataset"]) == (2, "folder:images")
    assert len(played.named("finish")) == 1
    known = json.loads(Path("run/tracking.json").read_text())
    assert known == {"tool": tool, "id": {"mlflow": "run-1", "trackio": "name-1", "wandb": "id-1"}[tool]}

    Path("run/checkpoint.previous.pt").replace("run/checkpoint.pt")
    played.calls.clear()
    assert nascli("train --resume run").code == 0
    again = played.named("again") if tool == "mlflow" else played.named("init")
    assert known["id"] in again[0].values()
    assert {given["step"] for given in played.named("log")} == {epochs[1]["step"]}


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_tracker_that_fails_ends_no_training(nascli: Nascli, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    play(monkeypatch, "wandb", broken)
    ran = nascli(f"{TRAIN} --epochs 2 --track wandb --out run")
    assert ran.code == 0, ran.err
    assert ran.err.count("the server is away") == 1
    assert "second line" not in ran.err
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 2


def test_a_tracker_that_is_not_installed_is_named(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    ran = nascli(f"{TRAIN} --epochs 1 --track trackio --out run")
    assert ran.code == 2
    assert "pip install" in ran.err
    assert not Path("run").exists()
