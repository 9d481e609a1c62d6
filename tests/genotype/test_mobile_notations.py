"""Notations of MnasNet's code and of timm: what they publish is what the zoo has, both ways, or the piece is named."""

import pytest
from hypothesis import given

from nascli.errors import InputError
from nascli.genotype.mobile.genotype import MobileGenotype, require_mobile
from nascli.genotype.notations import read_notation, recognize, write_notation
from nascli.genotype.resolve import load_genotype, zoo_genotype
from tests.mobile import SMALL, mobile_genotypes
from tests.published import MOBILE_NAMES

TF = {
    "mnasnet-a1": "['r1_k3_s11_e1_i32_o16_noskip', 'r2_k3_s22_e6_i16_o24', 'r3_k5_s22_e3_i24_o40_se0.25', "
    "'r4_k3_s22_e6_i40_o80', 'r2_k3_s11_e6_i80_o112_se0.25', 'r3_k5_s22_e6_i112_o160_se0.25', "
    "'r1_k3_s11_e6_i160_o320']",
    "mnasnet-b1": "blocks_args = ['r1_k3_s11_e1_i32_o16_noskip', 'r3_k3_s22_e3_i16_o24',\n 'r3_k5_s22_e3_i24_o40',"
    "'r3_k5_s22_e6_i40_o80', 'r2_k3_s11_e6_i80_o96', 'r4_k5_s22_e6_i96_o192', 'r1_k3_s11_e6_i192_o320_noskip'\n]",
    "mnasnet-small": "blocks_args = ['r1_k3_s11_e1_i16_o8', 'r1_k3_s22_e3_i8_o16', 'r2_k3_s22_e6_i16_o16', "
    "'r4_k5_s22_e6_i16_o32_se0.25', 'r3_k3_s11_e6_i32_o32_se0.25', 'r3_k5_s22_e6_i32_o88_se0.25', "
    "'r1_k3_s11_e6_i88_o144']\nparams = GlobalParams(dropout_rate=0.2, stem_size=8)",
}
TIMM = {
    "mnasnet-a1": """arch_def = [
        # stage 0, 112x112 in
        ['ds_r1_k3_s1_e1_c16_noskip'],
        # stage 1, 112x112 in
        ['ir_r2_k3_s2_e6_c24'], ['ir_r3_k5_s2_e3_c40_se0.25'], ['ir_r4_k3_s2_e6_c80'],
        ['ir_r2_k3_s1_e6_c112_se0.25'], ['ir_r3_k5_s2_e6_c160_se0.25'],
        # ['ir_r9_k3_s1_e6_c9'],
        ['ir_r1_k3_s1_e6_c320'],
    ]
    model_kwargs = dict(block_args=decode_arch_def(arch_def), stem_size=32)""",
    "mnasnet-b1": "ds_r1_k3_s1_c16_noskip ir_r3_k3_s2_e3_c24 ir_r3_k5_s2_e3_c40 ir_r3_k5_s2_e6_c80 ir_r2_k3_s1_e6_c96 "
    "ir_r4_k5_s2_e6_c192 ir_r1_k3_s1_e6_c320_noskip",
    "mnasnet-small-timm": "[['ds_r1_k3_s1_c8'], ['ir_r1_k3_s2_e3_c16'], ['ir_r2_k3_s2_e6_c16'], "
    "['ir_r4_k5_s2_e6_c32_se0.25'], ['ir_r3_k3_s1_e6_c32_se0.25'], ['ir_r3_k5_s2_e6_c88_se0.25'], "
    "['ir_r1_k3_s1_e6_c144']]; stem_size=8",
    "mobilenetv2": "[['ds_r1_k3_s1_c16'], ['ir_r2_k3_s2_e6_c24'], ['ir_r3_k3_s2_e6_c32'], "
    "['ir_r4_k3_s2_e6_c64', 'ir_r3_k3_s1_e6_c96'], ['ir_r3_k3_s2_e6_c160'], ['ir_r1_k3_s1_e6_c320']]",
}
PUBLISHED = [("mnasnet", *item) for item in TF.items()] + [("timm", *item) for item in TIMM.items()]


@pytest.mark.parametrize(("notation", "name", "text"), PUBLISHED)
def test_published_texts_are_the_networks_of_the_zoo(notation: str, name: str, text: str) -> None:
    assert recognize(text) == [notation]
    assert read_notation(text, notation).canonical_hash() == zoo_genotype(name).canonical_hash()


@pytest.mark.parametrize("notation", ["mnasnet", "timm"])
@pytest.mark.parametrize("name", MOBILE_NAMES)
def test_the_zoo_comes_back(notation: str, name: str) -> None:
    text = write_notation(zoo_genotype(name), notation)
    assert recognize(text) == [notation]
    assert read_notation(text, notation).canonical_hash() == zoo_genotype(name).canonical_hash()


@given(mobile_genotypes())
def test_every_chain_comes_back_or_is_refused_for_what_the_notation_lacks(genotype: MobileGenotype) -> None:
    blocks = genotype.canonical().blocks
    lacks = any(block.skip == "pool" for block in blocks)
    lacking = {
        "mnasnet": lacks or any(block.op == "conv" for block in blocks),
        "timm": lacks or any(block.op == "conv" and block.se for block in blocks),
    }
    for notation, is_refused in lacking.items():
        if is_refused:
            with pytest.raises(InputError, match=r"blocks\[\d\]"):
                write_notation(genotype, notation)
        else:
            read = read_notation(write_notation(genotype, notation), notation)
            assert read.canonical_hash() == genotype.canonical_hash()


def test_the_stem_is_said_by_the_first_block_by_stem_size_or_is_timms_32() -> None:
    def stem(text: str, notation: str) -> int:
        return require_mobile(read_notation(text, notation), "the test").stem

    assert stem("r1_k3_s11_e1_i24_o16", "mnasnet") == 24
    assert stem("r1_k3_s11_e1_i24_o16 stem_size=16", "mnasnet") == 16
    assert stem("ds_r1_k3_s1_c16", "timm") == 32
    assert stem("ds_r1_k3_s1_c16 stem_size = 16", "timm") == 16


@pytest.mark.parametrize(
    ("notation", "text", "phrase"),
    [
        ("mnasnet", "r1_k3_s11_e1_i32_o16 r2_k3_s22_e6_i24_o24", "reads 24 channels, but block 1 gives 16"),
        ("mnasnet", "r1_k3_s11_e3_i16_o8 stem_size=8", "the stem has 8"),
        ("mnasnet", "r1_k3_s21_e1_i32_o16", "stride s21"),
        ("mnasnet", "r1_k3_s11_e1_o16", "i is missing"),
        ("mnasnet", "r1_k3_s11_e10_i32_o16", "op"),
        ("mnasnet", "r1_k4_s11_e1_i32_o16", "kernel"),
        ("mnasnet", "r1_k3_k3_s11_e1_i32_o16", "k stands there twice"),
        ("mnasnet", "r1_k3_s11_m574_i32_o16", "'m574'"),
        ("mnasnet", "nothing", "no block"),
        ("timm", "ir_r1_k3_s1_e1_c16", "ir with e1"),
        ("timm", "ir_r1_k3_s1_e2.5_c16", "e is '2.5'"),
        ("timm", "ds_r1_k3_s1_c16_nre", "'nre'"),
        ("timm", "er_r1_k3_s1_e4_c24", "no block 'er'"),
        ("timm", "cn_r1_k4_s1_c960", "kernel"),
        ("timm", "ir_r1_k3_s1_e6_c16_se0.2.5", "se is"),
        ("timm", "ir_r13_k3_s1_e6_c16", "layers"),
        ("timm", "ds_r1_k3_s1_c16 stem_size=8 stem_size=16", "stem_size is 8 and 16"),
        ("timm", "arch_def = ['ds_r1_k3_s1_c16'] arch_def = ['ds_r1_k3_s1_c8']", "holds 2 networks"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_piece(notation: str, text: str, phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        read_notation(text, notation)


def test_what_a_notation_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="cells"):
        write_notation(zoo_genotype("enas"), "timm")
    with pytest.raises(InputError, match="mobile"):
        write_notation(SMALL, "darts")
    tiny = SMALL.blocks[1].model_copy(update={"se": 1e-6})
    with pytest.raises(InputError, match="exponent"):
        write_notation(SMALL.model_copy(update={"blocks": (tiny,)}), "timm")


def test_a_text_given_as_a_cell_names_the_command_that_reads_it() -> None:
    with pytest.raises(InputError, match="nascli decode"):
        load_genotype("ds_r1_k3_s1_c16")
