"""Fewer bits are admitted where they are faster here and lose less than is allowed; the rest is refused in one line."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nascli
from nascli.classify import optimize as module
from nascli.classify.metrics import evaluate
from nascli.classify.optimize import Candidate, admit
from nascli.cli.app import main
from nascli.errors import InputError, NascliError
from nascli.models.deploy import quantize as quantizing
from nascli.models.deploy.openvino import supports
from nascli.models.deploy.timing import time_in_turn
from nascli.models.families import build_network
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from nascli.records import read_record
from tests.fakes import make_latency

FLOAT32 = Candidate("float32", 0.9, 0.0, (make_latency(),))


def candidate(precision: str, drop: float, seconds: float) -> Candidate:
    return replace(FLOAT32, precision=precision, drop=drop, latencies=(make_latency(seconds),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("others", "admitted"),
    [
        ([("bfloat16", 0.1, 0.8), ("int8", 0.4, 0.5)], "int8"),
        ([("bfloat16", 0.1, 0.8), ("int8", 0.5, 0.5)], "bfloat16"),
        ([("bfloat16", 0.1, 0.97), ("int8", 0.6, 0.5)], "float32"),
        ([("bfloat16", 0.1, 1.2), ("int8", 0.1, 1.5)], "float32"),
        ([("int8", -0.2, 0.5)], "int8"),
    ],
)
def test_the_fastest_that_loses_little_is_admitted(others: list[tuple[str, float, float]], admitted: str) -> None:
    assert admit([FLOAT32, *(candidate(*each) for each in others)], 0.5).precision == admitted


def test_a_drop_of_zero_admits_what_loses_nothing() -> None:
    assert admit([FLOAT32, candidate("int8", 0.0, 0.5)], 0).precision == "int8"
    with pytest.raises(NascliError, match="less than 0 points"):
        admit([FLOAT32, candidate("int8", 0.01, 0.5)], 0)


def test_engines_are_timed_in_turn() -> None:
    calls = list[str]()

    def note(name: str, images: Tensor) -> Tensor:
        calls.append(name)
        return images

    engines = {"float32": partial(note, "float32"), "int8": partial(note, "int8")}
    times = time_in_turn(engines, torch.zeros(2, 3, 8, 8), "openvino")
    assert calls == ["float32", "int8"] * (len(calls) // 2)
    assert times["int8"].batch == 2
    assert 0 < times["int8"].seconds <= times["int8"].median <= times["int8"].upper


@pytest.fixture
def folder() -> Path:
    """A small network for digits; its weights are random, as speed and drop may be."""
    torch.manual_seed(0)
    network = build_network("resnet-8", filters=4, image_size=16, classes=10).eval()
    folder = Path("network")
    folder.mkdir()
    write_network(folder / "network.json", network.spec)
    save_weights(folder / "weights.safetensors", network)
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def optimize(*arguments: str) -> int:
    return run("build", "--network", "network", "--optimize", "--dataset", "digits", "--threads", "1", *arguments)


def test_int8_is_measured_written_and_used(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GAIN", -1e6)  # however slow it is here
    monkeypatch.setattr(module, "FEWEST_IMAGES", 16)  # for a quick test
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", 20)
    assert optimize("--precision", "int8", "--max-drop", "100", "--batch", "2", "--json") == 0
    said = json.loads(capsys.readouterr().out)["optimized"]
    record = read_record(folder / "optimized.json")
    assert record["precision"] == said["precision"] == "int8"
    assert [each["precision"] for each in record["candidates"]] == ["float32", "int8"]
    assert [each["batch"] for each in record["candidates"][1]["latencies"]] == [1, 2]
    assert all(each["seconds"] <= each["median"] <= each["upper"] for each in record["candidates"][1]["latencies"])
    assert (record["dataset"], record["calibration_images"]) == ("digits", 20)
    assert {"openvino", "nncf", "torch"} <= set(record["versions"])
    assert record["machine"]["cpu"]
    assert b"FakeQuantize" in (folder / "optimized.xml").read_bytes()
    images = torch.randn(3, 3, 16, 16)
    quantized, exact = (nascli.load_network(folder, inference=True, precision=each) for each in ("auto", "float32"))
    error = (quantized(images) - exact(images)).abs().max() / exact(images).abs().max()
    assert 1e-4 < error < 1  # random weights, and images of another kind
    assert run("evaluate", str(folder), "--dataset", "digits", "--precision", "auto", "--json") == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert (evaluation["engine"], evaluation["precision"]) == ("openvino", "int8")
    assert evaluation["top1"] == pytest.approx(record["candidates"][1]["top1"], abs=0.01)
    assert optimize("--precision", "int8") == 2
    assert "optimized.json exists. Replace it with --overwrite" in capsys.readouterr().err


@pytest.mark.skipif(not supports("bfloat16"), reason="this CPU has no instructions for bfloat16")
def test_what_does_not_pay_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GAIN", 1)  # nothing takes no time
    assert optimize("--precision", "bfloat16", "--max-drop", "100") == 0
    printed = capsys.readouterr()
    assert "<- admitted" in next(line for line in printed.out.splitlines() if line.startswith("float32"))
    assert "bfloat16 does not pay here" in printed.err
    assert read_record(folder / "optimized.json")["precision"] == "float32"


def test_a_drop_that_nothing_meets_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.9, 0.5))
    real = evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: replace(real(*a, **k), top1=next(scores)))
    monkeypatch.setattr(module, "quantize", lambda model, images: model)
    assert optimize("--precision", "int8", "--max-drop", "1") == 1
    assert "int8 loses 40.00" in capsys.readouterr().err
    assert not list(folder.glob("optimized.*"))


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["--max-drop", "nan"], "--max-drop"),
        (["--max-drop", "-1"], "--max-drop"),
        (["--precision", "float32"], "fewer bits"),
        (["--benchmark", "--precision", "int8"], "--benchmark"),
        (["--compile"], "--compile"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize(*arguments) == 2
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("error:") == 1


@pytest.mark.parametrize("arguments", [["--max-drop", "1"], ["--dataset", "digits"], ["--precision", "auto"]])
def test_its_options_need_it(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "--network", str(folder), *arguments) == 2
    assert "--optimize" in capsys.readouterr().err


def test_what_cannot_be_done_here_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> object:
        raise InputError("int8 needs NNCF, which is not installed", 'pip install "nascli[int8]"')

    with monkeypatch.context() as patch:
        patch.setattr(module, "import_nncf", missing)
        assert optimize("--precision", "int8") == 2
        assert 'pip install "nascli[int8]"' in capsys.readouterr().err
        patch.setattr(module, "supports", lambda precision: precision != "bfloat16")
        assert optimize("--precision", "bfloat16") == 2
        assert "no instructions for bfloat16" in capsys.readouterr().err
        assert optimize() == 2
        assert "no precision but float32" in capsys.readouterr().err
    monkeypatch.setattr(module, "FEWEST_IMAGES", 2_000)
    assert optimize("--precision", "int8") == 2
    assert "int8 needs 2000 training images" in capsys.readouterr().err
    assert quantizing.FEWEST_IMAGES < module.CALIBRATION_IMAGES
