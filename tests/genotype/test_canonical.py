"""Canonical form against brute force: equal hashes exactly for cells that are the same network."""

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nascli.genotype.cells.canonical import canonical_cell
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec, find_unused_states
from nascli.genotype.cells.space import DARTS, ENAS
from nascli.genotype.resolve import zoo_genotype, zoo_names
from nascli.models.cells.cell import Cell
from tests.genotype.genotype_st import cells_of_few_kinds, genotypes
from tests.published import published_cell
from tests.reliability.bounded import bounded

Spelling = tuple[tuple[tuple[tuple[int, str], ...], str], ...]


def small_cells() -> Iterator[CellSpec]:
    """Every cell of two blocks over two ops and two concats."""
    halves = [
        [
            ((i, a), (j, b))
            for i, j in product(range(k + 2), repeat=2)
            for a, b in product(("identity", "conv_1x1"), repeat=2)
        ]
        for k in range(2)
    ]
    for first, second in product(*halves):
        blocks = tuple(Block(inputs=(h[0][0], h[1][0]), ops=(h[0][1], h[1][1])) for h in (first, second))
        for concat in ((3,), (2, 3)):
            yield CellSpec(blocks=blocks, concat=concat)


def respell(cell: CellSpec, order: tuple[int, ...], swaps: tuple[bool, ...]) -> CellSpec | None:
    """The cell with its blocks in another order and some halves swapped; None where the order is not valid."""
    place = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(order)}
    blocks = []
    for new, old in enumerate(order):
        block = cell.blocks[old]
        inputs = tuple(place[i] for i in block.inputs)
        if max(inputs) >= new + 2:
            return None
        step = -1 if swaps[old] else 1
        blocks.append(Block(inputs=inputs[::step], ops=block.ops[::step], combine=block.combine))
    return CellSpec(blocks=tuple(blocks), concat=tuple(sorted(place[s] for s in cell.concat)))


def without_dead_blocks(cell: CellSpec) -> CellSpec:
    kept = [k for k in range(len(cell.blocks)) if k + 2 in cell.live]
    place = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(kept)}
    blocks = tuple(
        Block(
            inputs=(place[cell.blocks[k].inputs[0]], place[cell.blocks[k].inputs[1]]),
            ops=cell.blocks[k].ops,
            combine=cell.blocks[k].combine,
        )
        for k in kept
    )
    return CellSpec(blocks=blocks, concat=tuple(place[s] for s in cell.concat))


def brute_force_class(cell: CellSpec) -> frozenset[str]:
    """All spellings of the network that a cell builds: every block order, every order of halves, no dead blocks."""
    cell = without_dead_blocks(cell)
    count = len(cell.blocks)
    spellings = (
        respell(cell, order, swaps)
        for order in permutations(range(count))
        for swaps in product((False, True), repeat=count)
    )
    return frozenset(s.model_dump_json() for s in spellings if s)


def test_hash_classes_equal_brute_force_classes_over_all_small_cells() -> None:
    by_hash, by_force = defaultdict(set), defaultdict(set)
    cells = list(small_cells())
    for number, cell in enumerate(cells):
        by_hash[canonical_cell(cell)].add(number)
        by_force[brute_force_class(cell)].add(number)
    assert len(cells) == 16 * 36 * 2
    assert len(by_force) < len(cells) / 2  # there is something to find
    assert {frozenset(c) for c in by_hash.values()} == {frozenset(c) for c in by_force.values()}


@given(genotypes(), st.data())
def test_any_respelling_has_the_same_hash_and_dead_blocks_do_not_count(
    genotype: CellGenotype, data: st.DataObject
) -> None:
    cell = genotype.normal
    count = len(cell.blocks)
    order = tuple(data.draw(st.permutations(range(count))))
    swaps = tuple(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    other = respell(cell, order, swaps) or respell(cell, tuple(range(count)), swaps)
    assert other is not None
    assert canonical_cell(other) == canonical_cell(cell)
    dead = (*other.blocks, Block(inputs=(0, count + 1), ops=("conv_1x1", "identity")))
    assert canonical_cell(CellSpec(blocks=dead, concat=other.concat)) == canonical_cell(cell)


@given(genotypes())
def test_canonical_form_is_a_fixed_point_that_builds_the_same_network(genotype: CellGenotype) -> None:
    form = genotype.canonical()
    assert form.canonical() == form
    assert form.canonical_hash() == genotype.canonical_hash()
    assert without_dead_blocks(form.normal).model_dump_json() in brute_force_class(genotype.normal)


def cell_module(spec: CellSpec, seed: int) -> Cell:
    torch.manual_seed(seed)
    return Cell(spec, (4, 4), 4, 1).eval()


@settings(max_examples=25)
@given(genotypes((ENAS, DARTS)), st.data())
def test_two_spellings_with_the_same_weights_give_the_same_output(genotype: CellGenotype, data: st.DataObject) -> None:
    spec = genotype.normal
    count = len(spec.blocks)
    order = tuple(data.draw(st.permutations(range(count))))
    swaps = tuple(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    other = respell(spec, order, swaps)
    if other is None:
        order = tuple(range(count))
        other = respell(spec, order, swaps)
    assert other is not None
    one, two = cell_module(spec, 0), cell_module(other, 1)
    for mine, theirs in ((one.prev_prev, two.prev_prev), (one.prev, two.prev)):
        copy(mine, theirs)
    one_halves, two_halves = halves_by_place(one, spec), halves_by_place(two, other)
    for new, old in enumerate(order):
        for side in (0, 1):
            copy(one_halves.get((old, side)), two_halves.get((new, 1 - side if swaps[old] else side)))
    x, y = torch.randn(2, 4, 7, 7), torch.randn(2, 4, 7, 7)
    with torch.no_grad():
        mine, theirs = one(x, y).split(4, 1), two(x, y).split(4, 1)
    place = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(order)}
    for position, state in enumerate(spec.concat):
        torch.testing.assert_close(mine[position], theirs[other.concat.index(place[state])])


def copy(source: nn.Module | None, target: nn.Module | None) -> None:
    assert (source is None) == (target is None)
    if source is not None and target is not None:
        target.load_state_dict(source.state_dict())


def halves_by_place(cell: Cell, spec: CellSpec) -> dict[tuple[int, int], nn.Module]:
    places = [(k, side) for k in range(len(spec.blocks)) if k + 2 in spec.live for side in (0, 1)]
    return dict(zip(places, cell.branches, strict=True))


def test_shared_and_repeated_blocks_are_different_networks() -> None:
    block = Block(inputs=(0, 1), ops=("conv_3x3", "conv_3x3"))
    twice = Block(inputs=(2, 2), ops=("conv_1x1", "conv_1x1"))
    both = Block(inputs=(2, 3), ops=("conv_1x1", "conv_1x1"))
    shared = CellSpec(blocks=(block, twice), concat=(3,))
    repeated = CellSpec(blocks=(block, block, both), concat=(4,))
    assert canonical_cell(shared) != canonical_cell(repeated)


def test_a_cell_of_inputs_alone_has_a_canonical_form() -> None:
    cells = [CellSpec(blocks=(Block(inputs=(0, 1), ops=(op, op)),), concat=(0, 1)) for op in ("identity", "conv_1x1")]
    assert canonical_cell(cells[0]) == canonical_cell(cells[1])


def test_published_architectures_are_all_different_and_their_hashes_do_not_drift() -> None:
    hashes = {name: zoo_genotype(name).canonical_hash() for name in zoo_names()}
    assert len(set(hashes.values())) == len(hashes)
    assert hashes["nasnet-a"] == "b63234f3d3d3ca0d"


@pytest.mark.parametrize("field", ["name", "space"])
def test_names_do_not_change_the_hash(field: str) -> None:
    genotype = published_cell("darts-v2")
    assert genotype.model_copy(update={field: "other"}).canonical_hash() == genotype.canonical_hash()


def test_many_twins_are_spelled_at_once() -> None:
    twin, other = ({"inputs": [0, 1], "ops": [op, op], "combine": "add"} for op in ("identity", "sep_conv_3x3"))
    user = {"inputs": [2, 5], "ops": ["identity", "identity"], "combine": "add"}
    moved = user | {"inputs": [8, 4]}
    with bounded(10):
        cells = [
            CellSpec.model_validate({"blocks": [*blocks, last], "concat": range(2, 14)})
            for blocks, last in (([twin] * 11, user), ([twin] * 11, moved), ([other] + [twin] * 10, user))
        ]
        first, second, third = map(canonical_cell, cells)
    assert first == second != third


def equal_blocks(count: int, readers: list[tuple[int, int]], op: str = "identity") -> CellSpec:
    """A cell of as many equal blocks, and blocks that are equal but for what they read."""
    blocks = [Block(inputs=(0, 1), ops=("conv_3x3", "conv_3x3"))] * count
    blocks += [Block(inputs=reader, ops=(op, op)) for reader in readers]
    return CellSpec(blocks=tuple(blocks), concat=find_unused_states(blocks))


@pytest.mark.parametrize(
    "cell",
    [
        equal_blocks(9, [(2, 3), (4, 5), (6, 7)]),
        equal_blocks(8, [(2, 3), (4, 5), (6, 7), (8, 9)]),
        equal_blocks(6, [(0, state) for state in range(2, 8)]),
        equal_blocks(6, [(state, state) for state in range(2, 8)]),
        equal_blocks(6, [(1, state) for state in range(2, 8)], "sep_conv_7x7"),
        equal_blocks(6, [(2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (2, 7)]),
    ],
)
def test_equal_blocks_that_are_read_by_different_ones_are_spelled_at_once(cell: CellSpec) -> None:
    draw = random.Random(0)
    with bounded(10):
        for _ in range(4):
            order = list(range(12))
            count = cell.blocks.count(cell.blocks[0])
            order[:count] = draw.sample(order[:count], count)
            order[count:] = draw.sample(order[count:], 12 - count)
            other = respell(cell, tuple(order), tuple(draw.random() < 0.5 for _ in order))
            assert other is not None
            assert canonical_cell(other) == canonical_cell(cell)


@settings(max_examples=40)
@given(cells_of_few_kinds())
def test_cells_of_few_kinds_of_blocks_are_spelled_as_brute_force_does(cell: CellSpec) -> None:
    spellings = [CellSpec.model_validate_json(text) for text in brute_force_class(cell)]
    assert canonical_cell(cell) == min(spellings, key=_order)


def _order(cell: CellSpec) -> tuple[object, ...]:
    """The order in which the canonical form is the smallest: its blocks' branches, then what it joins."""
    blocks = [(*zip(block.inputs, block.ops, strict=True), block.combine) for block in cell.blocks]
    return tuple(blocks), cell.concat
