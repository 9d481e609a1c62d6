"""Path encoding of cells (White et al. 2021, BANANAS): the features of the Gaussian process.

The features of a cell are its ops, its ops with the kind of state that each reads, its blocks as pairs of ops, and its
paths: which input, then which ops, lead to the output. None depends on how the cell is spelled, and dead blocks do
not count, so genotypes that build the same network have the same features.
"""

from collections import Counter

from nascli.genotype.cells.schema import CellSpec

Feature = tuple[str, ...]


def cell_features(cell: CellSpec) -> Counter[Feature]:
    """Count of each feature in a cell."""
    found: Counter[Feature] = Counter()
    paths: dict[int, list[Feature]] = {0: [("older",)], 1: [("newer",)]}  # to each state
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
