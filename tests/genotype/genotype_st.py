"""Hypothesis strategies for genotypes."""

from hypothesis import strategies as st

from nascli.genotype.cells.encoding import decode_tokens
from nascli.genotype.cells.schema import Genotype
from nascli.genotype.cells.space import DARTS, ENAS, NASNET, SearchSpace

SPACES = (NASNET, ENAS, DARTS)


def tokens_of(space: SearchSpace) -> st.SearchStrategy[tuple[int, ...]]:
    """Valid decision sequences of a space."""
    return st.tuples(*(st.integers(0, size - 1) for size in space.decision_sizes))


@st.composite
def genotypes(draw: st.DrawFn, spaces: tuple[SearchSpace, ...] = SPACES) -> Genotype:
    """Genotypes of any of the spaces."""
    space = draw(st.sampled_from(spaces))
    return decode_tokens(draw(tokens_of(space)), space)
