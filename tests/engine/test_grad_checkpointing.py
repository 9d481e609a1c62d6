"""Cells whose activations are computed again in the backward pass: the same training with less memory."""

import pytest
import torch
from torch import Tensor, nn

from nascli.classify.task import ClassifyTask
from nascli.config import CellNetworkConfig, TrainConfig
from nascli.engine.estimate import LiveBytes, step_memory
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.interface import recompute
from tests.cells import build_cells
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, blank_batch, make_data, run_fit
from tests.cli.program import SETTINGS, Nascli, prepare

RECOMPUTING = {"grad_checkpointing": True}


def make_network(cell: str = "nasnet-a", cells_per_stage: int = 1) -> CellNetwork:
    """With dropout and an auxiliary head."""
    torch.manual_seed(0)
    config = CellNetworkConfig(filters=4, cells_per_stage=cells_per_stage, dropout=0.3)
    return build_cells(zoo_genotype(cell), config, classes=3, image_size=8, aux_head=True)


def trained(config: TrainConfig) -> tuple[dict[str, Tensor], float]:
    """Weights and buffers after 4 steps, and the last loss."""
    network = make_network()
    result = run_fit(network, config, data=make_data(32, 9))
    assert not network.grad_checkpointing
    return network.state_dict(), result.train_loss


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_and_statistics_are_the_same_bit_for_bit(precision: str) -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2, "precision": precision, "ema_decay": 0.0})
    plain, plain_loss = trained(config)
    found, loss = trained(config.model_copy(update=RECOMPUTING))
    assert loss == plain_loss
    assert found.keys() == plain.keys()
    assert [name for name in plain if not torch.equal(found[name], plain[name])] == []


def test_each_cell_runs_twice_a_step_and_once_in_evaluation() -> None:
    network, calls = make_network(), list[str]()
    for name, cell in network.cells.items():
        cell.register_forward_pre_hook(lambda module, inputs, name=name: calls.append(name))
    network.grad_checkpointing = True
    images = torch.randn(4, 3, 8, 8)
    torch.autograd.backward(network(images).sum())
    assert calls == [*network.cells, *reversed(list(network.cells))]
    calls.clear()
    network.eval()(images)
    assert calls == list(network.cells)


class Noisy(nn.Module):
    """BatchRng, and keeps statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, momentum=None), nn.Dropout(0.5), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def test_a_module_that_draws_draws_the_same_and_may_be_gone_back_through_twice() -> None:
    found = []
    images = torch.randn(3, 2, 4, 4)
    for again in (False, True):
        torch.manual_seed(0)
        module, x = Noisy(), images.clone().requires_grad_()
        loss = (recompute(module, x) if again else module(x)).square().sum()
        torch.rand(3)  # what others draw between the two passes must not matter
        for _ in range(2):
            torch.autograd.backward(loss, retain_graph=True)
        found.append([x.grad, *(p.grad for p in module.parameters()), *module.buffers(), torch.rand(1)])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_a_step_needs_less_memory() -> None:
    needed = []
    for again in (False, True):
        config = EVERYTHING.model_copy(update={"grad_checkpointing": again})
        network, run = make_network("amoebanet-b", cells_per_stage=2), Run(CPU)
        task = ClassifyTask(network, make_data(), config, AUGMENTATION, 1, run)
        task.begin_step(task.plan.steps)
        needed.append(step_memory(start_state(task, run), task, blank_batch(task), run))
    plain, recomputing = needed
    assert recomputing < 0.7 * plain


def test_live_bytes_are_those_of_tensors_that_are_still_needed() -> None:
    live, size = LiveBytes(), 4000
    x = torch.ones(1000, requires_grad=True)
    with live:
        live.hold(x.detach())
        kept = (x * 2).exp()  # the graph keeps the result; the product is gone
        loss = kept.sum()
        del kept
        assert (live.now, live.peak) == (2 * size + 4, 3 * size)
        view = x.detach()[:10]
        assert live.now == 2 * size + 4
        torch.autograd.backward(loss)
        assert live.now >= 2 * size  # the gradient has taken the result's place
    assert len(view) == 10
    del loss
    assert live.now in (2 * size, 2 * size + 4)


def test_the_plan_of_the_command_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    prepare()
    nascli, line = Nascli(capsys), f"train --cell cell.json --dataset folder:images {SETTINGS} --dry-run"
    assert "memory per step" in nascli(line).out
    plans = [nascli(f"{line} --json --set train.grad_checkpointing={again}").json for again in ("false", "true")]
    assert 0 < plans[1]["memory"] < plans[0]["memory"]
