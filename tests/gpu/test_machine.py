"""The GPU itself: its facts, its random numbers, the error that ends it, sums over processes, the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nascli.doctor.devices import describe_gpus, describe_torch
from nascli.doctor.probe import measure_training
from nascli.engine.device import describe_device, seed_generators
from tests.cli.program import SETTINGS, Nascli, prepare
from tests.gpu.devices import on_gpu
from tests.processes import ENVIRONMENT


def run_alone(program: str) -> str:
    """What a program prints in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@on_gpu
def test_the_gpu_is_described_and_trained_on_by_the_doctor(device: torch.device) -> None:
    facts = describe_device(device)
    assert facts["gpu"] == torch.cuda.get_device_name() == describe_gpus()[0]["name"]
    assert describe_torch()["driver"] == facts["driver"]
    assert json.dumps(facts)
    assert measure_training(0.1)["device"] == "cuda"


@on_gpu
def test_its_generator_is_seeded(device: torch.device) -> None:
    drawn = []
    for _ in range(2):
        seed_generators(5, device)
        drawn.append((torch.rand(3), torch.rand(3, device=device).cpu()))
    assert all(torch.equal(*pair) for pair in zip(*drawn, strict=True))


LOSE = """
import torch
from nascli.device_errors import is_device_lost
try:
    torch.zeros(3, device="cuda")[torch.tensor([5], device="cuda")]
    torch.cuda.synchronize()
except RuntimeError as error:
    print(is_device_lost(error))
"""


@on_gpu
def test_a_failed_assertion_on_the_device_counts_as_a_lost_gpu(device: torch.device) -> None:
    assert run_alone(LOSE).split() == ["True"]


FILL = """
import torch
from nascli.device_errors import is_out_of_memory
from nascli.engine.device import name_out_of_memory
try:
    with name_out_of_memory():
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
except torch.OutOfMemoryError as error:
    print(is_out_of_memory(error))
"""


@on_gpu
def test_memory_that_does_not_suffice_is_known_as_that(device: torch.device) -> None:
    assert run_alone(FILL).split() == ["True"]


SUM = """
import torch
from torch import distributed
from nascli.engine.dist import DistContext
distributed.init_process_group("cpu:gloo,cuda:nccl", init_method="file://{store}", rank=0, world_size=1)
several = DistContext(0, 2, 0, 2)  # so that it does exchange; the group has this process alone
numbers = [torch.arange(3.0, device="cuda"), torch.ones(2, 2, device="cuda")]
several.sum_(numbers)
print(numbers[0].tolist(), numbers[1].sum().item(), several.any(True), several.all_gather("x")[0])
distributed.destroy_process_group()
"""


@on_gpu
def test_sums_go_by_nccl_and_words_by_gloo(tmp_path: Path, device: torch.device) -> None:
    assert run_alone(SUM.format(store=tmp_path / "store")).split("\n")[0] == "[0.0, 1.0, 2.0] 4.0 True x"


@on_gpu
def test_a_training_and_its_evaluation_by_the_command_line(
    capsys: pytest.CaptureFixture[str], device: torch.device
) -> None:
    prepare()
    nascli = Nascli(capsys)
    trained = nascli(f"train --cell cell.json --dataset folder:images {SETTINGS} --device cuda:0 --out run --json")
    assert trained.code == 0, trained.err
    record = json.loads(Path("run/run.json").read_text())
    assert torch.cuda.get_device_name() in json.dumps(record)
    first, second = (nascli(f"evaluate run --device {where} --json") for where in ("cuda:0", "cpu"))
    assert first.code == second.code == 0, first.err + second.err
    assert first.json["top1"] == pytest.approx(second.json["top1"], abs=0.06)  # one image of 18
