"""The choices of genotypes counted by kind: a report shows them as the search goes on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from nascli.genotype.cells.genotype import require_cells
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.cells.space import CellSpace
from nascli.genotype.drawing.palette import OP_STYLES, state_name
from nascli.genotype.genotype import Genotype

Role = Literal["normal", "reduction"]


@dataclass(frozen=True)
class ChoiceGroup:
    """Decisions of one kind, whose choices are counted together.

    Args:
        name: One word with hyphens, such as `ops-normal`.
        title: For readers, such as `Ops of the normal cell`.
        labels: The choices. (K,)
        uniform: Share of each choice in genotypes that are drawn uniformly. (K,)
        read: The choices that a genotype made, as positions in `labels`.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    uniform: tuple[float, ...]
    read: Callable[[Genotype], Iterable[int]]


def choice_groups(space: CellSpace) -> list[ChoiceGroup]:
    """Ops and inputs of the normal and of the reduction cell; of one cell where it serves as both."""
    roles: tuple[Role, ...] = ("normal", "reduction") if space.cells == "two" else ("normal",)
    return [group for role in roles for group in (_group_ops(space, role), _group_inputs(space, role))]


def _group_ops(space: CellSpace, role: Role) -> ChoiceGroup:
    count = len(space.ops)
    return ChoiceGroup(
        name=f"ops-{role}",
        title=f"Ops of the {_cell_name(space, role)}",
        labels=tuple(OP_STYLES[op].label for op in space.ops),
        uniform=(1 / count,) * count,
        read=lambda genotype: (space.ops.index(op) for block in _cell(genotype, role).blocks for op in block.ops),
    )


def _group_inputs(space: CellSpace, role: Role) -> ChoiceGroup:
    states = range(space.blocks + 1)  # block k chooses among k + 2 states
    return ChoiceGroup(
        name=f"inputs-{role}",
        title=f"Inputs of the {_cell_name(space, role)}",
        labels=tuple(state_name(state) for state in states),
        uniform=tuple(
            sum(1 / (k + 2) for k in range(space.blocks) if state < k + 2) / space.blocks for state in states
        ),
        read=lambda genotype: (state for block in _cell(genotype, role).blocks for state in block.inputs),
    )


def _cell_name(space: CellSpace, role: Role) -> str:
    return f"{role} cell" if space.cells == "two" else "cell"


def _cell(genotype: Genotype, role: Role) -> CellSpec:
    cells = require_cells(genotype, "counting choices")
    return cells.normal if role == "normal" else cells.reduction
