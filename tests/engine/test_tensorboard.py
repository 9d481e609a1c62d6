"""`nascli train --tensorboard`: the figures in event files, each step once, resumed or not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import SETTINGS, Nascli, prepare
from tests.fakes import hide_package

TRAIN = f"train --cell cell.json --dataset folder:images {SETTINGS} --out run"


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    prepare()
    return Nascli(capsys)


def curves() -> dict[str, list[tuple[int, float]]]:
    """Every curve in the run's event files as steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("run/tensorboard").Reload()
    names = events.Tags()["scalars"]
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in names}


def expected(key: str) -> list[tuple[int, Any]]:
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    return [(line["step"], pytest.approx(line[key])) for line in lines]


def check_curves() -> None:
    found = curves()
    assert found["val/top1"] == expected("top1")
    assert found["val/top5"] == expected("top5")
    assert found["val/loss"] == expected("loss")
    assert found["train/epoch_loss"] == expected("train_loss")
    assert found["train/images_per_second"] == expected("images_per_second")
    assert found["train/loss"] == expected("train_loss")
    assert found["train/lr"] == expected("lr")


def test_every_figure_is_read_back(nascli: Nascli) -> None:
    assert nascli(f"{TRAIN} --tensorboard").code == 0
    check_curves()


def test_a_resumed_run_goes_on_and_hides_the_steps_that_are_made_again(nascli: Nascli) -> None:
    assert nascli(f"{TRAIN} --tensorboard").code == 0
    shutil.copy("run/checkpoint.previous.pt", "run/checkpoint.pt")
    ran = nascli("train --resume run")
    assert ran.code == 0
    assert "resuming from checkpoint.pt, step 6" in ran.err
    assert len(list(Path("run/tensorboard").iterdir())) == 2
    check_curves()


def test_none_are_written_unasked(nascli: Nascli) -> None:
    assert nascli(TRAIN).code == 0
    assert not Path("run/tensorboard").exists()


def test_without_the_package_it_says_what_to_install(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "tensorboard")
    ran = nascli(f"{TRAIN} --tensorboard")
    assert ran.code == 2
    assert 'pip install "nascli[tensorboard]"' in ran.err
    assert not Path("run").exists()
