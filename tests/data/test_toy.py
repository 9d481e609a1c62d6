"""Digit scenes: the same everywhere, valid COCO, no digit in both splits, whole or not at all."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from nascli.config import DetectDataConfig
from nascli.data import toy
from nascli.data.detection.dataset import read_annotated_image
from nascli.data.detection.registry import load_detection_data
from nascli.data.in_memory import ImageArray
from nascli.data.toy import SceneConfig, compose_scene, write_scenes
from nascli.errors import InputError, NascliError

SMALL = SceneConfig(train=6, val=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "digit-scenes", SMALL)


def test_equal_numbers_give_equal_files(folder: Path, tmp_path: Path) -> None:
    again = contents(write_scenes(tmp_path / "again", SMALL))
    assert again == contents(folder)
    assert len(again) == 6 + 3 + 2
    other = contents(write_scenes(tmp_path / "other", replace(SMALL, seed=1)))
    assert all(other[name] != again[name] for name in again)
    fewer = contents(write_scenes(tmp_path / "fewer", replace(SMALL, train=2)))
    assert fewer["train/000002.png"] == again["train/000002.png"], "a scene follows from its own number"


def test_the_files_are_valid_coco(folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "annotations" / "instances_train.json"))
    assert len(coco.getImgIds()) == 6
    assert len(coco.getCatIds()) == 10
    data = load_detection_data(DetectDataConfig(dataset=f"coco:{folder}"))
    assert {each.kind for each in data.train.issues} <= {"category without boxes"}, "few scenes have few digits"
    for image in data.train.images:
        assert read_annotated_image(image).shape == (3, 96, 96)
        assert 1 <= len(image.boxes) <= 5
        assert (image.boxes[:, :2] >= 0).all()
        assert (image.boxes[:, :2] + image.boxes[:, 2:] <= 96).all()


def test_boxes_lie_around_the_ink() -> None:
    glyph = np.zeros((1, 16, 16), dtype=np.uint8)
    glyph[0, 3:13, 5:11] = 255
    config = SceneConfig(digits=(1, 1), side=(30, 30))
    for seed in range(5):
        pixels, [(_, (x, y, width, height))] = compose_scene(glyph, config, np.random.default_rng(seed))
        gray = pixels.astype(float).mean(2)
        inside = gray[y + 8 : y + height - 8, x + 6 : x + width - 6]
        ring = np.ones_like(gray, dtype=bool)
        ring[max(y - 3, 0) : y + height + 3, max(x - 3, 0) : x + width + 3] = False
        assert abs(inside.mean() - gray[ring].mean()) > 60, "ink stands out from the ground"
        assert 25 <= height <= 40
        assert 15 <= width <= 32


def test_validation_scenes_use_the_test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = toy.load_digits()

    train, test = (
        ImageArray(split.images, torch.full_like(split.labels, digit))
        for split, digit in zip(real, (3, 8), strict=True)
    )
    monkeypatch.setattr(toy, "load_digits", lambda: (train, test))
    written = write_scenes(tmp_path / "scenes", SMALL)
    for split, digit in (("train", 3), ("val", 8)):
        values = json.loads((written / "annotations" / f"instances_{split}.json").read_text())
        assert {entry["category_id"] for entry in values["annotations"]} == {digit + 1}


def test_scenes_are_written_once_and_others_never_replaced(folder: Path) -> None:
    before = contents(folder)
    times = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))]
    write_scenes(folder, SMALL)
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))] == times
    with pytest.raises(InputError, match="does not hold these digit scenes"):
        write_scenes(folder, replace(SMALL, version=99))
    assert contents(folder) == before


def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(toy, "write_text", fails)
    with pytest.raises(NascliError, match=r"No space left on device.*--data-dir"):
        write_scenes(tmp_path / "scenes", SMALL)
    assert list(tmp_path.iterdir()) == []
