"""Search spaces of cells, and their decisions: a genotype as a sequence of tokens, and back.

Five decisions per block, in the order the controller makes them (paper, section 3): first input, second input,
op on the first, op on the second, combination; B blocks of the normal cell, then B of the reduction cell (none in a
space where one cell serves as both). Where a block's inputs are distinct, the second counts among the states that are
left, so that every sequence stands for a cell.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nascli.config import CellSpaceConfig, SpaceConfig, Strict, explain, suggestion
from nascli.errors import InputError
from nascli.genotype.cells.features import cell_features
from nascli.genotype.cells.genotype import CellGenotype, require_cells
from nascli.genotype.cells.op_info import NASNET_OPS, OP_INFO
from nascli.genotype.cells.schema import MAX_BLOCKS, Block, CellSpec, Combine, find_unused_states
from nascli.genotype.drawing.cells.palette import state_name
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.space import ChoiceGroup, check_tokens
from nascli.units import count_of, shorten

_Role = Literal["normal", "reduction"]


class CellSpace(Strict):
    """A named choice of ops, blocks a cell, and combinations.

    `concat` is the rule that gives a decoded cell its output: `unused` joins the block outputs that no block
    reads (paper, section 3), `all` joins every block output (DARTS).

    `inputs` is `distinct` where the two ops of a block read two distinct states. `cells` is `one` where a single
    cell serves as normal and as reduction cell (as in PNASNet-5): half the decisions.
    """

    family: ClassVar[str] = "cells"
    name: str
    ops: tuple[str, ...] = Field(min_length=1)
    blocks: int = Field(ge=1, le=MAX_BLOCKS)
    combines: tuple[Combine, ...] = ("add",)
    concat: Literal["unused", "all"] = "unused"
    inputs: Literal["any", "distinct"] = "any"
    cells: Literal["two", "one"] = "two"

    @model_validator(mode="after")
    def _known(self) -> Self:
        for op in self.ops:
            if op not in OP_INFO:
                raise ValueError(f"unknown op {shorten(op)!r}. {suggestion(op, OP_INFO)}")
        if len(set(self.ops)) != len(self.ops) or len(set(self.combines)) != len(self.combines):
            raise ValueError("ops and combines must not repeat")
        return self

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Number of choices of each decision, in order: five per block, the normal cell's blocks first."""
        seconds = 1 if self.inputs == "distinct" else 0  # one state is taken by the first op
        cell = [
            size
            for k in range(self.blocks)
            for size in (k + 2, k + 2 - seconds, len(self.ops), len(self.ops), len(self.combines))
        ]
        return tuple(cell * (1 if self.cells == "one" else 2))

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """One word for each decision, parallel to `decision_sizes`."""
        return ("input", "input", "op", "op", "combine") * (len(self.decision_sizes) // 5)

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> CellGenotype:
        """The genotype that a decision sequence stands for.

        Args:
            tokens: As many integers as `decision_sizes` has; token t is in [0, `decision_sizes[t]`).

        Raises:
            InputError: A wrong number of tokens, or one out of its range.
        """
        check_tokens(
            tokens, self, f"Five for each of {self.blocks} blocks{', normal cell first' * (self.cells == 'two')}"
        )
        length = 5 * self.blocks
        normal = _decode_cell(tokens[:length], self)
        return CellGenotype(
            name=name,
            space=self.name,
            normal=normal,
            reduction=normal if self.cells == "one" else _decode_cell(tokens[length:], self),
            provenance=dict(provenance or {}),
        )

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decision sequence of a genotype; `decode` gives the same cells back.

        Raises:
            InputError: Tokens of this space cannot express the genotype: another family, other ops, another number of
                blocks, an input twice, two different cells, or a concat that the space's rule does not give (as in the
                published NASNet-A, whose concat departs from the paper's rule).
        """
        genotype = require_cells(genotype, f"space {self.name!r}")
        if self.cells == "one":
            if genotype.normal != genotype.reduction:
                raise InputError(
                    f"normal and reduction cell differ, but in space {self.name!r} one cell serves as both"
                )
            return _encode_cell(genotype.normal, self, "normal")
        return _encode_cell(genotype.normal, self, "normal") + _encode_cell(genotype.reduction, self, "reduction")

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """The path encoding of both cells; of one, where they are equal."""
        genotype = require_cells(genotype, f"space {self.name!r}")
        cells = {"normal": genotype.normal, "reduction": genotype.reduction}
        if genotype.normal == genotype.reduction:
            del cells["reduction"]
        return {(role, *feature): n for role, cell in cells.items() for feature, n in cell_features(cell).items()}

    def choice_groups(self) -> list[ChoiceGroup]:
        """Ops and inputs of the normal and of the reduction cell; of one cell where it serves as both."""
        roles: tuple[_Role, ...] = ("normal", "reduction") if self.cells == "two" else ("normal",)
        return [group for role in roles for group in _group_choices(self, role)]

    def summary(self) -> str:
        """The size of the space in words."""
        shared = ", one cell as normal and reduction cell" if self.cells == "one" else ""
        return f"{count_of(self.blocks, 'block')}, {count_of(len(self.ops), 'op')}{shared}"

    def cell(self, blocks: tuple[Block, ...]) -> CellSpec:
        """A cell of these blocks, its output by this space's rule."""
        return CellSpec(blocks=blocks, concat=self.find_joined_states(blocks))

    def find_joined_states(self, blocks: tuple[Block, ...]) -> tuple[int, ...]:
        """The states that this space's rule joins to the output of a cell."""
        return tuple(range(2, len(blocks) + 2)) if self.concat == "all" else find_unused_states(blocks)


NASNET = CellSpace(name="nasnet", ops=NASNET_OPS, blocks=5, combines=("add", "concat"))
"""Zoph et al. 2018, section 3."""

ENAS = CellSpace(
    name="enas", ops=("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity"), blocks=5
)
"""Pham et al. 2018, micro search; the ops in its code's order."""

DARTS = CellSpace(
    name="darts",
    ops=(
        "max_pool_3x3",
        "avg_pool_3x3",
        "identity",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_sep_conv_3x3",
        "dil_sep_conv_5x5",
    ),
    blocks=4,
    concat="all",
)
"""Liu et al. 2019, without the zero op; a block may read one state twice, which DARTS itself never derives."""

SPACES = {space.name: space for space in (NASNET, ENAS, DARTS)}


def resolve_cell_space(config: SpaceConfig) -> CellSpace:
    """The space that a recipe names, or the user's own that it spells out.

    Raises:
        InputError: The name is unknown and no ops are given, an op is unknown, or it is no space of cells.
    """
    if not isinstance(config, CellSpaceConfig):
        raise InputError(f"space {config.name!r} is no space of cells")
    if config.ops is None:
        if config.name not in SPACES:
            near = suggestion(config.name, SPACES).rstrip(".")
            raise InputError(
                f"space.name = {config.name!r}: unknown search space",
                f"{near}. For a space of your own give space.ops and space.blocks",
            )
        base = SPACES[config.name]
    else:
        if config.name in SPACES:
            raise InputError(f"space.name = {config.name!r} is taken", "Give your own space another name")
        base = CellSpace(name=config.name, ops=("identity",), blocks=5)
    given = config.model_dump(exclude_none=True)
    try:
        space = CellSpace.model_validate(base.model_dump() | given)
    except ValidationError as error:
        raise explain(error, "space", CellSpace) from error
    if space != base and config.name in SPACES:
        raise InputError(
            f"space {config.name!r} cannot be changed",
            "Give space.name a name of your own and list space.ops",
        )
    return space


def _decode_cell(tokens: Sequence[int], space: CellSpace) -> CellSpec:
    blocks = []
    for k in range(space.blocks):
        first, second, first_op, second_op, combine = tokens[5 * k : 5 * k + 5]
        if space.inputs == "distinct" and second >= first:
            second += 1
        blocks.append(
            Block(
                inputs=(first, second),
                ops=(space.ops[first_op], space.ops[second_op]),
                combine=space.combines[combine],
            )
        )
    return space.cell(tuple(blocks))


def _encode_cell(cell: CellSpec, space: CellSpace, role: str) -> tuple[int, ...]:
    if len(cell.blocks) != space.blocks:
        raise InputError(
            f"the {role} cell has {count_of(len(cell.blocks), 'block')}, space {space.name!r} has {space.blocks}"
        )
    tokens: list[int] = []
    for k, block in enumerate(cell.blocks):
        for op in block.ops:
            if op not in space.ops:
                raise InputError(f"{role}.blocks[{k}]: op {op!r} is not in space {space.name!r}")
        if block.combine not in space.combines:
            raise InputError(f"{role}.blocks[{k}]: combine {block.combine!r} is not in space {space.name!r}")
        tokens += [
            *_encode_inputs(block, space, f"{role}.blocks[{k}]"),
            *(space.ops.index(op) for op in block.ops),
            space.combines.index(block.combine),
        ]
    joined = space.find_joined_states(cell.blocks)
    if joined != cell.concat:
        raise InputError(
            f"{role}.concat is {list(cell.concat)}, but space {space.name!r} would join {list(joined)}",
            "Tokens cannot say another concat; pass the genotype JSON on instead",
        )
    return tuple(tokens)


def _encode_inputs(block: Block, space: CellSpace, where: str) -> tuple[int, int]:
    first, second = block.inputs
    if space.inputs == "any":
        return first, second
    if first == second:
        raise InputError(f"{where} reads state {first} twice, but the inputs of space {space.name!r} are distinct")
    return first, second - (second > first)


def _group_choices(space: CellSpace, role: _Role) -> tuple[ChoiceGroup, ChoiceGroup]:
    """Ops and inputs of a cell."""
    caption = f"{role} cell" if space.cells == "two" else "cell"
    count, states = len(space.ops), range(space.blocks + 1)  # block k chooses among k + 2 states

    def blocks(genotype: Genotype) -> tuple[Block, ...]:
        cells = require_cells(genotype, "counting choices")
        return (cells.normal if role == "normal" else cells.reduction).blocks

    ops = ChoiceGroup(
        name=f"ops-{role}",
        title=f"Ops of the {caption}",
        labels=tuple(OP_INFO[op].label for op in space.ops),
        uniform=(1 / count,) * count,
        read=lambda genotype: (space.ops.index(op) for block in blocks(genotype) for op in block.ops),
    )
    inputs = ChoiceGroup(
        name=f"inputs-{role}",
        title=f"Inputs of the {caption}",
        labels=tuple(map(state_name, states)),
        uniform=tuple(
            sum(1 / (k + 2) for k in range(space.blocks) if state < k + 2) / space.blocks for state in states
        ),
        read=lambda genotype: (state for block in blocks(genotype) for state in block.inputs),
    )
    return ops, inputs
