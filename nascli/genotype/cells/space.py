"""Search spaces: all genotypes that a search may propose."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nascli.config import SpaceConfig, explain, suggestion
from nascli.errors import InputError
from nascli.genotype.cells.schema import MAX_BLOCKS, NASNET_OPS, OP_NAMES, Block, CellSpec, Combine


class SearchSpace(BaseModel):
    """A named choice of ops, blocks a cell, and combinations.

    `concat` is the rule that gives a decoded cell its output: `unused` joins the block outputs that no block
    reads (paper, section 3), `all` joins every block output (DARTS).

    `inputs` is `distinct` where the two halves of a block read two distinct states. `cells` is `one` where a single
    cell serves as normal and as reduction cell (as in PNASNet-5): half the decisions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            if op not in OP_NAMES:
                raise ValueError(f"unknown op {op!r}. {suggestion(op, OP_NAMES)}")
        if len(set(self.ops)) != len(self.ops) or len(set(self.combines)) != len(self.combines):
            raise ValueError("ops and combines must not repeat")
        return self

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """How many choices each decision has, in order: five a block, the normal cell's blocks first."""
        seconds = 1 if self.inputs == "distinct" else 0  # one state is taken by the first half
        cell = [
            size
            for k in range(self.blocks)
            for size in (k + 2, k + 2 - seconds, len(self.ops), len(self.ops), len(self.combines))
        ]
        return tuple(cell * (1 if self.cells == "one" else 2))

    def cell(self, blocks: tuple[Block, ...]) -> CellSpec:
        """A cell of these blocks, its output by this space's rule."""
        every = tuple(range(2, len(blocks) + 2))
        cell = CellSpec(blocks=blocks, concat=every)
        return cell if self.concat == "all" else CellSpec(blocks=blocks, concat=cell.unused)


NASNET = SearchSpace(name="nasnet", ops=NASNET_OPS, blocks=5, combines=("add", "concat"))
"""Zoph et al. 2018, section 3."""

ENAS = SearchSpace(
    name="enas", ops=("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity"), blocks=5
)
"""Pham et al. 2018, micro search; the ops in its code's order."""

DARTS = SearchSpace(
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


def resolve_space(config: SpaceConfig) -> SearchSpace:
    """The space that a recipe names, or the user's own that it spells out.

    Raises:
        InputError: The name is unknown and no ops are given, or an op is unknown.
    """
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
        base = SearchSpace(name=config.name, ops=("identity",), blocks=5)
    given = config.model_dump(exclude_none=True)
    try:
        space = SearchSpace.model_validate(base.model_dump() | given)
    except ValidationError as error:
        raise explain(error, "space", SearchSpace) from error
    if space != base and config.name in SPACES:
        raise InputError(
            f"space {config.name!r} cannot be changed",
            "Give space.name a name of your own and list space.ops",
        )
    return space
