"""Folders and files given in place of the run that a command takes: each is named, with the command that takes it."""

import shutil
from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes, write_coco

DETECTOR_FOR = (
    "evaluate detector",
    "evaluate detector --predict data",
    "build --network detector",
    "build --network detector --export model.onnx",
    "detect train --dataset coco:data --backbone detector",
    "train --resume detector",
)


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("recorded", [True, False], ids=["run", "copy without run.json"])
@pytest.mark.parametrize("line", DETECTOR_FOR)
def test_a_detector_given_to_a_command_for_classifiers(nascli: Nascli, line: str, recorded: bool) -> None:
    write_coco(Path("data"))
    if not recorded:
        Path("detector/run.json").unlink()
        line += " --dataset digits" if line.startswith("evaluate detector") and "--predict" not in line else ""
    ran = nascli(line)
    assert ran.code == 2, ran.err
    assert "nascli detect" in ran.err
    assert recorded or "detector of nascli detect" in ran.err or "not a run folder" in ran.err
    assert "is missing" not in ran.err, "no entry of weights is the matter"
    assert not Path("model.onnx").exists()


@pytest.mark.usefixtures("classifier")
@pytest.mark.parametrize(
    "line", ["detect predict data --run classifier", "detect --resume classifier", "search --resume classifier"]
)
def test_a_classifier_given_to_another_command(nascli: Nascli, line: str) -> None:
    write_classes(Path("data"))
    ran = nascli(line)
    assert ran.code == 2
    assert "classifier is a run of nascli train" in ran.err
    assert "nascli detect --backbone classifier" in ran.err


OTHER_PLACES = (
    ("evaluate data --dataset digits", "looks like a data set"),
    ("detect predict data --run data", "looks like a data set"),
    ("train --resume data", "looks like a data set"),
    ("detect --resume coco", "looks like a data set"),
    ("evaluate net --dataset digits", "nascli build wrote, without weights"),
    ("detect predict data --run net", "nascli build wrote, without weights"),
    ("train --resume net", "nascli build wrote"),
    ("evaluate kept", "It holds 1 run: give kept/classifier"),
    ("evaluate classifier/weights.safetensors", "is a file, not a folder. Give the folder that it is in: classifier"),
    ("build --network classifier/network.json", "Give the folder that it is in: classifier"),
    ("train --resume classifier/checkpoint.pt", "Give the folder that it is in: classifier"),
    ("detect predict data --run data/train/cat/000.png", "is a file, not a folder"),
    ("evaluate latest", "gone, to which it points, is gone"),
    ("evaluate latest", "The newest run there is runs/train/other"),
)


@pytest.mark.usefixtures("classifier")
def test_other_folders_and_files(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASCLI_RUNS", "runs")
    write_classes(Path("data"))
    write_coco(Path("coco"))
    assert nascli("build --cell nasnet-a --filters 4 --out net --json").code == 0
    shutil.copytree("classifier", "kept/classifier")
    shutil.copytree("classifier", "runs/train/other")
    Path("runs/train/latest").symlink_to("gone")
    for line, phrase in OTHER_PLACES:
        ran = nascli(line)
        assert ran.code == 2, (line, ran.err)
        assert phrase in " ".join(ran.err.split()), line


@pytest.mark.usefixtures("classifier")
def test_weights_beside_a_cell_are_said_to_be_left(nascli: Nascli) -> None:
    write_classes(Path("data"))
    line = TRAIN.replace("--cell nasnet-a --filters 4 --cells-per-stage 1", "--cell classifier")
    ran = nascli(f"{line} --dataset folder:data --dry-run")
    assert ran.code == 0
    assert "weights.safetensors is not used" in ran.err
    assert "nascli detect --backbone classifier" in ran.err
    assert "is not used" in nascli("build --cell classifier/network.json").err
    Path("classifier/weights.safetensors").unlink()
    assert "is not used" not in nascli(f"{line} --dataset folder:data --dry-run").err


@pytest.mark.usefixtures("classifier")
def test_the_cell_of_a_train_run_is_shown(nascli: Nascli) -> None:
    ran = nascli("decode classifier --json")
    assert ran.code == 0
    assert ran.json["genotype"]["name"] == "nasnet-a"
