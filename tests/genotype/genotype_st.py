"""Hypothesis strategies for genotypes."""

from hypothesis import strategies as st

from nascli.genotype.cells.genotype import CellGenotype
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
