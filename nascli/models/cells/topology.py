"""The stack of cells of a network: their order, and which outputs each of them reads.

Outputs are numbered in the order they are made: the stem's is 0, that of the cell at position p is p + 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec
from nascli.models.cells.cell import PrevPrevSize
from nascli.models.cells.spec import CellNetworkSpec

STAGES = ("stage1", "stage2", "stage3")


@dataclass(frozen=True)
class CellSlot:
    """One place in the stack; the cell at position p reads output p as h[i] and output `prev_prev` as h[i-1].

    `stage` is 1 to 3, 0 for the two stem cells of ImageNet; `log2_stride` counts the reductions before and in this
    cell.
    """

    role: Literal["normal", "reduction"]
    stage: int
    filters: int
    prev_prev: int
    prev_prev_size: PrevPrevSize
    log2_stride: int

    def cell(self, genotype: CellGenotype) -> CellSpec:
        """The cell of a genotype that plays this role."""
        return genotype.normal if self.role == "normal" else genotype.reduction


def list_slots(spec: CellNetworkSpec) -> Iterator[CellSlot]:
    """The cells in order, the idle ones too."""
    strides = [0]  # log2 of the stride of every output so far

    def slot(role: Literal["normal", "reduction"], stage: int, filters: int, prev_prev: int) -> CellSlot:
        newest = len(strides) - 1
        size: PrevPrevSize = "stem" if newest == 0 else "double" if strides[prev_prev] < strides[newest] else "same"
        strides.append(strides[newest] + (role == "reduction"))
        return CellSlot(role, stage, filters, prev_prev, size, strides[-1])

    def two_back() -> int:
        return max(len(strides) - 2, 0)

    if spec.stem == "imagenet":
        yield slot("reduction", 0, max(1, spec.filters // 4), 0)
        yield slot("reduction", 0, max(1, spec.filters // 2), 0)
    for stage in range(1, 4):
        filters = spec.filters * 2 ** (stage - 1)
        before = two_back()
        if stage > 1:
            yield slot("reduction", stage, filters, before)
        instead = stage > 1 and spec.reduction_placement == "in_place"
        for k in range(spec.cells_per_stage - instead):
            skips = k == 0 and stage > 1 and spec.skip_reduction_input
            yield slot("normal", stage, filters, before if skips else two_back())


def find_live_cells(slots: tuple[CellSlot, ...], genotype: CellGenotype) -> set[int]:
    """Positions of the cells that the last cell depends on, itself included."""
    needed: set[int] = set()
    waiting = [len(slots)]  # outputs
    while waiting:
        position = waiting.pop() - 1
        if position >= 0 and position not in needed:
            needed.add(position)
            waiting += _reads(slots, position, genotype)
    return needed


def _reads(slots: tuple[CellSlot, ...], position: int, genotype: CellGenotype) -> list[int]:
    """The outputs that a cell reads: h[i-1], h[i], or one of them."""
    live = slots[position].cell(genotype).live
    return ([slots[position].prev_prev] if 0 in live else []) + ([position] if 1 in live else [])


def find_stage_start(slots: tuple[CellSlot, ...], stage: str) -> int:
    """The position of the first cell of `stage2` or `stage3`: its reduction cell."""
    wanted = slots[-1].log2_stride - STAGES[::-1].index(stage)
    return next(k for k, slot in enumerate(slots) if slot.log2_stride == wanted)


def find_stage_inputs(
    slots: tuple[CellSlot, ...], built: Sequence[int], genotype: CellGenotype, stage: str
) -> list[int]:
    """The outputs before a stage that its cells, or later ones, read, in order."""
    start = find_stage_start(slots, stage)
    read = {output for k in built if k >= start for output in _reads(slots, k, genotype)}
    return sorted(output for output in read if output <= start)
