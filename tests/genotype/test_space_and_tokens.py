"""Search spaces, and decision sequences both ways."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import CellSpaceConfig
from nascli.errors import InputError
from nascli.genotype.cells.space import DARTS, ENAS, NASNET, CellSpace, resolve_cell_space
from tests.genotype.genotype_st import SPACES, tokens_of
from tests.published import published_cell


def test_the_papers_space_has_13_ops_50_decisions_and_its_size() -> None:
    assert len(NASNET.ops) == 13
    assert len(NASNET.decision_sizes) == 50
    assert NASNET.decision_sizes[:5] == (2, 2, 13, 13, 2)
    assert NASNET.decision_sizes[20:25] == (6, 6, 13, 13, 2)
    assert prod(NASNET.decision_sizes[:25]) == 720**2 * 13**10 * 2**5


@given(st.data())
def test_tokens_round_trip(data: st.DataObject) -> None:
    space = data.draw(st.sampled_from(SPACES))
    tokens = data.draw(tokens_of(space))
    genotype = space.decode(tokens)
    assert space.encode(genotype) == tokens
    assert genotype.normal.concat == (tuple(range(2, 6)) if space is DARTS else genotype.normal.unused)


def test_published_tokens_of_enas() -> None:
    tokens = ENAS.encode(published_cell("enas"))
    assert tokens[:5] == (0, 0, 2, 0, 0)  # avg pool and sep 3x3, both on h[i-1]
    assert ENAS.decode(tokens).reduction == published_cell("enas").reduction


@pytest.mark.parametrize(
    ("tokens", "phrase"),
    [
        ((0,) * 49, "49 tokens, but space 'nasnet' has 50 decisions"),
        ((2,) + (0,) * 49, "token 0 is 2, but that decision has the choices 0 to 1"),
        ((0,) * 49 + (-1,), "token 49 is -1"),
    ],
)
def test_wrong_tokens_are_refused_by_position(tokens: tuple[int, ...], phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        NASNET.decode(tokens)
    assert phrase in str(caught.value)


@pytest.mark.parametrize(
    ("name", "space", "phrase"),
    [
        ("nasnet-a", NASNET, "normal.concat is [0, 2, 3, 4, 5, 6], but space 'nasnet' would join [2, 3, 4, 5, 6]"),
        ("darts-v1", NASNET, "4 blocks"),
        ("amoebanet-d", NASNET, "'bottleneck_conv_1x7_7x1' is not in space"),
    ],
)
def test_a_genotype_that_tokens_cannot_say_is_refused(name: str, space: CellSpace, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        space.encode(published_cell(name))
    assert phrase in str(caught.value)


def test_a_space_of_ones_own() -> None:
    space = resolve_cell_space(CellSpaceConfig(name="tiny", ops=("identity", "conv_3x3"), blocks=2, concat="all"))
    assert space.decision_sizes == (2, 2, 2, 2, 1, 3, 3, 2, 2, 1) * 2
    assert space.decode((0,) * 20).normal.concat == (2, 3)


@pytest.mark.parametrize(
    ("config", "phrase"),
    [
        (CellSpaceConfig(name="nasnett"), "Did you mean nasnet?"),
        (
            CellSpaceConfig(name="mine", ops=("identity", "sep_conv_3x4")),
            "unknown op 'sep_conv_3x4'. Did you mean sep_conv_3x3?",
        ),
        (CellSpaceConfig(name="mine", ops=("identity", "identity")), "must not repeat"),
        (CellSpaceConfig(name="nasnet", ops=("identity",)), "is taken"),
        (CellSpaceConfig(name="nasnet", blocks=3), "cannot be changed"),
        (CellSpaceConfig(name="mine", ops=()), "space: ops"),
    ],
)
def test_wrong_spaces_are_refused(config: CellSpaceConfig, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_cell_space(config)
    assert phrase in str(caught.value)
