"""Spaces of chains of single layers: NAS-Bench-Macro's tokens, equal chains, published sizes."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.errors import InputError
from nascli.genotype.genotype import parse_genotype
from nascli.genotype.mobile.layer_space import NAS_BENCH_MACRO as SPACE
from nascli.genotype.mobile.layer_space import LayerChoice, LayerSpace
from nascli.genotype.notations import write_notation
from nascli.genotype.resolve import zoo_genotype
from nascli.genotype.space import CoversLayers, find_space, parse_space
from nascli.models.cost import measure_cost
from nascli.models.families import build_network

TOKENS = st.tuples(*[st.integers(0, 2)] * 8)


def tokens_of(digits: str) -> list[int]:
    return [int(digit) for digit in digits]


@given(TOKENS)
def test_tokens_give_a_chain_that_gives_equal_tokens(tokens: tuple[int, ...]) -> None:
    genotype = SPACE.decode(tokens)
    again = SPACE.decode(SPACE.encode(genotype))
    assert again.canonical_hash() == genotype.canonical_hash()
    assert SPACE.encode(again) == SPACE.encode(genotype)
    assert parse_genotype(genotype.to_json(), "text") == genotype
    assert SPACE.features(again) == SPACE.features(genotype) == SPACE.features(genotype.canonical())
    (group,) = SPACE.choice_groups()
    assert sorted(group.read(genotype)) == sorted(tokens)


def test_of_all_chains_3969_differ() -> None:
    """Identities in a stage may stand in any place but the first, so that 3 (3 * 2 + ... + 1) chains of it differ."""
    hashes = {SPACE.decode(tokens).canonical_hash() for tokens in product(range(3), repeat=8)}
    assert len(hashes) == (3 * 3) * (3 * 7) * (3 * 7) == 3969
    assert SPACE.encode(SPACE.decode(tokens_of("10102021"))) == tuple(tokens_of("10120021"))


@pytest.mark.parametrize(
    ("digits", "params", "mult_adds"),
    [  # as the benchmark has them
        ("00000000", 387_882, 7_713_280),
        ("22212202", 1_985_514, 85_164_544),
        ("22222222", 2_932_586, 105_660_928),
        ("00000001", 791_594, 14_115_328),
    ],
)
def test_networks_have_the_published_sizes(digits: str, params: int, mult_adds: int) -> None:
    with torch.device("meta"):
        network = build_network(SPACE.decode(tokens_of(digits)), "nas-bench-macro")
    cost = measure_cost(network)
    assert (cost.params, cost.mult_adds) == (params, mult_adds)


def test_the_identity_at_a_stride_is_linear() -> None:
    network = build_network(SPACE.decode(tokens_of("00000000")), "nas-bench-macro", width=0.25).eval()
    maps = network.features(torch.randn(2, 3, 32, 32))
    assert [tuple(each.shape[1:]) for each in maps.values()] == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert all(each.min() < 0 for name, each in maps.items() if name != "stem")


def test_what_is_not_in_the_space_is_refused() -> None:
    with pytest.raises(InputError, match="none of the layers"):
        SPACE.encode(zoo_genotype("mobilenetv2"))
    genotype = SPACE.decode(tokens_of("11111111"))
    for blocks in ((*genotype.blocks[:-1], genotype.blocks[0]), genotype.blocks[1:], genotype.blocks * 2):
        with pytest.raises(InputError, match=r"blocks\[\d\]|its end"):
            SPACE.encode(genotype.model_copy(update={"blocks": blocks}))
    with pytest.raises(InputError, match="mobile blocks"):
        SPACE.encode(zoo_genotype("nasnet-a"))
    with pytest.raises(InputError, match="linear"):
        write_notation(SPACE.decode(tokens_of("01111111")), "timm")
    flat = LayerSpace(
        name="flat", stem=8, strides=(1, 1), filters=(8, 8), choices=(None, LayerChoice(op="conv", kernel=3))
    )
    with pytest.raises(InputError, match="no layer"):
        flat.decode([0, 0])
    assert [len(each.blocks) for each in flat.cover_layers()] == [2]


def test_it_is_one_of_the_spaces_of_mobile_networks() -> None:
    assert find_space("nas-bench-macro") == SPACE == parse_space(SPACE.model_dump_json())
    assert isinstance(SPACE, CoversLayers)
    assert find_space("mnasnet") == parse_space(find_space("mnasnet").model_dump_json())
