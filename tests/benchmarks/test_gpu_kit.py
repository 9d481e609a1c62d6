"""The kit for a machine with a GPU, rehearsed on the CPU."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gpu import probe
from gpu.probe import Probe

KIT = Path(probe.__file__).parent


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_probe_writes_a_line_for_each_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "VARIANTS", [{"precision": "bfloat16", "ema_decay": 0.9}])
    out = tmp_path / "out.jsonl"
    assert probe.run(Probe(out, "cpu", 300, tiny=True), ["facts", "kernels", "steps"]) == 0
    facts, last, plain, step = lines(out)
    assert facts["copy_tb_per_s"] > 0
    assert "channels_last" in last["layout"]
    assert set(plain["us"]) == {"depthwise 3x3", "depthwise 5x5", "depthwise 7x7", "pointwise", "batch norm"}
    assert step["images_per_second"] > 0
    assert step["ema_decay"] == 0.9


def test_neither_an_error_nor_the_end_of_the_time_ends_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(probe: Probe) -> None:
        raise RuntimeError("a kernel")

    monkeypatch.setitem(probe.SECTIONS, "parity", fail)
    out = tmp_path / "out.jsonl"
    assert probe.run(Probe(out, "cpu", 300, tiny=True), ["parity", "facts"]) == 1
    assert probe.run(Probe(out, "cpu", 0, tiny=True), ["facts"]) == 0
    failed, facts, late = lines(out)
    assert failed["error"] == "RuntimeError: a kernel"
    assert "copy_tb_per_s" in facts
    assert late["left_out"]


@pytest.mark.slow
def test_every_section_is_rehearsed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert probe.run(Probe(out, "cpu", 600, tiny=True), list(probe.SECTIONS)) == 0
    assert {line["section"] for line in lines(out)} == set(probe.SECTIONS)


@pytest.mark.parametrize("script", sorted(KIT.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_can_be_read_by_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
