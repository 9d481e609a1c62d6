"""`nascli detect score RUN`: a trained detector measured again, by any engine, on its own data or on others'."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import write_coco

LISTS = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco(Path("data"))


def read(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(path).read_text())
    assert found
    return found


def test_the_trained_network_gives_what_the_training_found(detector: str, nascli: Nascli) -> None:
    ran = nascli(f"detect score {detector} --dataset coco:data --out scored --json")
    assert ran.code == 0, ran.err
    assert read("scored/results.json") == read("detector/results.json")
    record = json.loads(Path("detector/detection.json").read_text())
    for key in ("ap", "per_class", "results_sha256"):
        assert ran.json[key] == record[key]
    assert (ran.json["run"], ran.json["engine"], ran.json["precision"]) == ("detector", "trained", "float32")
    again = nascli("detect score scored/results.json --dataset coco:data --json")
    assert again.json["per_class"] == ran.json["per_class"]


@pytest.mark.parametrize("engine", ["folded", "openvino", "auto"])
def test_every_engine_finds_the_same(detector: str, nascli: Nascli, engine: str) -> None:
    ran = nascli(f"detect score {detector} --dataset coco:data --out scored --engine {engine} --json")
    assert ran.code == 0, ran.err
    assert ran.json["engine"] == ("openvino" if engine == "auto" else engine)
    for found, expected in zip(read("scored/results.json"), read("detector/results.json"), strict=True):
        assert found["category_id"] == expected["category_id"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert found["bbox"] == pytest.approx(expected["bbox"], abs=2e-3)


def test_classes_are_known_by_name_where_other_data_number_them_otherwise(detector: str, nascli: Nascli) -> None:
    def renumber(split: str, lists: LISTS, place: Path) -> None:
        for each in lists["annotations"]:
            each["category_id"] = 9 - each["category_id"]
        lists["categories"] = [{"id": 9 - each["id"], "name": each["name"]} for each in reversed(lists["categories"])]

    write_coco(Path("other"), renumber)
    ran = nascli(f"detect score {detector} --dataset coco:other --out scored --json")
    assert ran.code == 0, ran.err
    expected = [{**each, "category_id": 9 - each["category_id"]} for each in read("detector/results.json")]
    assert read("scored/results.json") == expected


def test_boxes_of_classes_that_the_data_have_not_are_left_out(detector: str, nascli: Nascli) -> None:
    write_coco(Path("dogs"), names=("dog",))
    ran = nascli(f"detect score {detector} --dataset coco:dogs --out scored --json")
    assert ran.code == 0, ran.err
    assert [each["name"] for each in ran.json["per_class"]] == ["dog"]
    assert {each["category_id"] for each in read("scored/results.json")} == {1}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("detect score {0} --dataset coco:cows", "'cow' is none of the detector's"),
        ("detect score {0} --dataset coco:data --recipe coco", "--recipe"),
        ("detect score detector/results.json --dataset coco:data --engine folded", "--engine"),
        ("detect score {0} --dataset coco:data --engine openvinno", "openvino"),
        ("detect score data --dataset coco:data", "are a folder"),
        ("detect score latest --dataset coco:data", "latest"),
        ("detect score detector/gone --dataset coco:data", "gone"),
    ],
)
def test_what_does_not_fit_is_refused(detector: str, nascli: Nascli, line: str, word: str) -> None:
    write_coco(Path("cows"), names=("cat", "cow"))
    ran = nascli(line.format(detector))
    assert ran.code == 2
    assert word in ran.err
    assert ran.out == ""


def test_an_image_that_is_gone_is_named_before_anything_is_computed(detector: str, nascli: Nascli) -> None:
    Path("data/val2017/000101.png").unlink()
    ran = nascli(f"detect score {detector} --dataset coco:data")
    assert ran.code == 2
    assert "000101.png" in ran.err
