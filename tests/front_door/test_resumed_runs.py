"""Runs that are resumed after their data moved or changed, or before anything was saved."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import DETECT, write_coco, write_json


@pytest.fixture
def run(nascli: Nascli) -> Path:
    """A run `run/` of one step per epoch on `old/`."""
    write_coco(Path("old"))
    assert nascli(f"{DETECT} --dataset coco:old --out run --json").code == 0
    return Path("run")


@pytest.mark.parametrize("given", ["--dataset coco:new", "--dataset coco --data-dir new"])
def test_a_detector_resumes_where_its_data_moved(nascli: Nascli, run: Path, given: str) -> None:
    before = (run / "weights.safetensors").read_bytes()
    Path("old").rename("new")
    ran = nascli("detect --resume run")
    assert ran.code == 2
    assert "--dataset" in ran.err
    assert nascli(f"detect --resume run {given} --json").code == 0
    assert (run / "weights.safetensors").read_bytes() == before
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["recipe"]["data"]["dataset"] == given.split()[1]
    assert record["data"]["name"] == given.split()[1]
    assert nascli("detect --resume run --json").code == 0, "the new place is remembered"


def test_other_annotations_are_refused(nascli: Nascli, run: Path) -> None:
    file = Path(shutil.copytree("old", "new")) / "annotations" / "instances_train2017.json"
    lists = json.loads(file.read_text(encoding="utf-8"))
    lists["annotations"][0]["bbox"][2] += 1
    write_json(file, lists)
    ran = nascli("detect --resume run --dataset coco:new")
    assert ran.code == 2
    assert "run was begun with other 4 training images with 8 boxes" in ran.err
    del lists["annotations"][0]
    write_json(file, lists)
    assert "now there are 4 training images with 7 boxes" in nascli("detect --resume run --dataset coco:new").err
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]["data"]["dataset"] == "coco:old"


def test_killed_before_the_first_checkpoint_it_begins_anew(nascli: Nascli, run: Path) -> None:
    before = (run / "weights.safetensors").read_bytes()
    for file in run.glob("*"):
        if file.name not in ("run.json", "recipe.toml", "network.json", "detector.json"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert nascli("detect --resume run --json").code == 0
    assert (run / "weights.safetensors").read_bytes() == before
    for file in run.glob("*"):
        if file.name not in ("run.json", "recipe.toml"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    ran = nascli("detect --resume run")
    assert ran.code == 2
    assert "--overwrite" in ran.err


def test_with_a_backbone_it_begins_anew_as_long_as_its_weights_are_kept(nascli: Nascli, classifier: str) -> None:
    write_coco(Path("data"))
    line = DETECT.replace("--cell nasnet-a --filters 4 --cells-per-stage 1", f"--backbone {classifier}")
    assert nascli(f"{line} --dataset coco:data --out run --json").code == 0
    Path("run/checkpoint.pt").unlink()
    Path("run/checkpoint.previous.pt").unlink()
    ran = nascli("detect --resume run --json")  # it has ended, and keeps what it made of them alone
    assert ran.code == 2
    assert "start.safetensors" in ran.err
    assert "--overwrite" in ran.err
