"""RMSProp computes what TensorFlow does, SGD, AdamW and Muon what torch does; the moving average of the weights."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from timm.optim.rmsprop_tf import RMSpropTF
from torch import nn

from nascli.config import OptimConfig
from nascli.engine.optim import RmsProp, WeightAverage, make_optimizer, orthogonalize

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


def give_gradients(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], seed: int) -> None:
    """The same gradient to the two of each pair, whose shapes may differ."""
    generator = torch.Generator().manual_seed(seed)
    for ours, theirs in pairs:
        gradient = torch.randn(ours.shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.view_as(theirs).clone()


ADAMW: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.2, "adamw_betas": (0.8, 0.95), "adamw_epsilon": 1e-3}


def test_adamw_is_torchs_and_decays_matrices_alone() -> None:
    ours, theirs = line(), line()
    groups = [{"params": [theirs.weight], "weight_decay": 0.2}, {"params": [theirs.bias], "weight_decay": 0.0}]
    optimizers = (
        make_optimizer(ours, OptimConfig(optimizer="adamw", **ADAMW)),
        torch.optim.AdamW(groups, 0.01, (0.8, 0.95), 1e-3),
    )
    for step in range(3):
        give_gradients(list(zip(ours.parameters(), theirs.parameters(), strict=True)), step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-6, atol=1e-7)


def test_muon_is_torchs_for_dense_kernels_and_adamw_for_the_rest() -> None:
    """torch's orthogonal matrices are bfloat16's, of 8 bits; an update is 0.2 lr in every number on average."""
    torch.manual_seed(0)
    kernels: list[nn.Conv2d | nn.Linear] = [nn.Conv2d(5, 8, 2), nn.Conv2d(5, 8, 2), nn.Conv2d(8, 4, 1)]
    others: list[nn.Conv2d | nn.Linear] = [nn.Conv2d(3, 5, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(4, 2)]
    dense = [nn.Parameter(each.weight.detach().clone().flatten(1)) for each in kernels]
    kept = [nn.Parameter(each.weight.detach().clone()) for each in others]
    optimizers = (
        make_optimizer(nn.ModuleList([*kernels, *others]), OptimConfig(optimizer="muon", momentum=0.95, **ADAMW)),
        torch.optim.Muon(dense, 0.01, 0.2, 0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(kept, 0.01, (0.8, 0.95), 1e-3, weight_decay=0.2),
    )
    pairs = [(each.weight, weight) for each, weight in zip([*kernels, *others], [*dense, *kept], strict=True)]
    for step in range(3):
        give_gradients(pairs, step)
        for optimizer in optimizers:
            optimizer.step()
    for place, (weight, expected) in enumerate(pairs):
        close = 2e-4 if place < 3 else 1e-6
        torch.testing.assert_close(weight.view_as(expected), expected, rtol=0, atol=close)


@pytest.mark.parametrize("shape", [(2, 6, 20), (1, 20, 6), (3, 7, 7)])
def test_orthogonal_matrices_keep_their_singular_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ orthogonalize(matrices) @ right.mT
    values = inside.diagonal(dim1=1, dim2=2)
    assert 0.3 < values.min() < values.max() < 1.3
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=1e-9)


def test_integer_counters_of_the_average_are_copied() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, 0.9)
    for count in (1, 2, 3):
        norm(torch.randn(4, 2))
        average.update(norm)
        assert average.module.num_batches_tracked == count
