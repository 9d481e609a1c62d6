"""`precision = auto`: settled by the device when a run begins, recorded, and the same ever after."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.cli.processes import check_agreement
from nascli.config import TrainConfig
from nascli.engine.device import resolve_precision
from nascli.engine.dist import DistContext
from nascli.errors import InputError
from nascli.runs.folder import RunFolder
from tests.cli.program import SETTINGS, Nascli
from tests.detect.coco_folder import write_coco

AUTO = "--set train.precision=auto"
TRAIN = f"train --cell cell.json --dataset folder:images {SETTINGS}"


def recorded(folder: str) -> set[str]:
    """The precision in both files of a run."""
    record = json.loads(Path(folder, "run.json").read_text())
    (line,) = [each for each in Path(folder, "recipe.toml").read_text().splitlines() if each.startswith("precision = ")]
    return {record["recipe"]["train"]["precision"], line.split('"')[1]}


def test_on_a_cpu_it_is_float32(nascli: Nascli) -> None:
    assert nascli(f"{TRAIN} {AUTO} --epochs 1 --out auto").code == 0
    assert nascli(f"{TRAIN} --epochs 1 --out plain").code == 0
    assert recorded("auto") == {"float32"}
    auto, plain = (Path(folder, "weights.safetensors").read_bytes() for folder in ("auto", "plain"))
    assert auto == plain
    assert nascli(f"{TRAIN} {AUTO} --dry-run").code == 0


def test_a_resumed_run_keeps_what_its_first_device_chose(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begun where bfloat16 is fastest, resumed where float32 would be."""

    def stop(*arguments: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    with monkeypatch.context() as there:
        there.setattr(
            "nascli.engine.device.resolve_precision", lambda precision, device: precision.replace("auto", "bfloat16")
        )
        there.setattr("nascli.engine.fit.train_epoch", stop)
        assert nascli(f"{TRAIN} {AUTO} --epochs 1 --out moved").code == 130
    assert recorded("moved") == {"bfloat16"}
    assert nascli("train --resume moved").code == 0
    assert nascli(f"{TRAIN} --set train.precision=bfloat16 --epochs 1 --out same").code == 0
    moved, same = (Path(folder, "weights.safetensors").read_bytes() for folder in ("moved", "same"))
    assert moved == same


@pytest.mark.parametrize(
    ("module", "function", "line"),
    [
        ("search", "_search", "search --dataset folder:images --set supernet.precision=auto"),
        ("detect_train", "_train", "detect --recipe digit-scenes --coco --data-dir data --cell cell.json --filters 4"),
    ],
)
def test_searches_and_detectors_record_it_settled(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch, module: str, function: str, line: str
) -> None:
    def leave(*arguments: Any) -> None:  # noqa: ANN401
        with next(each for each in arguments if isinstance(each, RunFolder)):
            pass

    write_coco(Path("data/coco"))
    monkeypatch.setattr(f"nascli.cli.{module}.{function}", leave)
    assert nascli(f"{line} {AUTO} --out run").code == 0
    assert json.loads(Path("run/run.json").read_text())["recipe"]["train"]["precision"] == "float32"
    assert 'precision = "auto"' not in Path("run/recipe.toml").read_text()


def test_an_old_gpu_that_is_asked_for_bfloat16_is_told_of(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nascli.engine.device.find_emulated", lambda recipe, device: ["bfloat16 is emulated on T4"])
    assert "emulated on T4" in nascli(f"{TRAIN} --epochs 1 --out run").err


def test_processes_on_unlike_gpus_are_refused() -> None:
    class SecondProcess(DistContext):
        def broadcast_from_main(self, make: Any) -> Any:  # noqa: ANN401
            return "bfloat16"

        def raise_together(self, make: Any) -> Any:  # noqa: ANN401
            return make()

    second = SecondProcess(rank=1, size=2)
    check_agreement(second, TrainConfig(precision="bfloat16"))
    with pytest.raises(InputError, match=r"train\.precision.*bfloat16.*float16.*process 1"):
        check_agreement(second, TrainConfig(precision="float16"))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ("--set train.precision=float16", "train.precision"),
        ("--evaluator one_shot --set supernet.precision=float16", "supernet.precision"),
        ("--evaluator params --set rerank.top=1 --set train.precision=float16", "train.precision"),
    ],
)
def test_a_search_that_no_child_of_could_be_trained_is_refused(nascli: Nascli, options: str, key: str) -> None:
    ran = nascli(f"search --dataset folder:images --device cpu --out run {options}")
    assert ran.code == 2
    assert key in ran.err
    assert not Path("run").exists()


def test_ray_takes_no_gpu_by_its_number(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    ran = nascli("search --dataset folder:images --executor ray --device cuda:1 --out run")
    assert ran.code == 2
    assert "--device cuda:1" in ran.err
    assert "Ray" in ran.err
    assert not Path("run").exists()


def test_the_default_needs_no_device_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: pytest.fail("it was asked"))
    assert resolve_precision("float32", torch.device("cuda")) == "float32"
