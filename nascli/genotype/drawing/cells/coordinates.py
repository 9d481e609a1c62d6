"""The x of every slot: as near to what it is linked with as the order and the widths along its row allow.

Each row in turn is placed best for its neighbors, in the sense of least squares, under its order and least distances:
that is an isotonic regression, solved exactly by pooling adjacent violators. Lanes weigh most, so that long edges run
straight.
"""

from collections.abc import Mapping, Sequence
from math import fsum

from nascli.genotype.drawing.cells.ordering import Link, Rows, Slot

_ROUNDS = 300
_LANE_WEIGHT, _MIXED_WEIGHT, _BLOCK_WEIGHT = 60.0, 3.0, 1.0


def settle(
    rows: Rows, widths: Mapping[Slot, float], entries: Mapping[tuple[int, int], float], *, spacing: float
) -> dict[Slot, float]:
    """The x of every slot's middle.

    Args:
        widths: Width of every slot in pixels; a lane's is its line's.
        entries: For (state, half) of a block, how far right of the block's middle that half is entered.
        spacing: Least distance in pixels between two neighbors in a row.
    """
    places = [_pack(row, widths, spacing) for row in rows.slots]
    x = {
        slot: place
        for row, offsets in zip(rows.slots, places, strict=True)
        for slot, place in zip(row, offsets, strict=True)
    }
    pulls: dict[Slot, list[tuple[Slot, float, float]]] = {slot: [] for slot in x}
    for link in (link for between in rows.links for link in between):
        shift = 0.0 if link.half is None else entries[link.upper.state, link.half]
        weight = _weight(link)
        pulls[link.upper].append((link.lower, -shift, weight))
        pulls[link.lower].append((link.upper, shift, weight))
    order = list(range(len(rows.slots)))
    for _ in range(_ROUNDS):
        for r in (*order, *order[-2::-1]):
            row = rows.slots[r]
            wishes = [_wish(slot, pulls[slot], x) for slot in row]
            x.update(zip(row, _regress_isotonic(wishes, places[r]), strict=True))
    return x


def _pack(row: Sequence[Slot], widths: Mapping[Slot, float], spacing: float) -> list[float]:
    """The middles if the row stood as tight as it may, around 0."""
    middles, right = [], 0.0
    for slot in row:
        middles.append(right + widths[slot] / 2)
        right += widths[slot] + spacing
    return [middle - (right - spacing) / 2 for middle in middles]


def _weight(link: Link) -> float:
    if link.lower.lane and link.upper.lane:
        return _LANE_WEIGHT
    return _MIXED_WEIGHT if link.half is None else _BLOCK_WEIGHT


def _wish(slot: Slot, pulls: Sequence[tuple[Slot, float, float]], x: Mapping[Slot, float]) -> tuple[float, float]:
    """The place of a slot if it were alone, and its weight."""
    total = fsum(weight for _, _, weight in pulls)  # `sum` rounds otherwise from Python 3.12 on
    if not total:
        return x[slot], 0.01
    return fsum((x[other] + shift) * weight for other, shift, weight in pulls) / total, total


def _regress_isotonic(wishes: Sequence[tuple[float, float]], packed: Sequence[float]) -> list[float]:
    """The x nearest to the wishes that keep at least the distances of `packed`."""
    pools: list[tuple[float, float, int]] = []  # mean shift against `packed`, weight, members
    for (wish, weight), place in zip(wishes, packed, strict=True):
        shift, members = wish - place, 1
        while pools and pools[-1][0] > shift:
            before, its_weight, its_members = pools.pop()
            shift = (before * its_weight + shift * weight) / (its_weight + weight)
            weight += its_weight
            members += its_members
        pools.append((shift, weight, members))
    shifts = [shift for shift, _, members in pools for _ in range(members)]
    return [place + shift for place, shift in zip(packed, shifts, strict=True)]
