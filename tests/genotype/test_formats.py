"""Other tools' notations: published cells as they were published, both ways, and what cannot be said."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nascli.errors import InputError
from nascli.genotype import notations
from nascli.genotype.cells.formats import NOTATIONS
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.cells.space import DARTS, ENAS
from nascli.genotype.notations import find_notation, recognize, write_notation
from tests.genotype.genotype_st import genotypes
from tests.published import CELL_NAMES, as_cells, published_cell

DARTS_V2 = """DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"""
GDAS_V1 = """GDAS_V1 = Genotype(
  normal=[
    (('skip_connect', 0), ('skip_connect', 1)), # step 1 ;)
    (('skip_connect', 0), ('sep_conv_5x5', 2)),
    (('sep_conv_3x3', 3), ('skip_connect', 0)),
    (('sep_conv_5x5', 4), ('sep_conv_3x3', 3))],
  normal_concat=[2, 3, 4, 5],
  reduce=[
    (('sep_conv_5x5', 0), ('sep_conv_3x3', 1)),
    (('sep_conv_5x5', 2), ('sep_conv_5x5', 1)),
    (('dil_conv_5x5', 2), ('sep_conv_3x3', 1)),
    (('sep_conv_5x5', 0), ('sep_conv_5x5', 1))],
  reduce_concat=range(2, 6),
  connectN=None, connects=None
)"""
ENAS_ARC = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
NASNET_A = """
class Normal(Base):
  def __init__(self):
    operations = ['separable_5x5_2', 'separable_3x3_2', 'separable_5x5_2', 'separable_3x3_2', 'avg_pool_3x3',
                  'none', 'avg_pool_3x3', 'avg_pool_3x3', 'separable_3x3_2', 'none']
    used_hiddenstates = [1, 0, 0, 0, 0, 0, 0]
    hiddenstate_indices = [0, 1, 1, 1, 0, 1, 1, 1, 0, 0]
    super().__init__(operations, used_hiddenstates, hiddenstate_indices)

class Reduction(Base):
  def __init__(self):
    operations = ['separable_5x5_2', 'separable_7x7_2', 'max_pool_3x3', 'separable_7x7_2', 'avg_pool_3x3',
                  'separable_5x5_2', 'none', 'avg_pool_3x3', 'separable_3x3_2', 'max_pool_3x3']
    used_hiddenstates = [1, 1, 1, 0, 0, 0, 0]
    hiddenstate_indices = [0, 1, 0, 1, 0, 1, 3, 2, 2, 0]
"""
NAONET_A = "0 7 1 15 2 8 1 7 0 6 1 7 0 8 4 7 1 5 0 7 0 7 1 13 0 6 0 14 0 9 1 10 0 14 2 6 1 11 0 7"
NAONET_B = "0 1 0 2 0 1 2 2 1 3 0 2 4 0 1 3 2 1 0 3 1 1 1 0 2 1 2 4 1 0 2 3 3 1 2 2 0 2 0 2"
NNI_DARTS_V2 = {
    f"{cell}/{key}_{state}_{half}": value
    for cell, blocks in {
        "normal": "sep_conv_3x3 0 sep_conv_3x3 1, sep_conv_3x3 0 sep_conv_3x3 1, sep_conv_3x3 1 skip_connect 0, "
        "skip_connect 0 dil_conv_3x3 2",
        "reduce": "max_pool_3x3 0 max_pool_3x3 1, skip_connect 2 max_pool_3x3 1, max_pool_3x3 0 skip_connect 2, "
        "skip_connect 2 max_pool_3x3 1",
    }.items()
    for state, block in enumerate(blocks.split(", "), start=2)
    for half in (0, 1)
    for key, value in (("op", block.split()[2 * half]), ("input", int(block.split()[2 * half + 1])))
}

CHOSEN = {
    "normal": "sepconv3x3 0 sepconv3x3 1, sepconv3x3 0 sepconv3x3 1, skipconnect 0 sepconv3x3 1, skipconnect 0 "
    "dilconv3x3 2",
    "reduce": "maxpool 0 maxpool 1, maxpool 1 skipconnect 2, maxpool 0 skipconnect 2, maxpool 1 skipconnect 2",
}
EXAMPLE_OPS = ("maxpool", "avgpool", "skipconnect", "sepconv3x3", "sepconv5x5", "dilconv3x3", "dilconv5x5")


def nni_example(op: Callable[[str], object], switch: Callable[[str, list[int], int], object]) -> str:
    """DARTS V2 as NNI's DARTS example wrote it, by the way that it says an op and a switch."""
    values: dict[str, object] = {}
    for cell, blocks in CHOSEN.items():
        for state, block in enumerate(blocks.split(", "), start=2):
            first, read_first, second, read_second = block.split()
            read = {int(read_first): first, int(read_second): second}
            name = f"{cell}_n{state}"
            values |= {f"{name}_p{k}": op(read[k]) if k in read else [] for k in range(state)}
            values[f"{name}_switch"] = switch(name, sorted(read), state)
    return json.dumps(values)


NNI_EXAMPLES = [
    nni_example(str, lambda name, read, _: [f"{name}_p{k}" for k in read]),  # NNI 1.9
    nni_example(EXAMPLE_OPS.index, lambda name, read, _: [f"{name}_p{k}" for k in read]),  # 1.6
    nni_example(str, lambda _, read, __: read[::-1]),  # 2
    nni_example(
        lambda op: [op == each for each in EXAMPLE_OPS], lambda _, read, all_: [k in read for k in range(all_)]
    ),
]


def read_notation(text: str, notation: str, *, which: str | None = None, name: str = "decoded") -> CellGenotype:
    return as_cells(notations.read_notation(text, notation, which=which, name=name))


def same(one: CellGenotype, other: CellGenotype) -> bool:
    return one.canonical_hash() == other.canonical_hash()


@pytest.mark.parametrize(
    ("notation", "text", "cell"),
    [
        ("darts", DARTS_V2, "darts-v2"),
        ("darts", f"11/21 10:00:00 AM genotype = {DARTS_V2.partition(' = ')[2]}\n11/21 epoch 1", "darts-v2"),
        ("darts", DARTS_V2.replace(", 1)", ", 1, 0.25)").replace("[2, 3, 4, 5]", "list(range(2, 6))"), "darts-v2"),
        ("darts", GDAS_V1, "gdas"),
        ("enas", " ".join(ENAS_ARC), "enas"),
        ("enas", "".join(ENAS_ARC).replace(" ", ""), "enas"),
        ("enas", f"[{ENAS_ARC[0]}]\n[{ENAS_ARC[1].replace(' ', ', ')}]", "enas"),
        ("enas", f'#!/bin/bash\nfixed_arc="{ENAS_ARC[0]}"\nfixed_arc="$fixed_arc {ENAS_ARC[1]}"\n\nrun --x=1', "enas"),
        ("naonet", NAONET_A, "naonet-a"),
        ("naonet", f'fixed_arc="{NAONET_A}"\n\npython train_cifar.py --arch="$fixed_arc" --cutout_size=16', "naonet-a"),
        ("slim", NASNET_A, "nasnet-a"),
        ("nni", json.dumps(NNI_DARTS_V2 | {"width": 36, "depth": 20}), "darts-v2"),
        *(("nni", text, "darts-v2") for text in NNI_EXAMPLES),
        ("nni", str({key: value if "op" in key else [value] for key, value in NNI_DARTS_V2.items()}), "darts-v2"),
    ],
)
def test_published_text_is_the_published_cell(notation: str, text: str, cell: str) -> None:
    read = read_notation(text, notation)
    assert same(read, published_cell(cell))
    assert read.space == published_cell(cell).space
    assert str(read.provenance["source"]).endswith(" notation")
    if notation not in ("enas", "naonet"):  # an arc may be of either
        assert recognize(text) == [notation]


def test_naonet_b_joins_what_nothing_reads() -> None:
    read = read_notation(f'fixed_arc="{NAONET_B}"', "naonet", name="naonet-b")
    assert read.name == "naonet-b"
    assert (read.normal.concat, read.reduction.concat) == ((3, 5, 6), (4, 5, 6))
    assert read.normal.blocks[3] == Block(inputs=(4, 1), ops=("sep_conv_3x3", "max_pool_3x3"))
    assert read.reduction.blocks[1] == Block(inputs=(2, 2), ops=("sep_conv_5x5", "identity"))
    assert write_notation(read, "naonet").split() == NAONET_B.split()


def test_an_input_that_no_block_reads_goes_into_the_output_of_an_arc() -> None:
    read = read_notation("1 0 1 0 0 0 0 0", "enas")
    assert read.normal.concat == (0, 2)
    assert read.reduction.concat == (1, 2)


def test_slim_counts_the_two_inputs_the_other_way() -> None:
    read = read_notation(NASNET_A, "slim")
    assert read.normal == published_cell("nasnet-a").normal
    text = write_notation(read, "slim")
    assert "hiddenstate_indices = [0, 1, 1, 1, 0, 1, 1, 1, 0, 0]\nused_hiddenstates = [1, 0, 0, 0, 0, 0, 0]" in text


def test_the_last_of_one_name_counts_and_a_name_picks_among_several() -> None:
    log = f"genotype = {GDAS_V1.partition(' = ')[2]}\ngenotype = {DARTS_V2.partition(' = ')[2]}"
    assert same(read_notation(log, "darts"), published_cell("darts-v2"))
    both = f"{GDAS_V1}\n# {DARTS_V2.replace(chr(10), ' ').replace('V2', 'V9')}\n{DARTS_V2}\nDARTS = DARTS_V2\n"
    assert read_notation(both, "darts", which="GDAS_V1").name == "GDAS_V1"
    with pytest.raises(InputError, match=r"holds 2 genotypes: GDAS_V1, DARTS_V2\. Choose one with --select"):
        read_notation(both, "darts")
    with pytest.raises(InputError, match="Did you mean GDAS_V1"):
        read_notation(both, "darts", which="GDAS_V2")


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_published_cell_comes_back_or_is_refused_with_a_reason(notation: str) -> None:
    written = []
    for name in CELL_NAMES:
        cell = published_cell(name)
        try:
            text = write_notation(cell, notation)
        except InputError:
            continue
        written.append(name)
        which = {"enas": "enas", "pnasnet-5": "pnas"}.get(name) if notation == "nni" else None
        assert same(read_notation(text, notation, which=which), cell), name
    expected = {
        "darts": {"darts-v1", "gdas", "nasnet-a", "pnasnet-5", "enas", "naonet-a"},
        "enas": {"enas"},
        "slim": {"nasnet-a", "pnasnet-5", "amoebanet-a", "amoebanet-b", "amoebanet-c", "amoebanet-d", "enas"},
        "nni": {"darts-v1", "p-darts", "enas", "pnasnet-5"},
        "naonet": {"enas", "naonet-a"},
    }
    assert expected[notation] <= set(written)
    assert ("darts-v2" in written) == (notation in ("darts", "nni"))


def texts_of(
    ops: tuple[str, ...], joined: Callable[[CellSpec], st.SearchStrategy[tuple[int, ...]]]
) -> st.SearchStrategy[CellGenotype]:
    """Genotypes of five blocks that add, of these ops, with a concat that `joined` chooses."""

    @st.composite
    def build(draw: st.DrawFn) -> CellGenotype:
        cells = []
        for _ in range(2):
            blocks = tuple(
                Block(
                    inputs=(draw(st.integers(0, k + 1)), draw(st.integers(0, k + 1))),
                    ops=(draw(st.sampled_from(ops)), draw(st.sampled_from(ops))),
                )
                for k in range(5)
            )
            cell = CellSpec(blocks=blocks, concat=(6,))
            cells.append(cell.model_copy(update={"concat": draw(joined(cell))}))
        return CellGenotype(name="made", space="any", normal=cells[0], reduction=cells[1])

    return build()


def anything(cell: CellSpec) -> st.SearchStrategy[tuple[int, ...]]:
    states = st.sets(st.integers(0, len(cell.blocks) + 1), min_size=1)
    return states.map(lambda chosen: tuple(sorted(chosen)))


def unread(cell: CellSpec) -> st.SearchStrategy[tuple[int, ...]]:
    read = {state for block in cell.blocks for state in block.inputs}
    return st.just(tuple(state for state in range(len(cell.blocks) + 2) if state not in read))


SLIM_OPS = ("identity", "sep_conv_7x7", "max_pool_5x5", "bottleneck_conv_3x3", "bottleneck_conv_1x7_7x1", "conv_1x1")
NAO_OPS = ("identity", "sep_conv_5x5", "max_pool_2x2", "avg_pool_2x2", "avg_pool_5x5", "conv_1x3_3x1", "conv_1x1")
SAYABLE = st.one_of(
    st.tuples(st.just("darts"), st.none(), texts_of(("identity", "dil_sep_conv_5x5", "conv_1x7_7x1"), anything)),
    st.tuples(st.just("slim"), st.none(), texts_of(SLIM_OPS, anything)),
    st.tuples(st.just("enas"), st.none(), texts_of(ENAS.ops, unread)),
    st.tuples(st.just("naonet"), st.none(), texts_of(NAO_OPS, unread)),
    st.tuples(st.just("nni"), st.none(), genotypes((DARTS,))),
    st.tuples(st.just("nni"), st.just("enas"), genotypes((ENAS,))),
)


@given(SAYABLE)
@settings(max_examples=120)
def test_what_a_notation_can_say_comes_back_the_same(case: tuple[str, str | None, CellGenotype]) -> None:
    notation, which, genotype = case
    read = read_notation(write_notation(genotype, notation), notation, which=which)
    assert (read.normal, read.reduction) == (genotype.normal, genotype.reduction)
    assert same(read, genotype)


@given(st.text(alphabet="Genotype(normal=[]){}'\",:/_#0123 \n", max_size=80), st.sampled_from(sorted(NOTATIONS)))
def test_no_text_brings_a_reader_down(text: str, notation: str) -> None:
    for each in (text, f"Genotype({text})", f"operations = [{text}]"):
        assert set(recognize(each)) <= set(NOTATIONS)
        with suppress(InputError):
            assert isinstance(read_notation(each, notation), CellGenotype)


def made(**changes: object) -> CellGenotype:
    return published_cell("enas").model_copy(update=changes)


NORMAL = published_cell("enas").normal
JOINING = NORMAL.model_copy(update={"blocks": (NORMAL.blocks[0].model_copy(update={"combine": "concat"}),)})
DILATED = NORMAL.model_copy(update={"blocks": (Block(inputs=(0, 1), ops=("dil_conv_3x3", "identity")),) * 5})
SHORT = CellSpec(blocks=NORMAL.blocks[:2], concat=(2, 3))


@pytest.mark.parametrize(
    ("notation", "genotype", "words"),
    [
        ("darts", made(normal=JOINING), r"normal.blocks\[0\] combines by concat, but DARTS only adds"),
        ("darts", made(normal=DILATED), r"normal.blocks\[0\]: DARTS has no op like dil_conv_3x3"),
        ("slim", made(normal=SHORT), "2 blocks, but TF-slim's cell always runs 5"),
        ("enas", made(normal=SHORT), "normal cell has 2 blocks and the reduction cell 5"),
        ("enas", published_cell("pnasnet-5"), "joins what nothing reads"),
        ("naonet", made(normal=DILATED), "NAO has no op like dil_conv_3x3"),
        ("nni", published_cell("nasnet-a"), "none of NNI's spaces"),
        ("nni", made(normal=SHORT, reduction=SHORT), "none of NNI's spaces"),
        ("latex", made(), "notation 'latex' is unknown"),
    ],
)
def test_what_a_notation_cannot_say_is_refused(notation: str, genotype: CellGenotype, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        write_notation(genotype, notation)
    assert caught.value.hint


FIVE_BLOCKS = {
    f"{cell}/{key}_{state}_{half}": "sep_conv_3x3" if key == "op" else state - 1
    for cell in ("normal", "reduce")
    for state in range(2, 7)
    for half in (0, 1)
    for key in ("op", "input")
}


@pytest.mark.parametrize(
    ("notation", "text", "words"),
    [
        ("darts", "nothing", r"no Genotype\(...\) in the text"),
        ("darts", DARTS_V2.replace("skip_connect", "none", 1), r"DARTS_V2.normal\[5\]: DARTS's op none is the zero op"),
        ("darts", DARTS_V2.replace("skip_connect", "skip_conect", 1), "Did you mean skip_connect"),
        ("darts", DARTS_V2.replace("('sep_conv_3x3', 0), ", "", 1), "7 ops, but a block has two"),
        ("darts", DARTS_V2.replace("[2, 3, 4, 5]", "[2, 3, 4, 6]", 1), "concat names state 6"),
        ("darts", DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 10**9)", 1), "not written out"),
        ("darts", DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 1000000000)", 1), "not a possible range"),
        ("darts", DARTS_V2.replace("'dil_conv_3x3'", "open('x')", 1), r"open\('x'\) is not written out"),
        ("darts", DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 9)"), "reads state 9"),
        (
            "darts",
            "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], normal_concat=[2])",
            "reduce is missing",
        ),
        ("enas", " ".join(ENAS_ARC[0:1]), "20 numbers are no ENAS arc"),
        ("enas", " ".join(ENAS_ARC).replace("4", "5"), "normal cell, block 1: '5' is no op of ENAS"),
        ("enas", f"[{ENAS_ARC[0]}] [{ENAS_ARC[1]} 0 0 0 0]", "20 numbers for the normal cell and 24"),
        ("enas", "arc: 1 2", "'arc:' is no number"),
        ("slim", NASNET_A.partition("class Reduction")[0], "operations is assigned 1 times, not twice"),
        ("slim", NASNET_A.replace("[1, 0, 0", "[1, 0"), "normal cell: 10 operations, 10 hiddenstate_indices, 6 used"),
        ("slim", NASNET_A.replace("separable_3x3_2", "separable_3x3_4", 1), "'separable_3x3_4' is no op of TF-slim"),
        ("slim", NASNET_A + "\n  bad indent(", "line 17: not Python"),
        ("nni", "[1, 2]", "not a dictionary of choices"),
        ("nni", json.dumps(NNI_DARTS_V2 | {"normal_n2_p0": 1}), "key 'normal_n2_p0' is unknown"),
        ("nni", NNI_EXAMPLES[0].replace("sepconv3x3", "none", 1), "normal_n2_p0: .*op none is the zero op"),
        ("nni", NNI_EXAMPLES[0].replace('"maxpool"', "7", 1), "reduce_n2_p0: op 7, but .* 0 to 6"),
        ("nni", NNI_EXAMPLES[0].replace('"maxpool"', "[]", 1), r"reduce_n2_p0: '\[\]' is no op"),
        ("nni", NNI_EXAMPLES[0].replace('"normal_n3_p1"]', '"normal_n3_p9"]'), "normal_n3_switch: .* two of 3 states"),
        ("nni", NNI_EXAMPLES[0].replace('"reduce_n4_switch"', '"reduce_n6_p0"'), "reduce_n4_switch is missing"),
        ("nni", '{"normal/op_0_0": "skip_connect"}', "'normal/op_0_0' is not read: .* count blocks from 0"),
        ("nni", '{"normal_node_0_x_op": 1}', "'normal_node_0_x_op' is not read: .* end in a 1x1 convolution"),
        ("nni", '{"r0_n0_p0": [false]}', "'r0_n0_p0' is not read"),
        ("nni", json.dumps(NNI_DARTS_V2 | {"normal/input_3_1": [0, 1]}), r"normal/input_3_1: \[0, 1\] is no whole"),
        ("nni", json.dumps({"normal/op_2_0": "skip_connect"}), "normal/input_2_0 is missing"),
        ("nni", json.dumps(FIVE_BLOCKS), r"enas, pnas, amoebanet, nasnet, which join different states\. .*--space"),
        ("nni", json.dumps({k: v for k, v in FIVE_BLOCKS.items() if "_6_" not in k and "_5_" not in k}), "3 blocks"),
    ],
)
def test_what_cannot_be_read_says_where(notation: str, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_notation(text, notation)


def test_keys_of_nni_that_are_not_read_are_nevertheless_known_as_its_own() -> None:
    assert recognize("{'normal_node_0_x_op': 1, 'normal_node_0_x_input': [0]}") == ["nni"]
    assert recognize('{"r0_n0_p0": [false]}') == ["nni"]


def test_the_space_of_nni_tells_what_is_joined() -> None:
    text = json.dumps(FIVE_BLOCKS)
    assert read_notation(text, "nni", which="nasnet").normal.concat == (6,)
    assert read_notation(text, "nni", which="pnas").normal.concat == (2, 3, 4, 5, 6)
    with pytest.raises(InputError, match="5 blocks per cell are not those of NNI's darts"):
        read_notation(text, "nni", which="darts")
    assert same(read_notation(NNI_EXAMPLES[0], "nni", which="darts"), published_cell("darts-v2"))
    with pytest.raises(InputError, match="those keys are of NNI's DARTS example, not of its space enas"):
        read_notation(NNI_EXAMPLES[0], "nni", which="enas")


def test_a_long_text_is_not_searched() -> None:
    with pytest.raises(InputError, match="too many"):
        read_notation(" " * (1 << 25), "enas")


def test_each_notation_has_a_title() -> None:
    assert all(find_notation(name).title for name in NOTATIONS)
