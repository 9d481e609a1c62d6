"""`nascli detect --head nasnet` with real files: train, stop, resume, predict, wrong uses, what it says of memory."""

import json
import signal
from pathlib import Path

import pytest

from nascli.cli.progress import TrainProgress
from tests.cli.program import Nascli
from tests.detect.coco_folder import write_coco
from tests.detect.small_detector import GENOTYPE

START = "detect --cell cell.json --filters 4 --cells-per-stage 1 --recipe digit-scenes --head nasnet --proposals 12"
SMALL = (
    "--set detector.pyramid_channels=8 --set detector.roi_size=5 --set detector.box_batch_size_per_image=8 "
    "--batch-size 4 --epochs 2 --lr 0.02"
)


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    write_coco(Path("data/coco"))
    Path("cell.json").write_text(GENOTYPE.to_json(), encoding="utf-8")
    return Nascli(capsys)


@pytest.mark.parametrize("dataset", ["coco", pytest.param("digit-scenes", marks=pytest.mark.slow)])
def test_from_training_to_boxes_on_images(nascli: Nascli, dataset: str) -> None:
    data = f"--dataset {dataset} --set data.max_val_images=4"
    ran = nascli(f"{START} {SMALL} {data} --max-train-images 8 --out run --json")
    assert ran.code == 0, ran.err
    assert (ran.json["dataset"], ran.json["steps"], ran.json["images"]) == (dataset, 4, 4)
    written = json.loads(Path("run/detector.json").read_text())["detector"]
    assert (written["head"], written["rpn_post_nms_top_n"], written["roi_size"]) == ("nasnet", 12, 5)
    record = json.loads(Path("run/run.json").read_text())
    assert record["results"]["peak_memory"] == ran.json["peak_memory"] > 2**20
    image = next(Path("run/detections").iterdir())
    found = nascli(f"detect predict {image} --run run --threshold 0 --out found --json")
    assert found.code == 0, found.err
    assert len(found.json["images"]) == 1
    again = nascli(f"detect score run/results.json {data} --json")
    assert again.json["per_class"] == ran.json["per_class"]


def test_stopped_and_resumed_it_ends_the_same(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [
        "train.ema_decay=0.5",
        "train.precision=bfloat16",
        "train.grad_accum_steps=2",
        "detector.grad_checkpointing=true",
    ]
    line = f"{START} {SMALL} --coco {' '.join(f'--set {each}' for each in more)}"
    assert nascli(f"{line} --out whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(TrainProgress, "on_step", lambda *told: signal.raise_signal(signal.SIGTERM))
        stopped = nascli(f"{line} --out stopped")
    assert stopped.code == 130
    assert "stopped after step 1 of 4" in stopped.err
    resumed = nascli("detect --resume stopped")
    assert resumed.code == 0, resumed.err
    assert "peak memory" in resumed.out
    for name in ("weights.safetensors", "results.json"):
        assert Path("whole", name).read_bytes() == Path("stopped", name).read_bytes(), name


def test_the_plan_says_head_and_memory(nascli: Nascli) -> None:
    ran = nascli(f"{START} {SMALL} --coco --dry-run")
    assert ran.code == 0, ran.err
    shown = " ".join(ran.out.split())
    assert "head nasnet, 12 proposals per image" in shown
    assert "peak memory" in shown


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("--head nasnett", "'nasnett' is not one of"),
        ("--proposals 0", "detector.rpn_post_nms_top_n = 0"),
        ("--set detector.roi_size=2", "detector.roi_size = 2"),
        ("--set detector.resize=both_sides --set detector.max_size=96", "detector.max_size 96 would mean nothing"),
        ("--resume run --head nasnet", "it excludes --coco, --cell"),
    ],
)
def test_wrong_usage(nascli: Nascli, line: str, phrase: str) -> None:
    ran = nascli(f"detect --coco --cell cell.json --filters 4 --cells-per-stage 1 --recipe digit-scenes {line}")
    assert (ran.code, ran.out) == (2, "")
    assert phrase in " ".join(ran.err.replace("│", " ").split())


def test_proposals_are_no_option_of_predict(nascli: Nascli) -> None:
    ran = nascli("detect predict a.png --proposals 9")
    assert (ran.code, ran.out) == (2, "")
    assert "No such option: --proposals" in ran.err
