"""`detect predict --engine`: the same boxes from every engine, and refusals that say what to do."""

from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.fakes import hide_package
from tests.front_door.made import draw_noise


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        draw_noise(seed, seed % 2, (40 + 20 * seed, 50)).save(f"{seed}.png")


def test_every_engine_finds_the_same_boxes(detector: str, nascli: Nascli) -> None:
    found = []
    for engine in ("trained", "folded", "openvino", "auto"):
        ran = nascli(f"detect predict 0.png 1.png 2.png --run {detector} --threshold 0 --engine {engine} --json")
        assert ran.code == 0, ran.err
        found.append([box for each in ran.json["images"] for box in each["detections"]])
    for other in found[1:]:
        assert [box["name"] for box in other] == [box["name"] for box in found[0]]
        for box, same in zip(found[0], other, strict=True):
            assert same["score"] == pytest.approx(box["score"], abs=1e-5)
            assert same["bbox"] == pytest.approx(box["bbox"], abs=2e-3)


def test_an_engine_that_is_not_installed_is_named(
    detector: str, nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_package(monkeypatch, "openvino")
    ran = nascli(f"detect predict 0.png --run {detector} --engine openvino --out found")
    assert ran.code == 2
    assert "nascli[openvino]" in ran.err
    assert not Path("found").exists()
