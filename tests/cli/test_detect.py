"""`nascli detect` with real files: train, stop, resume, predict, and every wrong use."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.cli.app import main
from nascli.engine.checkpoint import CheckpointStore
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from nascli.records import read_record
from tests.detect.coco_folder import write_coco
from tests.detect.small_detector import GENOTYPE, small_network

SMALL = [
    *(
        "--set",
        "detector.pyramid_channels=16",
        "--set",
        "detector.head_channels=32",
        "--set",
        "detector.box_batch_size_per_image=16",
    ),
    *("--set", "detector.rpn_post_nms_top_n=50", "--set", "train.warmup_steps=2", "--batch-size", "4", "--lr", "0.02"),
]
RECIPE = ["--recipe", "digit-scenes"]
EVERYTHING = shlex.split(
    "--set train.grad_accum_steps=2 --set train.aspect_grouping=true --set train.ema_decay=0.9 --set train.flip=true "
    "--set train.multi_scale=[48,64] --set train.precision=bfloat16 --set train.schedule=steps"
)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with COCO-format data, a cell, and a trained backbone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASCLI_RUNS", "runs")
    write_coco(tmp_path / "data" / "coco")
    (tmp_path / "cell.json").write_text(GENOTYPE.to_json())
    backbone = tmp_path / "runs" / "train" / "latest"
    backbone.mkdir(parents=True)
    torch.manual_seed(0)
    network = small_network()
    write_network(backbone / "network.json", network.spec)
    save_weights(backbone / "weights.safetensors", network)
    return tmp_path


def detect(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["detect", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_train_on_the_newest_backbone_then_predict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--coco", *RECIPE, *SMALL, "--epochs", 5, "--json") == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    run = place / "runs" / "detect" / "latest"
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["command"]) == ("complete", "detect")
    assert record["results"]["ap50"] == report["ap50"]
    assert any(path.endswith("instances_val2017.json") for path in record["inputs"])
    assert any(path.endswith("weights.safetensors") for path in record["inputs"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert (report["dataset"], report["split"], report["images"], report["steps"]) == ("coco", "val", 4, 10)
    assert (run / "confusion.png").is_file()
    assert len(list((run / "worst").iterdir())) == 4
    assert detect("score", run / "results.json", "--coco", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["per_class"] == report["per_class"], "the results file holds what was scored"
    for phrase in ("8 images with 12 boxes", "weights of", "epoch 5/5", "nascli detect predict"):
        assert phrase in printed.err

    image = place / "data" / "coco" / "val2017" / "0001.png"
    assert detect("predict", image, image.parent, "--threshold", 0.0, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["images"]) == 5
    assert Path(values["out"]) == run.resolve() / "predictions"
    assert (run / "predictions" / "predictions.json").is_file()
    assert (run / "predictions" / "0001-2.png").is_file()
    assert detect("predict", image, "--run", run, "--out", "mine", "--threshold", 0.9) == 0
    assert "0001.png" in capsys.readouterr().out
    assert (place / "mine" / "0001.png").is_file()


def test_random_weights_and_training_images_as_the_measure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--preset", "cifar10", "--filters", 4, "--cells-per-stage", 1]
    more = ["--max-train-images", 4, "--set", "data.evaluate_on=train", "--epochs", 1, "--seed", 3, "--out", "own"]
    assert detect("--coco", "--cell", "cell.json", *sizes, *RECIPE, *SMALL, *more) == 0
    printed = capsys.readouterr()
    assert "random weights" in printed.err
    assert "train (the images it was trained on)" in printed.out
    assert "blue thing" in printed.out
    assert "/0001.png --run own" in printed.err
    network = json.loads((place / "own" / "network.json").read_text())
    assert (network["filters"], network["batch_norm_momentum"]) == (4, 0.1)
    assert 'evaluate_on = "train"' in (place / "own" / "recipe.toml").read_text()
    assert detect("--coco", "--cell", "cell.json", *RECIPE, "--out", "own") == 2
    assert "own is not empty" in capsys.readouterr().err
    assert detect("--recipe", place / "own" / "recipe.toml", "--cell", "cell.json", *sizes, "--out", "again") == 0
    assert (place / "own" / "results.json").read_bytes() == (place / "again" / "results.json").read_bytes()


def test_dry_run_measures_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert detect("--coco", *RECIPE, *SMALL, *EVERYTHING, "--epochs", 3, "--dry-run", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["train_images"], values["train_boxes"], values["classes"]) == (8, 12, 2)
    assert (values["steps"], values["scored_images"]) == (6, 4)
    assert 0 < values["seconds_per_step"] < values["seconds"]
    assert sorted(place.rglob("*")) == before


def test_skipped_boxes_are_said_aloud(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "data" / "coco" / "annotations" / "instances_train2017.json"
    values: dict[str, Any] = json.loads(file.read_text())
    values["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(values))
    assert detect("--coco", *RECIPE, *SMALL, "--dry-run") == 0
    said = capsys.readouterr().err
    assert "instances_train2017.json: 1 skipped: box empty or inverted: " in said
    assert "(first: annotation id 1 (image id 1)" in said


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from nascli.cli.app import main; main()", "detect", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_data_that_moved_are_remembered_on_resume(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--coco", *RECIPE, *SMALL, "--epochs", "1", "--out", "run") == 0
    (place / "data").rename(place / "moved")
    assert detect("--resume", "run") == 2
    assert detect("--resume", "run", "--data-dir", "moved") == 0
    assert detect("--resume", "run") == 0
    assert json.loads((place / "run" / "run.json").read_text())["recipe"]["data"]["data_dir"] == "moved"


@pytest.mark.parametrize(("number", "more"), [(signal.SIGKILL, EVERYTHING), (signal.SIGTERM, [])])
def test_killed_at_any_moment_and_resumed_it_ends_the_same(
    place: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals, more: list[str]
) -> None:
    arguments = ["--coco", *RECIPE, *SMALL, *more, "--epochs", "6"]
    assert detect(*arguments, "--out", "whole") == 0
    process = start([*arguments, "--out", "killed"])
    metrics = place / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "Resume with: nascli detect --resume" in said
    capsys.readouterr()
    assert detect("--resume", "killed", "--json") == 0
    ours, theirs = (read_record(place / name / "detection.json") for name in ("whole", "killed"))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (place / "whole" / name).read_bytes() == (place / "killed" / name).read_bytes()
    assert json.loads((place / "killed" / "run.json").read_text())["resumed"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        (["--coco", "--dataset", "digit-scenes"], 2, ["--coco and --dataset digit-scenes exclude each other"]),
        (["--dataset", "cocoa"], 2, ["'cocoa'", "Did you mean coco?"]),
        (["--coco", "--data-dir", "empty"], 2, ["empty/coco", "instances_train2017.json", "train2017"]),
        (["--dataset", "coco:data/coco/none.json"], 2, ["data/coco/none.json"]),
        (["--coco", "--backbone", "nowhere"], 2, ["nowhere: no such folder", "nascli train"]),
        (["--coco", "--backbone", "data"], 2, ["there is no network.json", "--backbone"]),
        (["--coco", "--backbone", "latest", "--cell", "cell.json"], 2, ["--cell excludes --backbone"]),
        (["--coco", "--filters", "8"], 2, ["--filters needs --cell"]),
        (["--coco", "--cell", "nasnet-z"], 2, ["Did you mean nasnet-a?"]),
        (["--coco", "--cell", "cell.json", "--filters", "0"], 2, ["filters = 0"]),
        (["--coco", "--recipe", "cocoo"], 2, ["not one of the detect recipes", "Did you mean coco?"]),
        (["--coco", "--epochs", "0"], 2, ["train.epochs = 0"]),
        (["--coco", "--set", "detector.min_sise=3"], 2, ["min_sise", "Did you mean min_size?"]),
        (["--coco", "--set", "detector.max_size=32"], 2, ["detector.max_size 32 is less"]),
        (["--coco", "--set", "train.multi_scale=[64, 2000]"], 2, ["train.multi_scale 2000", "detector.max_size 1333"]),
        (
            ["--coco", "--set", "train.grad_accum_steps=9"],
            2,
            ["train.grad_accum_steps = 9 is too many for a batch of 8 images"],
        ),
        (["--coco", "--set", "train.scale_jitter=[2, 1]"], 2, ["[2.0, 1.0] must be the lower and the upper bound"]),
        (
            ["--coco", "--set", "train.scale_jitter=[0.1, 2]", "--set", "train.aspect_grouping=true"],
            2,
            ["train: aspect_grouping and scale_jitter exclude each other"],
        ),
        (["--coco", "--set", "train.lr_milestones=[0.9, 0.5]"], 2, ["train: lr_milestones [0.9, 0.5] must rise"]),
        (["--coco", "--set", "train.precision=float16", "--device", "cpu"], 2, ["float16 needs a CUDA device"]),
        (["--coco", "--device", "tpu9"], 2, ["tpu9"]),
        (["--threshold", "0.5"], 2, ["No such option: --threshold"]),
        (["--run", "latest", "--coco"], 2, ["No such option: --run"]),
        (["predict", "a.png", "--coco", "--epochs", "2"], 2, ["No such option: --coco"]),
        (["predict", "a.png"], 2, ["runs/detect/latest: no such folder", "nascli detect"]),
        (["predict", "a.png", "--threshold", "1.5"], 2, ["Invalid value for '--threshold'"]),
        (
            ["predict", "a.png", "--run", "runs/train/latest"],
            2,
            ["there is no detector in it", "nascli detect makes one"],
        ),
        (["--resume", "latest"], 2, ["runs/detect/latest: no such folder"]),
        (["--resume", "latest", "--coco", "--lr", "0.1"], 2, ["it excludes --coco, --lr"]),
        (["--resume", "data"], 2, ["not a run folder"]),
    ],
)
def test_wrong_usage(
    place: Path, arguments: list[str], code: int, phrases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(*arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    for phrase in phrases:
        assert phrase in " ".join(printed.err.replace("│", " ").split())
    assert not (place / "runs" / "detect").exists(), "no run folder is left behind"


def test_without_a_trained_backbone_both_ways_on_are_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "runs").rename(place / "elsewhere")
    assert detect("--coco") == 2
    said = capsys.readouterr().err
    assert "nascli train --cell nasnet-a" in said
    assert "--cell nasnet-a to start from random weights" in said
    assert detect("--coco", "--backbone", "elsewhere/train/latest", *RECIPE, *SMALL, "--dry-run") == 0


def test_damaged_annotations_and_weights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = place / "runs" / "train" / "latest" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    assert detect("--coco") == 1
    assert "weights.safetensors are damaged" in capsys.readouterr().err
    weights.write_bytes(content)
    file = place / "data" / "coco" / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text()[:-9])
    assert detect("--coco") == 1
    assert "instances_train2017.json are not JSON" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("train", "predict", "check", "show", "score"))
    assert detect("predict", "--help") == 0
    shown = capsys.readouterr().out
    assert "nascli detect predict" in shown
    assert "--epochs" not in shown, "a page has the options of its command alone"


def start_of(run: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(run, "run.json").read_text())["start_weights"]
    return record


def recolor(place: Path, names: dict[int, str]) -> None:
    """Other names for the categories of both splits."""
    for file in (place / "data" / "coco" / "annotations").glob("*.json"):
        values = json.loads(file.read_text())
        for category in values["categories"]:
            category["name"] = names.get(category["id"], category["name"])
        file.write_text(json.dumps(values))


def test_a_detector_goes_on_from_a_detector_with_other_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--coco", *RECIPE, *SMALL, "--epochs", 1, "--out", "first") == 0
    before = load_file("first/weights.safetensors")
    ids = [each["id"] for each in json.loads(Path("first/detector.json").read_text())["categories"]]
    recolor(place, {ids[0]: "new thing"})
    capsys.readouterr()
    still = ["--epochs", 1, "--batch-size", 4, "--lr", 1e-30]
    assert detect("--coco", "--from", "first", *still, "--out", "second") == 0
    assert "1 of 2 classes taken by name" in capsys.readouterr().err
    record = start_of("second")
    assert (record["new"], record["classes"], record["new_classes"], record["weights"]) == (0, 1, 1, "first")
    assert record["tensors"] == sum("num_batches" not in name for name in before)
    recipe = tomllib.loads(Path("second/recipe.toml").read_text())
    assert recipe["detector"] == tomllib.loads(Path("first/recipe.toml").read_text())["detector"]
    after = load_file("second/weights.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name]) and "running" not in name}
    layers = {
        f"roi_heads.box_predictor.{layer}.{name}" for layer in ("cls_score", "bbox_pred") for name in ("weight", "bias")
    }
    assert {name for name in moved if "num_batches" not in name} == layers
    kept = [0, 2]
    for name in layers:
        times = 4 if "bbox" in name else 1
        rows = [times * label + k for label in kept for k in range(times)]
        assert torch.equal(after[name][rows], before[name][rows])
    assert detect("--recipe", "second/recipe.toml", "--out", "again") == 0
    assert Path("again/weights.safetensors").read_bytes() == Path("second/weights.safetensors").read_bytes()


@pytest.mark.parametrize("source", ["--from first", "--backbone runs/train/latest"])
def test_a_detector_that_is_killed_before_its_first_checkpoint_resumes_without_what_it_began_with(
    source: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detect("--coco", *RECIPE, *SMALL, "--epochs", 1, "--out", "first") == 0
    line = ["--coco", *RECIPE, *SMALL, *source.split(), "--epochs", 1]
    assert detect(*line, "--out", "whole") == 0

    def save(store: CheckpointStore, state: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointStore, "save", save)
        assert detect(*line, "--out", "cut") != 0
    for name in ("first", "runs/train"):
        shutil.rmtree(name)
    assert detect("--resume", "cut") == 0
    assert Path("cut/weights.safetensors").read_bytes() == Path("whole/weights.safetensors").read_bytes()
    assert not Path("cut/start.safetensors").exists()


def test_what_no_detector_goes_on_from_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--coco", *RECIPE, *SMALL, "--epochs", 1, "--out", "first") == 0
    capsys.readouterr()
    for words, phrase in (
        (["--backbone", "latest"], "--backbone"),
        (["--cell", "cell.json"], "--cell"),
        (["--resume", "first"], "--from"),
        (["--set", "detector.pyramid_channels=8"], "misshaped, first backbone.pyramid"),
        (["--set", "detector.anchor_scales=2"], "misshaped, first rpn.head"),
        (["--head", "nasnet"], "missing, first"),
    ):
        assert detect("--coco", "--from", "first", "--epochs", 1, "--out", "refused", *words) == 2
        assert phrase in capsys.readouterr().err
    assert detect("--coco", "--from", "runs/train/latest", "--out", "refused") == 2
    assert "no detector" in capsys.readouterr().err
    recolor(place, {1: "new thing", 2: "new thing 2", 3: "new thing 3", 7: "new thing 7"})
    assert detect("--coco", "--from", "first", "--set", "start.classes=keep", "--out", "refused") == 2
    assert "new thing" in capsys.readouterr().err
    assert not Path("refused").exists()
