"""RMSProp computes what TensorFlow does."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from timm.optim.rmsprop_tf import RMSpropTF
from torch import nn

from nascli.engine.optim import RmsProp

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
