"""`nascli doctor`: what it shows, what it keeps to itself, and its advice."""

import copy
import json
import re
import shutil
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import nascli as package
from nascli.doctor import devices, findings, machine
from nascli.doctor.advice import advise
from nascli.doctor.probe import measure_training
from nascli.engine import device
from tests.cli.program import Nascli

ROOT = Path(package.__file__).parents[1]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nascli:
    monkeypatch.setattr(findings, "_measure_training", lambda: measure_training(0.01))
    return Nascli(capsys)


def test_it_shows_what_a_report_of_a_bug_needs(doctor: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "alice"))
    monkeypatch.setenv("NASCLI_RUNS", str(Path.cwd() / "alice" / "runs"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    ran = doctor("doctor --json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["python"]
    assert found["cpu"]["usable"] >= 1
    assert 0 < found["memory"]["free"] <= found["memory"]["total"]
    assert found["storage"]["runs"]["path"] == found["environment"]["NASCLI_RUNS"] == "~/runs"
    assert found["storage"]["temporary"]["free"] > 0
    assert found["training"]["images_per_second"] > 0
    assert {"trained", "folded"} <= set(found["engines"]["names"])
    assert "alice" not in ran.out
    assert "secret" not in ran.out
    assert list(Path.cwd().iterdir()) == []


def test_the_page_for_programs_names_every_key(doctor: Nascli) -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    section = page.partition("## The machine")[2].partition("\n## ")[0]
    found = doctor("doctor --json").json
    parts = [found, *(each for each in found.values() if isinstance(each, dict)), *found["storage"].values()]
    names = {key for part in parts if part not in (found["versions"], found["environment"]) for key in part}
    assert names - {*re.findall(r"`([a-z_]+)`", section)} == set()


def test_people_read_the_same_and_the_advice_last(doctor: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "advise", lambda found: ["do this", "do that"])
    ran = doctor("doctor")
    assert ran.code == 0
    assert ran.out.splitlines()[-3:] == ["advice: do this", "", "advice: do that"]
    rows = {line.split("  ")[0] for line in ran.out.splitlines()}
    assert {"python", "openvino", "CPU", "memory", "driver", "GPUs", "C++ compiler", "training", "runs"} <= rows


def test_what_is_broken_is_a_finding(doctor: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    for name in ("_describe_torch", "_describe_gpus", "_describe_engines", "_measure_training"):
        monkeypatch.setattr(findings, name, fail)
    assert doctor("doctor").code == 0
    found = doctor("doctor --json").json
    assert found["torch"] == {"error": "ImportError: libcudart.so.13: cannot open shared object file"}
    assert found["cpu"]["usable"] >= 1
    assert len([sentence for sentence in found["advice"] if "libcudart" in sentence]) == 4


GOOD: dict[str, Any] = {
    "cpu": {"usable": 8, "quota": None, "instructions": ["AVX2"]},
    "memory": {"total": 64 << 30, "limit": None, "free": 32 << 30},
    "torch": {"device": "cuda", "threads": 8, "cuda": "13.0", "nccl": "2.28", "driver": "580.1", "mps": True},
    "gpus": [{"name": "NVIDIA H100", "capability": "9.0", "bfloat16": True}],
    "engines": {"names": ["trained", "folded"], "openvino": [], "compiler": "/usr/bin/g++"},
    "storage": {
        "shared_memory": {"path": "/dev/shm", "free": 8 << 30, "writable": True},
        "runs": {"path": "runs", "free": 100 << 30, "writable": True},
        "temporary": {"path": "/tmp", "free": 100 << 30, "writable": True},
    },
    "training": {"images_per_second": 100.0},
}


def test_a_good_machine_gets_no_advice() -> None:
    assert advise(GOOD) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("storage.shared_memory.free", 64 << 20, ("/dev/shm has 64.0 MiB", "data.workers=0", "--shm-size")),
        ("storage.shared_memory.free", None, ("/dev/shm has 0.0 MiB",)),
        ("storage.runs.free", 1 << 30, ("runs", "1.0 GiB", "NASCLI_RUNS")),
        ("storage.temporary.writable", False, ("/tmp", "TMPDIR")),
        ("engines.compiler", None, ("C++ compiler", "g++")),
        ("memory.free", 1 << 30, ("1.0 GiB of memory", "batch_size")),
        ("cpu.quota", 2.0, ("2 of 8 cores", "OMP_NUM_THREADS=2")),
        ("torch.threads", 99, ("99 threads on 8 cores", "OMP_NUM_THREADS")),
        ("cpu.instructions", ["AVX-512 bfloat16"], ("AVX2",)),
        ("torch.mps", False, ("nvidia-cuda-mps-control",)),
        ("gpus", [], ("driver 580.1", "CUDA 13.0", "CUDA_VISIBLE_DEVICES")),
        ("gpus", [{"name": "Tesla T4", "capability": "7.5", "bfloat16": False}], ("Tesla T4", "train.precision=auto")),
        ("gpus", {"error": "RuntimeError: no"}, ("gpus could not", "RuntimeError: no")),
        ("training", {"error": "RuntimeError: no"}, ("training could not", "RuntimeError: no")),
    ],
)
def test_each_problem_is_a_sentence_with_its_remedy(place: str, value: object, words: tuple[str, ...]) -> None:
    found = copy.deepcopy(GOOD)
    *sections, key = place.split(".")
    part = found
    for section in sections:
        part = part[section]
    part[key] = value
    sentences = advise(found)
    assert all(word in sentences[0] for word in words)


def test_a_cpu_without_its_engine_or_with_idle_cores_is_told() -> None:
    found = copy.deepcopy(GOOD) | {"gpus": []}
    found["torch"] |= {"device": "cpu", "threads": 1, "driver": None}
    idle, engine = advise(found)
    assert "1 of 8 cores" in idle
    assert "nascli[openvino]" in engine


def test_gpus_have_memory_capability_and_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = [(9, 0), (7, 5)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device.index])
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda number: SimpleNamespace(
            name=f"GPU {number}", total_memory=1 << 34, major=capabilities[number][0], minor=capabilities[number][1]
        ),
    )
    assert devices.describe_gpus() == [
        {"name": "GPU 0", "memory": 1 << 34, "capability": "9.0", "bfloat16": True},
        {"name": "GPU 1", "memory": 1 << 34, "capability": "7.5", "bfloat16": False},
    ]


def test_linux_is_asked_for_instructions_quota_and_mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: X\nflags\t\t: sse avx2 avx512f amx_bf16\n\nmodel name\t: Y\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    cpu = machine.describe_cpu()
    assert (cpu["model"], cpu["quota"]) == ("X", 1.5)
    assert cpu["instructions"] == ["AVX2", "AVX-512", "AMX bfloat16"]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.describe_cpu()["quota"] is None
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not device.runs_mps()
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text("1\n")
    assert device.runs_mps()


def test_a_compiler_and_a_folder_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert machine.find_compiler() is None
    monkeypatch.setenv("CXX", "g++ '")
    assert machine.find_compiler() == shutil.which("g++")
    (tmp_path / "file").touch()
    assert not machine.describe_place(tmp_path / "file" / "runs")["writable"]
    place = machine.describe_place(tmp_path / "not" / "there")
    assert place["free"] > 0
    assert place["writable"]
    assert not (tmp_path / "not").exists()


def test_every_extra_is_looked_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[><=]", text)[0]: name for name, texts in extras.items() if name != "dev" for text in texts}
    assert machine.EXTRAS.keys() == wanted.keys()
    for name, extra in machine.EXTRAS.items():
        assert any(text.startswith(name) for text in extras[extra])


def test_two_seconds_are_two_seconds() -> None:
    """Of timed steps; the number of images per second follows from their median."""
    measured = measure_training(0.01)
    assert measured["images_per_second"] == pytest.approx(measured["batch_size"] / measured["seconds_per_step"], 0.01)
    assert json.dumps(measured)
