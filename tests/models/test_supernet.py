"""Inherited weights: a child out of the shared ones is the stand-alone network, and shares what the rule says."""

import random
from collections.abc import Hashable, Mapping
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nascli.config import CellNetworkConfig
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.cells.space import DARTS, ENAS, NASNET, CellSpace
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.cells.supernet import bare_child, build_shared_parameters, extract_child, inherit_weights
from tests.cells import resolve_cells

PROGRESSIVE = CellSpace(
    name="progressive",
    ops=("identity", "max_pool_3x3", "dil_conv_3x3", "bottleneck_conv_1x7_7x1"),
    blocks=3,
    combines=("add", "concat"),
    inputs="distinct",
    cells="one",
)
TINY = CellSpace(
    name="tiny", ops=("sep_conv_3x3", "avg_pool_3x3", "identity"), blocks=2, combines=("add", "concat"), concat="unused"
)


def spec_of(genotype: CellGenotype, **numbers: object) -> CellNetworkSpec:
    config = CellNetworkConfig.model_validate({"filters": 4, "cells_per_stage": 1, "image_size": 16} | numbers)
    return resolve_cells(genotype, config, classes=3)


def drawn(space: CellSpace, seed: int) -> CellGenotype:
    draw = random.Random(seed)
    return space.decode([draw.randrange(size) for size in space.decision_sizes])


@cache
def shared_weights(space: CellSpace, **numbers: Hashable) -> dict[str, Tensor]:
    """Shared weights; scales and shifts of batch norms are varied, so that none can stand in for another."""
    torch.manual_seed(0)
    shared = build_shared_parameters(spec_of(drawn(space, 0), **numbers), space)
    with torch.no_grad():
        for weight in shared.values():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.2)
    return dict(shared.named_parameters())


def forget_gradients(shared: Mapping[str, Tensor]) -> None:
    for weight in shared.values():
        weight.grad = None


def logits_of(spec: CellNetworkSpec, shared: Mapping[str, Tensor], images: Tensor) -> Tensor:
    child = bare_child(spec).train()
    logits: Tensor = functional_call(child, inherit_weights(child, shared), (images,))
    return logits


def images_of(spec: CellNetworkSpec) -> Tensor:
    return torch.randn(4, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("space", "numbers"),
    [
        (NASNET, {}),
        (ENAS, {"cells_per_stage": 2, "skip_reduction_input": True}),
        (DARTS, {"stem": "imagenet", "image_size": 32, "stem_filters": 6}),
        (PROGRESSIVE, {"cells_per_stage": 2, "reduction_placement": "in_place"}),
        (TINY, {"filters": 3, "stem_filters": 3}),
    ],
    ids=lambda value: value.name if isinstance(value, CellSpace) else "",
)
def test_a_child_computes_what_the_stand_alone_network_computes(space: CellSpace, numbers: dict[str, Hashable]) -> None:
    shared = shared_weights(space, **numbers)
    for seed in range(3):
        spec = spec_of(drawn(space, seed), **numbers)
        images = images_of(spec)
        alone = CellNetwork(spec)
        extracted = extract_child(spec, shared)
        found = alone.load_state_dict(dict(extracted.named_parameters()), strict=False)
        assert all("running" in name or "num_batches" in name for name in found.missing_keys)
        assert not found.unexpected_keys
        assert torch.equal(extracted.eval()(images), alone.eval()(images))
        torch.testing.assert_close(logits_of(spec, shared, images), alone.train()(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", [NASNET, ENAS, DARTS], ids=lambda space: space.name)
def test_blocks_in_another_order_with_their_weights_renamed_are_the_same_child(space: CellSpace) -> None:
    """A weight's name tells its use: whichever block stands third, its weights go with it."""
    shared = shared_weights(space)
    renamed = {_exchange_names(name): weight for name, weight in shared.items()}
    swappable = (g for g in (drawn(space, seed) for seed in range(1000)) if _independent(g.normal, g.reduction))
    for _ in range(2):
        genotype = next(swappable)
        other = genotype.model_copy(
            update={"normal": _exchange(genotype.normal), "reduction": _exchange(genotype.reduction)}
        )
        assert other != genotype
        images = images_of(spec_of(genotype))
        before, after = logits_of(spec_of(genotype), shared, images), logits_of(spec_of(other), renamed, images)
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(before, logits_of(spec_of(other), shared, images), atol=1e-4, rtol=1e-4)


def test_an_op_has_the_same_weights_whatever_state_it_reads() -> None:
    def cell(inputs: tuple[int, int]) -> CellSpec:
        blocks = [
            Block(inputs=(0, 1), ops=("sep_conv_3x3", "sep_conv_5x5")),
            Block(inputs=(0, 1), ops=("identity", "sep_conv_3x3")),
            Block(inputs=inputs, ops=("sep_conv_3x3", "sep_conv_3x3")),
        ]
        return CellSpec(blocks=tuple(blocks), concat=(2, 3, 4))

    space = CellSpace(name="s", ops=("sep_conv_3x3", "sep_conv_5x5", "identity"), blocks=3, concat="all")
    children = [
        bare_child(spec_of(CellGenotype(name="g", space="s", normal=cell(inputs), reduction=cell((2, 2)))))
        for inputs in ((1, 2), (2, 3))
    ]
    shared = dict(build_shared_parameters(children[0].spec, space).named_parameters())
    first, second = (inherit_weights(child, shared) for child in children)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name])


def test_a_step_reaches_the_weights_of_its_child_and_no_others() -> None:
    shared = shared_weights(TINY)
    genotype = drawn(TINY, 3)
    spec = spec_of(genotype)
    forget_gradients(shared)
    logits_of(spec, shared, images_of(spec)).square().sum().backward()  # type: ignore[no-untyped-call]
    reached = {name for name, weight in shared.items() if weight.grad is not None}
    child = inherit_weights(bare_child(spec), shared)
    assert sum(shared[name].numel() for name in reached) == sum(weight.numel() for weight in child.values())
    assert 0 < len(reached) < len(shared)


def test_every_shared_weight_belongs_to_some_child() -> None:
    space = TINY.model_copy(update={"blocks": 3})  # with two, the joined width can equal F: then nothing reads it
    shared = shared_weights(space)
    seen: set[str] = set()
    for op in range(len(space.ops)):
        for combine in range(2):
            for state in range(3):
                first = [1, 0] if state == 1 else [0, 1]
                cell = [*first, op, op, combine] + [state, state, op, op, combine] * 2
                spec = spec_of(space.decode(cell * 2))
                forget_gradients(shared)
                logits_of(spec, shared, images_of(spec)).sum().backward()  # type: ignore[no-untyped-call]
                seen |= {name for name, weight in shared.items() if weight.grad is not None}
    assert shared.keys() - seen == set()


def test_fresh_weights_start_as_those_of_a_network_and_follow_from_the_random_state() -> None:
    spec = spec_of(drawn(TINY, 0), filters=16)
    torch.manual_seed(5)
    one = build_shared_parameters(spec, TINY)
    torch.manual_seed(5)
    same = build_shared_parameters(spec, TINY)
    assert all(torch.equal(one[name], same[name]) for name in one)
    child = extract_child(spec, dict(one.named_parameters()))
    for ours, theirs in zip(child.modules(), CellNetwork(spec).modules(), strict=True):
        if isinstance(ours, nn.BatchNorm2d):
            assert torch.equal(ours.weight, torch.ones_like(ours.weight))
            assert not ours.bias.any()
        if isinstance(ours, nn.Conv2d) and ours.weight.numel() >= 400:
            assert isinstance(theirs, nn.Conv2d)
            assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.25)


def test_an_extracted_child_is_a_copy() -> None:
    shared = shared_weights(TINY)
    before = {name: weight.detach().clone() for name, weight in shared.items()}
    child = extract_child(spec_of(drawn(TINY, 1)), shared)
    with torch.no_grad():
        for weight in child.parameters():
            weight.add_(1)
    assert all(torch.equal(before[name], weight) for name, weight in shared.items())


def _independent(*cells: CellSpec) -> bool:
    """Blocks 2 and 3 can change places in each cell, and it makes a difference."""
    return all(4 not in cell.blocks[3].inputs and {4, 5} <= cell.live for cell in cells)


def _exchange(cell: CellSpec) -> CellSpec:
    """The same cell with its blocks 2 and 3 in the other order."""

    def state(number: int) -> int:
        return {4: 5, 5: 4}.get(number, number)

    blocks = [
        block.model_copy(update={"inputs": (state(block.inputs[0]), state(block.inputs[1]))}) for block in cell.blocks
    ]
    blocks[2], blocks[3] = blocks[3], blocks[2]
    return CellSpec(blocks=tuple(blocks), concat=tuple(sorted(map(state, cell.concat))))


def _exchange_names(name: str) -> str:
    other = {"block2": "block3", "block3": "block2", "state4": "state5", "state5": "state4"}
    other |= {"join4": "join5", "join5": "join4"}
    return "/".join(other.get(part, part) for part in name.split("/"))
