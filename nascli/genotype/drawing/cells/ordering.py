"""The row of each block of a cell, and the order along each row, so that few edges cross.

Row 0 holds the two inputs; a block stands above everything it reads. An edge that passes a row has a *lane* there: a
slot of its own between the blocks, so it can never run through one. All edges of one hidden state share its lanes.

References:
    Sugiyama, Tagawa, Toda, 1981: layers, then barycenters. Gansner et al., 1993, section 3: exchanging neighbors.
"""

from dataclasses import dataclass
from typing import NamedTuple

from nascli.genotype.cells.schema import CellSpec

ROW_LIMIT = 6
"""Blocks in a row at most; further ones stand one row higher."""

_SWEEPS = 12


class Slot(NamedTuple):
    """A place in a row: a hidden state itself, or the lane on which its edges pass that row."""

    state: int
    row: int
    lane: bool


class Link(NamedTuple):
    """A piece of an edge, from a row to the next: up to a lane (`half` None), or to one half of a block."""

    lower: Slot
    upper: Slot
    half: int | None


@dataclass(frozen=True)
class Rows:
    """The slots of each row from left to right, row 0 at the bottom; `links[r]` lead from row r to row r+1."""

    slots: tuple[tuple[Slot, ...], ...]
    links: tuple[tuple[Link, ...], ...]


def order_rows(cell: CellSpec) -> Rows:
    """The rows of a cell, ordered: barycenter sweeps up and down, and exchanges of neighbors; the best one seen.

    Deterministic: the same cell always gives the same rows.
    """
    rows, links = _rows(cell)
    below = [_neighbors(links[r - 1], upward=False) if r else {} for r in range(len(rows))]
    above = [_neighbors(links[r], upward=True) if r < len(links) else {} for r in range(len(rows))]
    best, fewest = [list(row) for row in rows], crossings(rows, links)
    for sweep in range(_SWEEPS):
        upwards = sweep % 2 == 0
        for r in range(len(rows)) if upwards else reversed(range(len(rows))):
            known = (below if upwards else above)[r]
            beside = rows[r - 1] if upwards else rows[min(r + 1, len(rows) - 1)]
            _sort_by_barycenter(rows[r], known, beside)
        while _exchange(rows, below, above):
            pass
        found = crossings(rows, links)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return Rows(tuple(map(tuple, best)), tuple(map(tuple, links)))


def crossings(rows: list[list[Slot]], links: list[list[Link]]) -> int:
    """Number of pairs of links that cross. Two links to one block never do: its halves are drawn in their order."""
    total = 0
    for r, between in enumerate(links):
        lower = {slot: x for x, slot in enumerate(rows[r])}
        upper = {slot: x for x, slot in enumerate(rows[r + 1])}
        ends = [(lower[link.lower], upper[link.upper]) for link in between]
        total += sum((a - c) * (b - d) < 0 for n, (a, b) in enumerate(ends) for c, d in ends[:n])
    return total


def _rows(cell: CellSpec) -> tuple[list[list[Slot]], list[list[Link]]]:
    row_of = {0: 0, 1: 0}
    filled: dict[int, int] = {}
    for k, block in enumerate(cell.blocks):
        row = 1 + max(row_of[state] for state in block.inputs)
        while filled.get(row, 0) == ROW_LIMIT:
            row += 1
        row_of[k + 2] = row
        filled[row] = filled.get(row, 0) + 1
    top = max(row_of.values())
    last_lane = {state: top if state in cell.concat else 0 for state in row_of}
    for k, block in enumerate(cell.blocks):
        for state in block.inputs:
            last_lane[state] = max(last_lane[state], row_of[k + 2] - 1)
    rows: list[list[Slot]] = [[] for _ in range(top + 1)]
    links: list[list[Link]] = [[] for _ in range(top)]
    for state, row in row_of.items():
        rows[row].append(Slot(state, row, lane=False))
        for passed in range(row + 1, last_lane[state] + 1):
            rows[passed].append(Slot(state, passed, lane=True))
            links[passed - 1].append(Link(Slot(state, passed - 1, passed - 1 > row), Slot(state, passed, True), None))
    for k, block in enumerate(cell.blocks):
        row = row_of[k + 2]
        for half, state in enumerate(block.inputs):
            lower = Slot(state, row - 1, lane=row_of[state] < row - 1)
            links[row - 1].append(Link(lower, Slot(k + 2, row, lane=False), half))
    return rows, links


def _neighbors(links: list[Link], *, upward: bool) -> dict[Slot, list[Slot]]:
    found: dict[Slot, list[Slot]] = {}
    for link in links:
        here, there = (link.lower, link.upper) if upward else (link.upper, link.lower)
        found.setdefault(here, []).append(there)
    return found


def _sort_by_barycenter(row: list[Slot], neighbors: dict[Slot, list[Slot]], beside: list[Slot]) -> None:
    place = {slot: x for x, slot in enumerate(beside)}

    def barycenter(item: tuple[int, Slot]) -> float:
        here, slot = item
        there = [place[n] for n in neighbors.get(slot, ())]
        # A slot without neighbors keeps its relative place.
        return sum(there) / len(there) if there else here * len(beside) / len(row)

    row[:] = [slot for _, slot in sorted(enumerate(row), key=barycenter)]


def _exchange(rows: list[list[Slot]], below: list[dict[Slot, list[Slot]]], above: list[dict[Slot, list[Slot]]]) -> bool:
    """Swap neighbors in a row wherever that saves crossings; whether any swap was made."""
    swapped = False
    for r, row in enumerate(rows):
        sides = [
            (near, {slot: x for x, slot in enumerate(rows[other])})
            for near, other in ((below[r], r - 1), (above[r], r + 1))
            if near
        ]
        for x in range(len(row) - 1):
            left, right = row[x], row[x + 1]
            saved = 0
            for near, place in sides:
                pairs = [(place[a], place[b]) for a in near.get(left, ()) for b in near.get(right, ())]
                saved += sum(a > b for a, b in pairs) - sum(a < b for a, b in pairs)
            if saved > 0:
                row[x], row[x + 1] = right, left
                swapped = True
    return swapped
