"""What the other tests start from: unchanged, it is taken without a remark."""

from pathlib import Path

from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes, write_coco, write_perfect_results


def test_class_folders(nascli: Nascli) -> None:
    write_classes(Path("data"))
    plan = nascli(f"{TRAIN} --dataset folder:data --dry-run --json").json
    assert (plan["train_images"], plan["val_images"], plan["image_size"]) == (12, 6, 32)


def test_coco_files(nascli: Nascli) -> None:
    write_coco(Path("data"))
    checked = nascli("detect check --dataset coco:data --json").json
    assert checked["usable"]
    assert [(each["images"], each["boxes"], each["issues"]) for each in checked["splits"]] == [(4, 8, []), (2, 4, [])]


def test_perfect_results(nascli: Nascli) -> None:
    write_perfect_results(write_coco(Path("data")))
    assert nascli("detect score data/results.json --dataset coco:data --json").json["ap"] == 1


def test_the_trained_networks(nascli: Nascli, classifier: str, detector: str) -> None:
    assert nascli(f"evaluate {classifier} --device cpu --json").code == 0
    assert nascli(f"detect predict {detector}/worst --run {detector} --device cpu --json").code == 0
