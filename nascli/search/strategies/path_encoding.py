"""What cells are made of, as counts: the numbers in which a surrogate sees them.

The traits of a cell are its ops, its ops with the kind of state that each reads, its blocks as pairs of ops, and its
paths: which input, then which ops, lead to the output. None depends on how the cell is spelled, and what is dead does
not count, so genotypes that build the same network have the same traits.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nascli.genotype.cells.schema import CellSpec, Genotype

Trait = tuple[str, ...]
Traits = Counter[Trait]
Floats = npt.NDArray[np.float64]


def traits_of(genotype: Genotype) -> Traits:
    """The traits of both cells; of one, where one serves as both."""
    cells = {"normal": genotype.normal, "reduction": genotype.reduction}
    if genotype.normal == genotype.reduction:
        del cells["reduction"]
    return Counter({(role, *trait): count for role, cell in cells.items() for trait, count in _cell(cell).items()})


def tabulated(traits: Sequence[Traits]) -> Floats:
    """The counts as a matrix: a row for each genotype, a column for each trait that any of them has, in fixed order."""
    columns = {trait: place for place, trait in enumerate(sorted({trait for each in traits for trait in each}))}
    counts = np.zeros((len(traits), len(columns)))
    for row, each in zip(counts, traits, strict=True):
        for trait, count in each.items():
            row[columns[trait]] = count
    return counts


def _cell(cell: CellSpec) -> Traits:
    found: Traits = Counter()
    paths: dict[int, list[Trait]] = {0: [("older",)], 1: [("newer",)]}  # to each state
    for state, block in enumerate(cell.blocks, start=2):
        if state not in cell.live:
            continue
        halves = list(zip(block.inputs, block.ops, strict=True))
        for read, op in halves:
            found["op", op] += 1
            found["reads", op, _kind(read)] += 1
        found["block", block.combine, *sorted(block.ops)] += 1
        paths[state] = [path if op == "identity" else (*path, op) for read, op in halves for path in paths[read]]
    for state in cell.concat:
        found.update(("path", *path) for path in paths[state])
    return found


def _kind(state: int) -> str:
    return ("older", "newer", "block")[min(state, 2)]
