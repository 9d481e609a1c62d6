"""Gradients through what a network shares are those of a network that shares nothing, and those of finite differences.

The reference reads the network's own modules, in the plainest way: each op applies its own prefix to the raw state, and
each cell that reads another's output computes that output anew, down to the images.
"""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from nascli.config import CellNetworkConfig
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.cell import Branch, Cell
from nascli.models.cells.network import CellNetwork
from tests.cells import resolve_cells
from tests.genotype.genotype_st import genotypes

Masks = dict[int, tuple[Tensor, ...]]


def pre_activated(output: Tensor | None) -> Tensor:
    assert output is not None
    return F.relu(output)


def plain_cell(
    cell: Cell, spec: CellSpec, older: Tensor | None, newer: Tensor | None, drawn: Iterator[Tensor]
) -> Tensor:
    states: dict[int, Tensor] = {}
    if cell.prev_prev is not None:
        states[0] = cell.prev_prev(pre_activated(older) if cell.takes_activated[0] else older)
    if cell.prev is not None:
        states[1] = cell.prev(pre_activated(newer) if cell.takes_activated[1] else newer)
    halves = iter(cell.branches)
    for k, block in enumerate(spec.blocks):
        if k + 2 not in spec.live:
            continue
        results = []
        for _ in range(2):
            half = next(halves)
            assert isinstance(half, Branch)
            result = half.op(half.op.prefix(states[half.state]))
            results.append(result * next(drawn) if half.droppable else result)
        states[k + 2] = results[0] + results[1] if block.combine == "add" else torch.cat(results, 1)
    return torch.cat([join(states[s]) for join, s in zip(cell.aligns, spec.concat, strict=True)], 1)


def plain_output(network: CellNetwork, images: Tensor, masks: Masks, output: int) -> Tensor:
    """Output 0 is the stem's, output p + 1 that of the cell at position p."""
    if output == 0:
        stem: Tensor = network.stem(images)
        return stem
    step, cell = network.slots[output - 1], network.cells[str(output - 1)]
    assert isinstance(cell, Cell)
    older = plain_output(network, images, masks, step.prev_prev) if cell.prev_prev is not None else None
    newer = plain_output(network, images, masks, output - 1) if cell.prev is not None else None
    return plain_cell(cell, step.cell(network.spec.genotype), older, newer, iter(masks.get(output - 1, ())))


def plain_logits(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
    masks = network.draw_masks(images, [int(name) for name in network.cells])
    last = plain_output(network, images, masks, len(network.slots))
    auxiliary = None
    if network.aux_head is not None:
        stage2 = max(int(name) for name in network.cells if network.slots[int(name)].stage == 2)
        auxiliary = network.aux_head(plain_output(network, images, masks, stage2 + 1))
    return network.classifier(F.relu(last).mean((2, 3))), auxiliary


def gradients(network: CellNetwork, images: Tensor, *, plain: bool) -> dict[str, Tensor]:
    """Loss, the gradient of the images, and those of all parameters."""
    torch.manual_seed(1)  # drop path
    network.zero_grad()
    images = images.clone().requires_grad_()
    logits, auxiliary = plain_logits(network, images) if plain else network.forward_with_aux(images)
    labels = torch.arange(len(images)) % network.spec.classes
    loss = F.cross_entropy(logits, labels)
    if auxiliary is not None:
        loss = loss + 0.4 * F.cross_entropy(auxiliary, labels)
    torch.autograd.backward(loss)
    assert images.grad is not None
    found = {"loss": loss.detach(), "images": images.grad}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        found[name] = parameter.grad.clone()
    return found


def assert_sharing_changes_nothing(genotype: Genotype, **numbers: object) -> None:
    given = {"filters": 2, "cells_per_stage": 1, "image_size": 16, "dropout": 0.0} | numbers
    torch.manual_seed(0)
    spec = resolve_cells(genotype, CellNetworkConfig.model_validate(given), classes=3, aux_head=True)
    network = CellNetwork(spec).double()
    network.drop_path_prob = 0.3
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    expected = gradients(network, images, plain=True)
    found = gradients(network, images, plain=False)
    assert found.keys() == expected.keys()
    largest = max(tensor.abs().max().item() for tensor in expected.values())
    for name, tensor in found.items():  # some gradients are zero but for rounding: weights before a batch norm
        assert torch.allclose(tensor, expected[name], rtol=1e-9, atol=1e-12 * largest), name


@pytest.mark.parametrize("name", ["nasnet-a", "amoebanet-b", "darts-v2", "enas"])
def test_of_published_cells(name: str) -> None:
    assert_sharing_changes_nothing(zoo_genotype(name))


def test_where_two_cells_and_the_auxiliary_head_read_one_output() -> None:
    assert_sharing_changes_nothing(zoo_genotype("nasnet-a"), skip_reduction_input=True, filters=1, stem_filters=3)


@settings(max_examples=6)
@given(genotypes())
def test_of_any_cell(genotype: Genotype) -> None:
    assert_sharing_changes_nothing(genotype, filters=1)


@pytest.mark.parametrize("stride", [1, 2])
def test_of_a_cell_are_those_of_finite_differences(stride: int) -> None:
    blocks = (
        Block(inputs=(0, 1), ops=("sep_conv_3x3", "avg_pool_3x3")),
        Block(inputs=(1, 0), ops=("max_pool_3x3", "conv_1x3_3x1")),
        Block(inputs=(2, 1), ops=("avg_pool_2x2", "avg_pool_3x3"), combine="concat"),
    )
    torch.manual_seed(0)
    cell = Cell(CellSpec(blocks=blocks, concat=(0, 3, 4)), (2, 3), 2, stride).double()
    for norm in cell.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias, 0, 0.2)
    names = [name for name, _ in cell.named_parameters()]

    def run(older: Tensor, newer: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(cell, given, (older, newer))
        return result

    states = (torch.randn(2, channels, 4, 4, dtype=torch.float64, requires_grad=True) for channels in (2, 3))
    assert torch.autograd.gradcheck(run, (*states, *cell.parameters()))
