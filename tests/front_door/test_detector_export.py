"""`nascli detect export`: files for other programs from a run, and refusals that say what to do."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.cli.program import Nascli
from tests.front_door.made import draw_noise


def test_files_of_a_run_find_what_predict_finds(detector: str, nascli: Nascli) -> None:
    ran = nascli(f"detect export out/d.onnx out/d.xml --run {detector} --json")
    assert ran.code == 0, ran.err
    assert [Path(each["path"]).name for each in ran.json["exported"]] == ["d.onnx", "d.xml"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["d.bin", "d.onnx", "d.xml"]
    draw_noise(0, 1, (50, 40)).save("0.png")
    (drawn,) = nascli(f"detect predict 0.png --run {detector} --threshold 0 --json").json["images"]
    pixels = np.asarray(Image.open("0.png").convert("RGB"), np.float32).transpose(2, 0, 1) / 255
    boxes, _, scores = onnxruntime.InferenceSession("out/d.onnx").run(None, {"image": pixels})
    assert len(boxes) == len(drawn["detections"])
    assert scores.tolist() == pytest.approx([each["score"] for each in drawn["detections"]], abs=1e-4)


def test_wrong_uses_write_nothing(detector: str, nascli: Nascli) -> None:
    for name in ("there.onnx", "half.bin"):
        Path(name).write_text("of before")
    Path("detector/weights.safetensors").unlink()
    for line, word in {
        f"new.onnx d.pt2 --run {detector}": "unknown kind '.pt2' of a detector. Known: .onnx, .xml",
        f"new.onnx there.onnx --run {detector}": "there.onnx exists. Replace it with --overwrite",
        f"half.xml --run {detector}": "half.bin exists",
        f"new.onnx --run {detector}": "weights.safetensors is missing",
        "new.onnx --run none": "none",
        f"--run {detector}": "Missing argument",
    }.items():
        ran = nascli(f"detect export {line}")
        assert (ran.code, ran.out) == (2, ""), line
        assert word in " ".join(ran.err.split()), ran.err
    assert not Path("new.onnx").exists()
    assert Path("there.onnx").read_text() == Path("half.bin").read_text() == "of before"


def test_build_says_which_command_exports_a_detector(detector: str, nascli: Nascli) -> None:
    assert "nascli detect export FILE --run detector" in nascli(f"build --network {detector} --export d.onnx").err
