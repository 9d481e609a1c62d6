"""Weights are cast at once: the numbers of autocast, without its launches for each layer."""

from contextlib import suppress

import pytest
import torch
from launches import StepCounter
from torch import Tensor, nn

from nascli.engine.cast import NetworkAutocast, cast_weights
from nascli.engine.device import autocast
from nascli.models.families import build_network

CPU = torch.device("cpu")


def make_gradients(network: nn.Module, images: Tensor, at_once: bool) -> dict[str, Tensor | None]:
    network.zero_grad()
    torch.manual_seed(0)
    context = NetworkAutocast(network, "bfloat16", CPU)() if at_once else autocast("bfloat16", CPU)
    with context:
        logits = network(images)
    logits.float().square().sum().backward()
    return {name: None if each.grad is None else each.grad.clone() for name, each in network.named_parameters()}


@pytest.mark.parametrize(("name", "preset"), [("nasnet-a", "cifar10"), ("mnasnet-a1", "mnasnet-cifar")])
@pytest.mark.parametrize("recomputed", [False, True])
def test_gradients_are_those_of_autocast(name: str, preset: str, recomputed: bool) -> None:
    network = build_network(name, preset, **({"filters": 4} if preset == "cifar10" else {"width": 0.35}))
    network.to(memory_format=torch.channels_last).train()
    network.set_grad_checkpointing(recomputed)
    first = next(iter(network.parameters())).requires_grad_(False)
    images = torch.randn(4, 3, 32, 32)
    plain, at_once = (make_gradients(network, images, each) for each in (False, True))
    assert plain.keys() == at_once.keys()
    assert first.grad is None
    for name, gradient in plain.items():
        other = at_once[name]
        assert gradient is None if other is None else gradient is not None and torch.equal(gradient, other), name


def test_parameters_are_in_place_again_after_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = dict(network.named_parameters())
    kinds = {}
    with suppress(ZeroDivisionError), NetworkAutocast(network, "bfloat16", CPU)():
        kinds = {name: each.weight.dtype for name, each in network.named_children()}
        raise ZeroDivisionError
    assert kinds == {"0": torch.bfloat16, "1": torch.float32}
    assert all(each is before[name] for name, each in network.named_parameters())
    with NetworkAutocast(network, "float32", CPU)():
        assert network[0].weight.dtype == torch.float32


def test_casts_do_not_grow_with_the_layers() -> None:
    casts = []
    for cells in (1, 3):
        network = build_network("nasnet-a", "cifar10", filters=4, cells_per_stage=cells)
        with StepCounter(CPU) as waits:
            make_gradients(network, torch.randn(2, 3, 32, 32), True)
        casts.append(waits.operations["_foreach_copy_"])
        weights = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
        assert waits.operations["_to_copy"] < len(weights)
    assert casts == [2, 2]


def test_only_weights_of_layers_are_cast_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weights = {name: each.detach() for name, each in network.named_parameters() if name != "0.bias"}
    cast = cast_weights(network, weights, "bfloat16", CPU)
    assert {name: each.dtype for name, each in cast.items()} == {
        "0.weight": torch.bfloat16,
        "1.weight": torch.float32,
        "1.bias": torch.float32,
    }
    assert cast_weights(network, weights, "float32", CPU) == weights
