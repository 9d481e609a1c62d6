"""Hypothesis strategies for genotypes."""

from hypothesis import strategies as st

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec, find_unused_states
from nascli.genotype.cells.space import DARTS, ENAS, NASNET, CellSpace

SPACES = (NASNET, ENAS, DARTS)


def tokens_of(space: CellSpace) -> st.SearchStrategy[tuple[int, ...]]:
    """Valid decision sequences of a space."""
    return st.tuples(*(st.integers(0, size - 1) for size in space.decision_sizes))


@st.composite
def genotypes(draw: st.DrawFn, spaces: tuple[CellSpace, ...] = SPACES) -> CellGenotype:
    """Genotypes of any of the spaces."""
    space = draw(st.sampled_from(spaces))
    return space.decode(draw(tokens_of(space)))


@st.composite
def cells_of_few_kinds(draw: st.DrawFn, most: int = 4) -> CellSpec:
    """Cells of up to `most` blocks, all of them live and many of them equal."""
    ops = st.sampled_from(("conv_1x1", "identity"))
    blocks: list[Block] = []
    for k in range(draw(st.integers(2, most))):
        state = st.integers(0, k + 1) if draw(st.booleans()) else st.integers(0, 1)
        op = draw(ops)
        blocks.append(Block(inputs=(draw(state), draw(state)), ops=(op, draw(ops) if draw(st.booleans()) else op)))
    return CellSpec(blocks=tuple(blocks), concat=find_unused_states(blocks))
