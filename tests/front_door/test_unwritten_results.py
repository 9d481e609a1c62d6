"""Results that cannot be written are shown all the same; a folder that takes no file is found out before the work."""

from pathlib import Path

import pytest

from tests.cli.program import Nascli, Ran
from tests.front_door.made import write_coco, write_perfect_results


def block(path: Path) -> None:
    """A folder with something in it where a file is to be written."""
    (path / "inside").mkdir(parents=True, exist_ok=True)


def refused(ran: Ran, name: str) -> bool:
    return ran.code == 1 and "cannot be written" in ran.err and name in ran.err


@pytest.mark.usefixtures("classifier")
def test_an_evaluation_is_shown_then_refused(nascli: Nascli) -> None:
    block(Path("classifier/evaluation.json"))
    ran = nascli("evaluate classifier --device cpu")
    assert refused(ran, "evaluation.json")
    assert "top-1" in ran.out
    ran = nascli("evaluate classifier --device cpu --json")
    assert ran.code == 1
    assert 0 <= ran.json["top1"] <= 1
    assert ran.json["error"]["message"].startswith("classifier/evaluation.json")
    assert nascli("evaluate classifier --device cpu --out elsewhere").code == 0


@pytest.mark.usefixtures("classifier")
def test_of_several_evaluations_all_are_shown(nascli: Nascli) -> None:
    Path("other").mkdir()
    for name in ("network.json", "weights.safetensors", "run.json"):
        (Path("other") / name).write_bytes((Path("classifier") / name).read_bytes())
    block(Path("classifier/evaluation.json"))
    ran = nascli("evaluate classifier other --device cpu")
    assert refused(ran, "classifier/evaluation.json")
    assert "2 networks" in ran.out
    assert Path("other/evaluation.json").is_file()


@pytest.mark.usefixtures("classifier")
def test_a_folder_that_takes_no_file_is_found_before_measuring(nascli: Nascli) -> None:
    Path("file").touch()
    ran = nascli("evaluate classifier --device cpu --out file/deeper")
    assert refused(ran, "file/deeper/evaluation.json")
    assert ran.out == ""
    write_perfect_results(write_coco(Path("coco")))
    ran = nascli("detect score coco/results.json --dataset coco:coco --out file/deeper")
    assert refused(ran, "file/deeper")
    assert ran.out == ""


def test_scores_are_shown_then_refused(nascli: Nascli) -> None:
    write_perfect_results(write_coco(Path("data")))
    block(Path("scored/detection.json"))
    ran = nascli("detect score data/results.json --dataset coco:data --out scored --overwrite")
    assert refused(ran, "scored")
    assert "100.0" in ran.out
    ran = nascli("detect score data/results.json --dataset coco:data --out scored --overwrite --json")
    assert (ran.code, ran.json["ap"]) == (1, 1)


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("name", ["weights.safetensors", "detection.json"])
def test_the_scores_of_a_training_are_shown_then_refused(nascli: Nascli, name: str) -> None:
    path = Path("detector") / name
    path.unlink()
    block(path)
    ran = nascli("detect --resume detector")
    assert refused(ran, "detector")
    assert "COCO average precision" in ran.out
    assert "nascli detect --resume detector" in ran.err
    (path / "inside").rmdir()
    path.rmdir()
    assert nascli("detect --resume detector").code == 0


@pytest.mark.usefixtures("classifier")
def test_a_training_whose_weights_cannot_be_written_says_how_to_end_it(nascli: Nascli) -> None:
    Path("classifier/weights.safetensors").unlink()
    block(Path("classifier/weights.safetensors"))
    ran = nascli("train --resume classifier")
    assert refused(ran, "weights.safetensors")
    assert "nascli train --resume classifier" in ran.err


@pytest.mark.usefixtures("detector")
def test_boxes_are_shown_then_refused(nascli: Nascli) -> None:
    write_coco(Path("data"))
    block(Path("found/predictions.json"))
    line = "detect predict data/val2017 --run detector --out found --overwrite --threshold 0 --device cpu"
    ran = nascli(line)
    assert refused(ran, "predictions.json")
    assert "000101.png" in ran.out
    assert len(nascli(f"{line} --json").json["images"]) == 2
