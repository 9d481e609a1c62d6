"""Canonical form: two genotypes that build the same network have the same canonical hash.

Three things do not change the network: the order of the two branches of a block, the order of independent blocks,
and blocks that reach no output. (For a `concat` block and for the cell's output, order only permutes channels, which
the weights that follow undo.) A block used twice and two equal blocks are different: those share no weights.
"""

import json
from collections.abc import Mapping
from typing import Any

from nascli.genotype.cells.schema import Block, CellSpec

_Key = tuple[tuple[tuple[int, str], tuple[int, str]], str]
_Cell = tuple[tuple[_Key, ...], tuple[int, ...]]


def canonical_cell(cell: CellSpec) -> CellSpec:
    """The smallest spelling of a cell over all orders of branches and all valid orders of its live blocks.

    Blocks are placed one by one; at each place the candidate that spells smallest wins, and only where candidates
    tie are both tried, but of twins, which can change places without changing the cell, one. So the search is exact.
    """
    return CellSpec.model_validate_json(json.dumps(canonical_values(cell)))


def canonical_values(cell: CellSpec) -> dict[str, Any]:
    """The JSON values of the canonical cell: for its hash, which a search takes of every genotype that it reads."""
    keys, concat = _smallest(cell, cell.live - {0, 1}, {0: 0, 1: 1}, ())
    # a cell whose output is its inputs alone keeps one block, for the schema
    spelled = keys or ((((0, "identity"), (0, "identity")), "add"),)
    blocks = [{"inputs": [a[0], b[0]], "ops": [a[1], b[1]], "combine": combine} for (a, b), combine in spelled]
    return {"blocks": blocks, "concat": list(concat)}


def _smallest(cell: CellSpec, waiting: frozenset[int], names: Mapping[int, int], done: tuple[_Key, ...]) -> _Cell:
    if not waiting:
        return done, tuple(sorted(names[state] for state in cell.concat))
    spelled = {
        state: _spell(cell.blocks[state - 2], names)
        for state in waiting
        if all(i in names for i in cell.blocks[state - 2].inputs)
    }
    best = min(spelled.values())
    tied = [state for state, key in spelled.items() if key == best]
    return min(
        _smallest(cell, waiting - {state}, {**names, state: len(done) + 2}, (*done, best))
        for place, state in enumerate(tied)
        if not any(_are_twins(cell, waiting, state, other) for other in tied[:place])
    )


def _are_twins(cell: CellSpec, waiting: frozenset[int], first: int, second: int) -> bool:
    """Whether two blocks that are spelled the same are read in the same way, by blocks that wait and the output."""
    exchanged = {first: second, second: first}
    return (first in cell.concat) == (second in cell.concat) and all(
        _branches(block, exchanged) == _branches(block, {})
        for block in (cell.blocks[state - 2] for state in waiting)
        if first in block.inputs or second in block.inputs
    )


def _branches(block: Block, names: Mapping[int, int]) -> list[tuple[int, str]]:
    return sorted((names.get(i, i), op) for i, op in zip(block.inputs, block.ops, strict=True))


def _spell(block: Block, names: Mapping[int, int]) -> _Key:
    first, second = _branches(block, names)
    return (first, second), block.combine
