"""Cells with ops on their edges: strings, tokens, what is the same cell, drawings."""

from collections import Counter
from itertools import permutations, product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import SearchRecipe, parse
from nascli.errors import InputError
from nascli.genotype.drawing import FORMATS, draw_genotype, genotype_svg, genotype_tree
from nascli.genotype.edges.formula import OPS, spell_formula
from nascli.genotype.edges.genotype import EdgeGenotype
from nascli.genotype.edges.op_info import OP_INFO
from nascli.genotype.edges.space import DECISIONS, NAS_BENCH_201, EdgeSpace
from nascli.genotype.genotype import parse_genotype
from nascli.genotype.notations import read_notation, recognize, write_notation
from nascli.genotype.resolve import zoo_genotype
from nascli.genotype.space import find_space, parse_space, resolve_space

TOKENS = st.tuples(*[st.integers(0, 4)] * 6)
STRING = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def cell(string: str) -> EdgeGenotype:
    genotype = read_notation(string, "nas-bench-201")
    assert isinstance(genotype, EdgeGenotype)
    return genotype


def short(text: str) -> EdgeGenotype:
    """A cell of six letters, for 0→1, 0→2, 1→2, 0→3, 1→3, 2→3."""
    ops = [dict(zip("ns13a", OPS, strict=True))[letter] for letter in text]
    return EdgeGenotype.model_validate({"name": text, "space": "x", "nodes": [ops[:1], ops[1:3], ops[3:]]})


def swap(genotype: EdgeGenotype) -> EdgeGenotype:
    """The cell with nodes 1 and 2 exchanged, which no edge joins."""
    ((a,), (b, joined), (c, d, e)) = genotype.nodes
    assert joined == "none"
    return genotype.model_copy(update={"nodes": ((b,), (a, "none"), (c, e, d))})


@given(TOKENS)
def test_tokens_strings_and_json_go_there_and_back(tokens: tuple[int, ...]) -> None:
    genotype = NAS_BENCH_201.decode(tokens, name="decoded", provenance={"source": "NAS-Bench-201 notation"})
    assert NAS_BENCH_201.encode(genotype) == tokens
    assert parse_genotype(genotype.to_json(), "text") == genotype
    string = write_notation(genotype, "nas-bench-201")
    assert recognize(string) == ["nas-bench-201"]
    assert read_notation(string, "nas-bench-201") == genotype
    for (source, target), token in zip(DECISIONS, tokens, strict=True):
        assert f"{NAS_BENCH_201.ops[token]}~{source}|" in string.split("+")[target - 1]


@given(TOKENS)
def test_the_canonical_form_is_one_spelling_with_the_same_features(tokens: tuple[int, ...]) -> None:
    genotype = NAS_BENCH_201.decode(tokens)
    canonical = genotype.canonical()
    assert canonical.canonical_hash() == genotype.canonical_hash()
    assert canonical.canonical() == canonical
    assert NAS_BENCH_201.features(canonical) == NAS_BENCH_201.features(genotype)
    if genotype.nodes[1][1] == "none":
        assert swap(genotype).canonical_hash() == genotype.canonical_hash()


def test_of_all_cells_5260_differ() -> None:
    """By brute force: in cells without skips and pools, exactly those that renumbered nodes turn into each other."""
    assert len({spell_formula(short("".join(ops)).nodes) for ops in product("ns13a", repeat=6)}) == 5260

    def renumbered(ops: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
        genotype = short("".join(ops))
        kept = {edge: genotype.nodes[edge[1] - 1][edge[0]] for edge in genotype.live}
        found = set()
        for order in permutations((1, 2)):
            names = {0: 0, 1: order[0], 2: order[1], 3: 3}
            edges = {(names[source], names[target]): op for (source, target), op in kept.items()}
            found.add(tuple(edges.get(edge, "none") for edge in [*DECISIONS, (2, 1)]))
        return frozenset(found)

    cells = list(product("n13", repeat=6))
    classes = Counter(spell_formula(short("".join(ops)).nodes) for ops in cells)
    assert sorted(classes.values()) == sorted(Counter(map(renumbered, cells)).values())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3nnn3n", "n3nnn3", True),  # other numbers
        ("3nsn3n", "3nnn3n", True),  # an edge that leads nowhere
        ("n3nn3n", "nnnnnn", True),  # one that gets nothing, and one that leads nowhere
        ("snn3nn", "nnn3nn", True),
        ("3nsnn1", "3nnn1n", True),  # a node that skip hands on
        ("3ssnns", "3nnssn", True),  # a sum that skip hands on
        ("3nnn33", "3nnn3n", True),  # nothing reaches node 2
        ("3nsn33", "33nn33", False),  # both read one convolution, or each another
        ("anan3n", "aana3n", False),
        ("asn3a3", "assna3", False),
        ("aansnn", "nnnsnn", True),
        ("aannss", "annnsn", False),  # a pool twice is not a pool once
        ("3nnn3n", "3nnn1n", False),
    ],
)
def test_what_is_the_same_cell(one: str, other: str, same: bool) -> None:
    assert (short(one).canonical_hash() == short(other).canonical_hash()) is same


def test_a_string_is_read_in_any_order_and_refused_by_the_node_that_is_wrong() -> None:
    turned = "|nor_conv_3x3~0|+|avg_pool_3x3~1|nor_conv_3x3~0|+|skip_connect~2|skip_connect~0|nor_conv_3x3~1|"
    assert cell(turned).nodes == cell(STRING).nodes
    for wrong, said in [
        ("|none~0|+|none~0|none~1|", "it has 2"),
        (STRING.replace("avg_pool_3x3~1", "avg_pool_3x3~0"), "node 2"),
        (STRING.replace("avg_pool_3x3", "max_pool_3x3"), "max_pool_3x3"),
    ]:
        with pytest.raises(InputError, match=said):
            cell(wrong)
    with pytest.raises(InputError, match="edges"):
        write_notation(zoo_genotype("nasnet-a"), "nas-bench-201")


def test_a_space_of_ones_own_has_its_ops_alone() -> None:
    values = {"space": {"family": "edges", "name": "small", "ops": ["none", "nor_conv_3x3"]}}
    space = resolve_space(parse(SearchRecipe, values, "test").space)
    assert space.decision_sizes == (2,) * 6
    assert parse_space(space.model_dump_json()) == space
    with pytest.raises(InputError, match=r"nodes\[2\]\[0\] is skip_connect"):
        space.encode(cell(STRING))
    for wrong, said in [
        ({"name": "nas-bench-201", "ops": ["none"]}, "cannot be changed"),
        ({"family": "edges", "name": "nas-bench-202"}, "unknown"),
        ({"family": "edges", "name": "odd", "ops": ["sep_conv_3x3"]}, "ops"),
        ({"family": "edges", "name": "odd", "ops": ["none", "none"]}, "repeat"),
    ]:
        with pytest.raises(InputError, match=said):
            resolve_space(parse(SearchRecipe, {"space": wrong}, "test").space)


def test_reports_count_the_ops() -> None:
    (group,) = NAS_BENCH_201.choice_groups()
    assert Counter(group.labels[place] for place in group.read(cell(STRING))) == {
        "conv 3×3": 3,
        "skip": 2,
        "avg 3×3": 1,
    }
    assert find_space("nas-bench-201") == NAS_BENCH_201
    assert isinstance(NAS_BENCH_201, EdgeSpace)
    assert set(OP_INFO) == set(OPS)


@given(TOKENS)
def test_a_drawing_shows_every_edge_that_carries_something(tokens: tuple[int, ...]) -> None:
    genotype = NAS_BENCH_201.decode(tokens)
    words = [text.text or "" for text in ElementTree.fromstring(genotype_svg(genotype)).iter() if text.text]
    for op, info in OP_INFO.items():
        drawn = 0 if op == "none" else sum(ops.count(op) for ops in genotype.nodes)
        assert words.count(info.label) == drawn
    dead = {edge for edge in DECISIONS if genotype.nodes[edge[1] - 1][edge[0]] != "none"} - genotype.live
    assert ("changes nothing" in words) is bool(dead)
    (branch,) = genotype_tree(genotype)
    assert sum(line.plain.count("(dead)") for line in branch.lines) == len(dead)


def test_every_format_is_written(tmp_path: Path) -> None:
    for suffix in FORMATS:
        draw_genotype(cell(STRING), tmp_path / f"cell{suffix}")
    assert "node_1 -> edge_1_3" in (tmp_path / "cell.dot").read_text(encoding="utf-8")
