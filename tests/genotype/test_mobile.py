"""Mobile genotypes and their spaces: tokens both ways, canonical form, features, spaces of a user's own, the zoo."""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nascli
from nascli.config import MobileNetworkConfig, MobileSpaceConfig, SearchRecipe, parse
from nascli.errors import InputError
from nascli.genotype.genotype import parse_genotype
from nascli.genotype.mobile.genotype import MobileGenotype, require_mobile
from nascli.genotype.mobile.space import MNASNET, MobileSpace, resolve_mobile_space
from nascli.genotype.resolve import zoo_genotype
from nascli.genotype.space import parse_space, resolve_space
from tests.mobile import mobile_genotypes
from tests.published import MOBILE_NAMES

OWN: dict[str, Any] = {
    "family": "mobile",
    "name": "own",
    "strides": [1, 2],
    "ops": ["depthwise", "mbconv4"],
    "kernels": [7],
    "se": [0, 0.25, 0.5],
    "skips": ["identity", "pool"],
    "filters": [[32, 8], [32, 16, 24]],
    "layers": [[1], [1, 4]],
}


def own_space(**changes: object) -> MobileSpace:
    values = {key: value for key, value in (OWN | changes).items() if value is not None}
    space = resolve_mobile_space(parse(SearchRecipe, {"space": values}, "test").space)
    assert isinstance(space, MobileSpace)
    return space


spaces = st.sampled_from([MNASNET, own_space()])


def tokens_of(space: MobileSpace) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, size - 1) for size in space.decision_sizes))


def published(name: str) -> MobileGenotype:
    return require_mobile(zoo_genotype(name), "the test")


def test_the_space_of_the_paper() -> None:
    assert MNASNET.decision_sizes == (4, 2, 2, 3, 3, 2, *(4, 2, 2, 3, 3, 3) * 5, 4, 2, 2, 3, 3, 2)
    assert MNASNET.decision_kinds == ("op", "kernel", "se", "skip", "filters", "layers") * 7
    assert math.prod(MNASNET.decision_sizes) == 432**5 * 288**2
    assert MNASNET.filters[:4] == ((12, 16, 20), (20, 24, 32), (24, 32, 40), (48, 64, 80))
    assert MNASNET.filters[4:] == ((72, 96, 120), (120, 160, 200), (240, 320, 400))
    assert MNASNET.layers == ((1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (2, 3, 4), (2, 3, 4), (1, 2))
    assert "7 blocks, 42 decisions" in MNASNET.summary()


@given(spaces.flatmap(lambda space: st.tuples(st.just(space), tokens_of(space))))
def test_tokens_come_back_and_equal_networks_have_equal_features(case: tuple[MobileSpace, tuple[int, ...]]) -> None:
    space, tokens = case
    genotype = space.decode(tokens)
    assert space.encode(genotype) == tokens
    canonical = genotype.canonical()
    assert space.decode(space.encode(canonical)).canonical_hash() == genotype.canonical_hash()
    assert space.features(canonical) == space.features(genotype)
    assert parse_genotype(genotype.to_json(), "test") == genotype
    assert parse_space(space.model_dump_json()) == space
    for group in space.choice_groups():
        assert sum(group.uniform) == pytest.approx(1)
        places = list(group.read(genotype))
        assert len(places) == len(space.strides)
        assert all(0 <= place < len(group.labels) for place in places)


@given(mobile_genotypes())
def test_the_canonical_form_is_a_fixed_point_and_only_leaves_out_skips(genotype: MobileGenotype) -> None:
    canonical = genotype.canonical()
    assert canonical.canonical() == canonical
    assert canonical.canonical_hash() == genotype.canonical_hash()
    for before, after in zip(genotype.blocks, canonical.blocks, strict=True):
        assert after in (before, before.model_copy(update={"skip": "none"}))


@given(st.data())
def test_every_choice_that_is_live_changes_hash_and_features(data: st.DataObject) -> None:
    tokens = data.draw(tokens_of(MNASNET))
    place = data.draw(st.integers(0, 41))
    other = (*tokens[:place], (tokens[place] + 1) % MNASNET.decision_sizes[place], *tokens[place + 1 :])
    one, two = MNASNET.decode(tokens), MNASNET.decode(other)
    same = one.canonical().blocks == two.canonical().blocks
    assert (one.canonical_hash() == two.canonical_hash()) == same
    assert (MNASNET.features(one) == MNASNET.features(two)) == same
    assert not same or MNASNET.decision_kinds[place] == "skip"


def test_signs_of_zero_and_names_do_not_count() -> None:
    genotype = published("mnasnet-a1")
    text = genotype.to_json().replace('"se": 0.0', '"se": -0.0').replace("mnasnet-a1", "other")
    assert text.count("-0.0") == 4
    assert parse_genotype(text, "test").canonical_hash() == genotype.canonical_hash()


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("mnasnet-a1", r"blocks\[4\].filters is 112, but space 'mnasnet' has 72, 96, 120"),
        ("mnasnet-b1", r"blocks\[5\].filters is 192"),
        ("mnasnet-small", "stem is 8"),
        ("mnasnet-d1", r"blocks\[0\].op is mbconv9"),
        ("darts-v2", "cells"),
    ],
)
def test_networks_that_tokens_cannot_say_are_refused_with_the_reason(name: str, phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        MNASNET.encode(zoo_genotype(name))


def test_other_chains_are_refused_with_the_reason() -> None:
    network = published("mobilenetv2")
    blocks = list(network.blocks)
    with pytest.raises(InputError, match=r"6 blocks"):
        MNASNET.encode(network.model_copy(update={"blocks": tuple(blocks[:6])}))
    blocks[2] = blocks[2].model_copy(update={"stride": 1})
    with pytest.raises(InputError, match=r"blocks\[2\].stride is 1"):
        MNASNET.encode(network.model_copy(update={"blocks": tuple(blocks)}))


def test_mobilenetv2_lies_in_the_space() -> None:
    network = published("mobilenetv2")
    assert MNASNET.decode(MNASNET.encode(network)).canonical_hash() == network.canonical_hash()


@pytest.mark.parametrize("name", MOBILE_NAMES)
def test_published_networks_are_canonical_and_name_their_source(name: str) -> None:
    network = published(name)
    assert network.name == name
    assert network.canonical() == network
    assert parse_genotype(network.to_json(), "again") == network
    assert len(str(network.provenance["source"])) > 20


def test_a_space_of_ones_own() -> None:
    space = own_space()
    assert space.stem == 32
    assert space.decision_sizes == (2, 1, 3, 2, 2, 1, 2, 1, 3, 2, 3, 2)
    made = own_space(filters=None, base_filters=[16, 18], filter_multipliers=[0.5, 1, 1.05])
    assert made.filters == ((8, 16), (8, 20))
    assert own_space(filters=None, base_filters=[16, 24]).filters == ((12, 16, 20), (20, 24, 32))
    alone = resolve_space(parse(SearchRecipe, {"space": {"family": "mobile", "name": "x", "stem": 16}}, "test").space)
    assert alone == MNASNET.model_copy(update={"name": "x", "stem": 16})


def test_the_name_of_the_space_implies_the_family() -> None:
    recipe = parse(SearchRecipe, {"space": {"name": "mnasnet"}}, "test")
    assert isinstance(recipe.space, MobileSpaceConfig)
    assert isinstance(recipe.network, MobileNetworkConfig)
    assert resolve_space(recipe.space) == MNASNET


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"layers": [[1]]}, "strides has 2, filters has 2, layers has 1"),
        ({"strides": None}, "strides has 7"),
        ({"ops": ["depthwise", "sep_conv"]}, r"ops\[1\]"),
        ({"ops": ["mbconv3", "mbconv3"]}, "ops must not repeat"),
        ({"filters": [[8, 8], [8]]}, r"filters\[0\] must not repeat"),
        ({"filters": [[], [8]]}, r"filters\[0\]"),
        ({"layers": [[1], [13]]}, r"layers\[1\]\[0\]"),
        ({"kernels": [4]}, r"kernels\[0\]"),
        ({"se": [1.5]}, r"se\[0\]"),
        ({"strides": [1, 3]}, r"strides\[1\]"),
        ({"base_filters": [16, 24]}, "filters lists"),
        ({"name": "mnasnet"}, "cannot be changed"),
        ({"name": "nasnet"}, "cannot be changed"),
    ],
)
def test_what_is_no_space_is_refused_with_its_place(changes: dict[str, Any], phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        own_space(**changes)


def test_an_unknown_space_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="mnasnet"):
        resolve_mobile_space(MobileSpaceConfig(name="mnasnt"))


def test_what_the_page_shows_can_be_read() -> None:
    page = (Path(nascli.__file__).parents[1] / "docs" / "mobile.md").read_text(encoding="utf-8")
    (genotype,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert require_mobile(parse_genotype(genotype, "page"), "the test").canonical_hash()
    (recipe,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    space = resolve_space(parse(SearchRecipe, tomllib.loads(recipe), "page").space)
    assert space.decision_sizes == (3, 2, 2, 2, 1, 1, 3, 2, 2, 2, 2, 2, 3, 2, 2, 2, 3, 2)
