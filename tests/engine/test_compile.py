"""Compiled cells: the same steps to rounding, each different cell compiled once."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nascli.classify.task import ClassifyTask
from nascli.config import CellNetworkConfig
from nascli.engine import compile as compiling
from nascli.engine.step import train_step
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.errors import InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from tests.cells import build_cells
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, make_data, make_network, run_fit
from tests.cli.program import prepare


def without_compiler(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def refuse(function: object) -> object:
        raise RuntimeError(message)

    compiling._check_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", refuse)


@pytest.mark.parametrize(("message", "phrase"), [("no g++\nat all", "(no g++)"), ("", "(RuntimeError)")])
def test_without_a_compiler_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, message: str, phrase: str
) -> None:
    without_compiler(monkeypatch, message)
    config = EVERYTHING.model_copy(update={"compile": True})
    with pytest.raises(InputError) as caught:
        run_fit(make_network(), config)
    assert caught.value.message == f"train.compile: torch.compile does not work here {phrase}"
    assert "train.compile=false" in caught.value.hint


@pytest.mark.slow
def test_without_a_compiler_the_command_ends_with_wrong_usage(tmp_path: Path) -> None:
    prepare()
    nowhere = {"CXX": str(tmp_path / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    line = "-m nascli train --cell cell.json --dataset folder:images --filters 4 --set train.compile=true"
    ran = subprocess.run([sys.executable, *line.split()], env=os.environ | nowhere, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "Install a C++ compiler" in ran.stderr
    assert "Traceback" not in ran.stderr


@dataclass(frozen=True)
class Trained:
    """The state after three steps; the probability of drop path differs at each."""

    losses: list[Tensor]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    graphs: int


def train(**options: bool) -> Trained:
    """In float64: in float32 a ReLU may round to the other side of zero, and gradients jump."""
    cell = CellSpec(blocks=(Block(inputs=(1, 1), ops=("conv_1x1", "identity")),), concat=(2,))
    genotype = CellGenotype(name="chain", space="test", normal=cell, reduction=cell)
    numbers = CellNetworkConfig(filters=4, cells_per_stage=2, dropout=0.1)
    config = EVERYTHING.model_copy(update=options)
    torch.manual_seed(0)
    network = build_cells(genotype, numbers, classes=3, image_size=8, aux_head=True).double()
    run = Run(CPU)
    task = ClassifyTask(network, make_data(), config, AUGMENTATION, 1, run)
    state = start_state(task, run)
    images = torch.randn(16, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    losses, before = list[Tensor](), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with task.training():
        for step in range(3):
            network.drop_path_prob = 0.2 * step
            losses.append(train_step(state, task, (images, torch.arange(16) % 3), None, run).loss)
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    return Trained(losses, gradients, network.state_dict(), graphs)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch looks at everything while it compiles, also at what it advises against
def test_the_steps_are_those_of_plain_cells_and_each_different_cell_is_compiled_once() -> None:
    compiling._check_compiler(CPU.type)
    plain = train()
    again = train(compile=True, grad_checkpointing=True)
    once = train(compile=True)
    for compiled in (again, once):
        torch.testing.assert_close(compiled.losses, plain.losses, rtol=1e-6, atol=0)
        assert_close(compiled.gradients, plain.gradients)
        assert_close(compiled.weights, plain.weights)
    # of 8 cells those of the last two stages are pairs; the second training finds all of them compiled
    assert (plain.graphs, again.graphs, once.graphs) == (0, 6, 0)
