"""The best epochs of a training by images held out: their weights are kept, and its end is chosen by them."""

import json
from pathlib import Path
from typing import Any

import pytest

from nascli.models.tensor_files import read_tensors
from tests.cli.program import Nascli

TRAIN = (
    "train --cell cell.json --dataset folder:images --filters 4 --cells-per-stage 1 --batch-size 16 --device cpu "
    "--val-fraction 0.25 --lr 1 --set train.lr_milestones=[0.98] --set train.schedule=steps --seed 2"
)

"""A rate so high that the last epochs are not the best."""


def read_epochs(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def rank(epochs: list[dict[str, Any]]) -> list[int]:
    """The epochs, the best first."""
    return [each["epoch"] for each in sorted(epochs, key=lambda each: (-each["top1"], each["loss"], each["epoch"]))]


def equal_weights(first: str, second: str) -> bool:
    return Path(first, "weights.safetensors").read_bytes() == Path(second, "weights.safetensors").read_bytes()


def test_the_weights_of_the_best_epoch_are_kept_and_the_best_few_stay_on_disk(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --epochs 7 --keep-best --set train.keep_checkpoints=2 --out run --json")
    assert ran.code == 0, ran.err
    epochs = read_epochs("run")
    best, second = rank(epochs)[:2]
    assert best < 7, "choose another seed: the last epoch must not be the best"
    found = ran.json
    assert (found["kept_epoch"], found["epochs"]) == (best, 7)
    assert f"the weights are those of epoch {best}" in ran.err
    assert found["validation"]["loss"] == epochs[best - 1]["loss"]
    folders = sorted(each.name for each in Path("run/best").iterdir())
    assert folders == sorted(f"epoch-{epoch:04}" for epoch in (best, second))
    assert equal_weights("run", f"run/best/epoch-{best:04}")
    measured = nascli(f"evaluate run/best/epoch-{second:04} --dataset folder:images --out other --json")
    assert measured.code == 0, measured.err
    assert nascli("evaluate run --json").json["top1"] == found["top1"]

    for each in epochs:
        assert 0 <= each["train_top1"] <= 1
        assert (each["train_top1"] * 32).is_integer()  # two steps of 16 images
    listed = nascli("runs run --json").json["runs"][0]["reached"]
    assert f"epoch {best} of 7" in listed

    plain = nascli(f"{TRAIN} --epochs 7 --out plain --json")
    assert plain.json["kept_epoch"] == 7
    assert not equal_weights("run", "plain")
    assert not Path("plain/best").exists()


def test_a_training_ends_when_no_epoch_was_better_for_long_enough(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --epochs 30 --keep-best --patience 2 --out run --json")
    assert ran.code == 0, ran.err
    epochs = read_epochs("run")
    best = rank(epochs)[0]
    assert len(epochs) == best + 2 < 30
    assert (ran.json["kept_epoch"], ran.json["epochs"]) == (best, best + 2)
    assert f"stopped after epoch {best + 2} of 30" in ran.err
    assert [each.name for each in Path("run/best").iterdir()] == [f"epoch-{best:04}"]
    assert nascli("train --resume run --json").json["epochs"] == best + 2


@pytest.mark.parametrize("average", ["", "--set train.ema_decay=0.6"])
def test_killed_and_resumed_it_keeps_the_same_epoch(nascli: Nascli, average: str) -> None:
    line = f"{TRAIN} --epochs 7 --keep-best --set train.keep_checkpoints=1 {average}"
    straight = nascli(f"{line} --out straight --json").json
    nascli(f"{line} --set train.checkpoint_steps=1 --out resumed")
    Path("resumed/weights.safetensors").unlink()
    Path("resumed/checkpoint.previous.pt").replace("resumed/checkpoint.pt")
    ran = nascli("train --resume resumed --json")
    assert ran.code == 0, ran.err
    assert ran.json["kept_epoch"] == straight["kept_epoch"]
    assert equal_weights("straight", "resumed")
    tensors = read_tensors(Path("straight/weights.safetensors"))
    kept = read_tensors(Path(f"straight/best/epoch-{straight['kept_epoch']:04}/weights.safetensors"))
    assert all(bool((tensors[name] == kept[name]).all()) for name in tensors)


def test_the_test_split_chooses_nothing(nascli: Nascli) -> None:
    for key in ("--keep-best", "--patience 3", "--set train.keep_checkpoints=1"):
        ran = nascli(
            f"train --cell cell.json --dataset digits --filters 4 --cells-per-stage 1 --epochs 1 {key} --out run"
        )
        assert ran.code == 2
        assert "--val-fraction" in ran.err
    assert not Path("run").exists()


def test_a_detector_without_a_measuring_between_cannot_choose(nascli: Nascli) -> None:
    ran = nascli(
        "detect train --cell cell.json --dataset digit-scenes --keep-best --set train.eval_interval=0 --dry-run"
    )
    assert ran.code == 2
    assert "eval_interval" in ran.err
