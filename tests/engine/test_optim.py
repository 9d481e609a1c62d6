"""RMSProp computes what TensorFlow does, SGD what torch does; the moving average of the weights."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from timm.optim.rmsprop_tf import RMSpropTF
from torch import nn

from nascli.config import OptimConfig
from nascli.engine.optim import RmsProp, WeightAverage, make_optimizer

NUMBERS = {"lr": 0.3, "decay": 0.8, "momentum": 0.7, "epsilon": 0.5}


def steps(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_follows_the_formula(weight_decay: float) -> None:
    parameter = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = RmsProp([{"params": [parameter], "weight_decay": weight_decay}], **NUMBERS)
    w, s, m = parameter.detach().numpy().copy(), np.ones(5), np.zeros(5)
    for gradient in steps(6):
        parameter.grad = gradient.clone()
        optimizer.step()
        g = gradient.numpy() + weight_decay * w
        s = 0.8 * s + 0.2 * g**2
        m = 0.7 * m + 0.3 * g / np.sqrt(s + 0.5)
        w = w - m
        np.testing.assert_allclose(parameter.detach().numpy(), w, rtol=1e-12)


def test_it_is_timms() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64)) for _ in range(2))
    first = RmsProp([ours], **NUMBERS)
    second = RMSpropTF([theirs], lr=0.3, alpha=0.8, momentum=0.7, eps=0.5, lr_in_momentum=True)
    for gradient in steps(6):
        for parameter, optimizer in ((ours, first), (theirs, second)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_its_state_can_be_taken_up_again() -> None:
    parameters = [nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2)]
    optimizers = [RmsProp([parameter], **NUMBERS) for parameter in parameters]
    first, second = steps(2)
    parameters[0].grad = first.clone()
    optimizers[0].step()
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    parameters[1].data.copy_(parameters[0].data)
    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        parameter.grad = second.clone()
        optimizer.step()
    assert torch.equal(*parameters)


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def make_sgd(layer: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(layer, OptimConfig(lr=0.1, momentum=0.9, weight_decay=0.01))


def test_a_first_step_that_is_skipped_leaves_momenta_of_zero() -> None:
    """As where a gradient in float16 overflows: torch's own momenta would be what memory held before."""
    skipped, plain = line(), line()
    optimizers = [make_sgd(layer) for layer in (skipped, plain)]
    for parameter in skipped.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    optimizers[0].found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizers[0].step()
    momenta = [optimizers[0].state[parameter]["momentum_buffer"] for parameter in skipped.parameters()]
    assert all(bool((momentum == 0).all()) for momentum in momenta)
    assert all(torch.equal(*pair) for pair in zip(skipped.parameters(), plain.parameters(), strict=True))
    del optimizers[0].found_inf  # type: ignore[attr-defined]
    for layer, optimizer in zip((skipped, plain), optimizers, strict=True):
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(skipped.parameters(), plain.parameters(), strict=True))


def test_the_steps_are_those_of_torch() -> None:
    ours, theirs = line(), line()
    groups = [{"params": [theirs.weight], "weight_decay": 0.01}, {"params": [theirs.bias], "weight_decay": 0.0}]
    optimizers = make_sgd(ours), torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True)
    for _ in range(3):
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(layer(torch.ones(4, 3)).square().sum())
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_integer_counters_of_the_average_are_copied() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, 0.9)
    for count in (1, 2, 3):
        norm(torch.randn(4, 2))
        average.update(norm)
        assert average.module.num_batches_tracked == count
