"""A part of the training images held out to validate on, and what is measured on the split that the data have."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli, prepare

TRAIN = "train --cell cell.json --dataset folder:images --filters 4 --cells-per-stage 1 --batch-size 16 --device cpu"


@pytest.fixture
def nascli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nascli:
    monkeypatch.chdir(tmp_path)
    prepare()
    return Nascli(capsys)


def read_lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def test_the_split_of_the_data_is_measured_once_at_the_end(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --epochs 2 --val-fraction 0.25 --out run --json")
    assert "45 images to train on, 15 held out to validate on, 18 of val to measure at the end" in ran.err
    found, epochs = ran.json, read_lines("run")
    assert (found["split"], found["images"], found["validation"]["images"]) == ("val", 18, 15)
    assert [each["images"] for each in epochs] == [15, 15]
    assert found["validation"]["top1"] == epochs[-1]["top1"]
    record = json.loads(Path("run/run.json").read_text())
    assert (record["val_split"], record["test_split"]) == ("held-out", "val")
    assert [record["data"][f"{name}_images"] for name in ("train", "val", "test")] == [45, 15, 18]
    measured = nascli("evaluate run --device cpu --json").json
    assert [measured[key] for key in ("split", "images", "top1")] == ["val", 18, found["top1"]]


def test_the_images_held_out_follow_from_the_seed_and_are_of_every_class(nascli: Nascli) -> None:
    from nascli.config import DataConfig
    from nascli.data.registry import load_dataset

    config = DataConfig(dataset="folder:images", val_fraction=0.25)
    first, again, other = (load_dataset(config, holdout_seed=seed) for seed in (1, 1, 2))
    assert [int((first.val.labels == label).sum()) for label in range(3)] == [5, 5, 5]

    def bytes_of(split: Any) -> list[bytes]:  # noqa: ANN401
        return [image.numpy().tobytes() for batch, _ in split.evaluation_batches(8) for image in batch]

    held, left = set(bytes_of(first.val)), set(bytes_of(first.train))
    assert not held & left
    assert len(held | left) == 60
    assert bytes_of(again.val) == bytes_of(first.val) != bytes_of(other.val)
    assert first.mean != load_dataset(config.model_copy(update={"val_fraction": 0.0})).mean


@pytest.mark.parametrize(
    ("names", "held", "end", "unused"),
    [
        (("train", "val", "test"), 15, "test", ["val"]),
        (("train", "test"), 15, "test", []),
        (("train",), 15, None, []),
        (("train", "val"), 15, "val", []),
    ],
)
def test_a_split_for_tests_is_the_one_for_the_end(
    nascli: Nascli, names: tuple[str, ...], held: int, end: str | None, unused: list[str]
) -> None:
    for name in ("val", "test"):
        if name in names and not Path("images", name).is_dir():
            shutil.copytree("images/val", f"images/{name}")
    if "val" not in names:
        shutil.rmtree("images/val")
    ran = nascli(f"{TRAIN} --val-fraction 0.25 --dry-run --json")
    assert ran.code == 0, ran.err
    plan = ran.json
    assert (plan["train_images"], plan["val_images"]) == (60 - held, held)
    assert (plan["val_split"], plan["test_split"], plan["unused_splits"]) == ("held-out", end, unused)


def test_a_part_is_held_out_of_a_pack_and_of_digits(nascli: Nascli) -> None:
    assert nascli("pack images packed.h5").code == 0
    for dataset, test in (("pack:packed.h5", "val"), ("digits", "test")):
        ran = nascli(f"{TRAIN.replace('folder:images', dataset)} --val-fraction 0.25 --dry-run --json")
        assert (ran.json["val_split"], ran.json["test_split"]) == ("held-out", test)


def test_a_class_without_an_image_to_hold_out_is_named(nascli: Nascli) -> None:
    for file in sorted(Path("images/train/cow").iterdir())[1:]:
        file.unlink()
    ran = nascli(f"{TRAIN} --val-fraction 0.25 --dry-run --json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "data.val_fraction")
    assert "'cow'" in ran.json["error"]["message"]


def test_no_epoch_is_chosen_without_a_class_or_by_tests_of_any_name(nascli: Nascli) -> None:
    shutil.copytree("images/val", "tests/Testing")
    shutil.copytree("images/train", "tests/train")
    ran = nascli(f"{TRAIN.replace('images', 'tests')} --keep-best --dry-run --json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "train.keep_best")
    shutil.rmtree("images/val/dog")
    ran = nascli(f"{TRAIN} --keep-best --dry-run --json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "train.keep_best")
    assert "'dog'" in ran.json["error"]["message"]
    assert nascli(f"{TRAIN} --dry-run --json").code == 0
