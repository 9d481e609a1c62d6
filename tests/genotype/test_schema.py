"""The genotype as a value: what is accepted, what is refused, and with which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from nascli.errors import CorruptFileError, InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.genotype import parse_genotype, read_genotype
from nascli.genotype.resolve import load_genotype, zoo_genotype, zoo_names
from tests.published import MOBILE_NAMES, published_cell

ZOO = (
    "amoebanet-a",
    "amoebanet-b",
    "amoebanet-c",
    "amoebanet-d",
    "darts-v1",
    "darts-v2",
    "enas",
    "gdas",
    "naonet-a",
    "nasnet-a",
    "p-darts",
    "pc-darts-cifar10",
    "pc-darts-imagenet",
    "pnasnet-5",
)


def nasnet_values() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(published_cell("nasnet-a").to_json())
    return values


def test_zoo_is_complete() -> None:
    assert zoo_names() == tuple(sorted((*ZOO, *MOBILE_NAMES)))
    assert len(MOBILE_NAMES) == 7


@pytest.mark.parametrize("name", ZOO)
def test_zoo_round_trips_and_names_its_source(name: str) -> None:
    genotype = published_cell(name)
    assert genotype.name == name
    assert parse_genotype(genotype.to_json(), "again") == genotype
    assert len(str(genotype.provenance["source"])) > 20


def test_genotype_is_a_hashable_value() -> None:
    assert len({published_cell("nasnet-a"), published_cell("nasnet-a"), published_cell("enas")}) == 2


def test_unused_follows_the_paper_and_differs_from_the_released_concat() -> None:
    nasnet = published_cell("nasnet-a")
    assert nasnet.normal.unused == (2, 3, 4, 5, 6)
    assert nasnet.normal.concat == (0, 2, 3, 4, 5, 6)
    assert nasnet.reduction.unused == (4, 5, 6)
    assert nasnet.reduction.concat == (3, 4, 5, 6)


def test_live_states_leave_out_what_reaches_no_output() -> None:
    blocks = (
        Block(inputs=(1, 1), ops=("identity", "conv_1x1")),
        Block(inputs=(0, 0), ops=("identity", "conv_1x1")),
    )
    assert CellSpec(blocks=blocks, concat=(2,)).live == {1, 2}


def change(values: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    place: Any = values
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "phrase"),
    [
        (("normal", "blocks", 0, "inputs"), [1, 2], "block 0 reads state 2, but only states 0 to 1 exist"),
        (("normal", "blocks", 0, "inputs"), [1, -1], "normal.blocks[0].inputs[1] = -1"),
        (("normal", "blocks", 0, "inputs"), [1], "normal.blocks[0].inputs"),
        (("normal", "blocks", 0, "inputs"), [True, False], "normal.blocks[0].inputs[0] = True"),
        (("normal", "blocks", 0, "inputs"), [1.0, 0], "normal.blocks[0].inputs[0] = 1.0"),
        (("normal", "blocks", 0, "inputs"), ["1", 0], "normal.blocks[0].inputs[0] = '1'"),
        (("reduction", "concat"), [False, 3], "reduction.concat[0] = False"),
        (("normal", "blocks", 1, "ops"), ["sep_conv_9x9", "identity"], "unknown op 'sep_conv_9x9'"),
        (("normal", "blocks", 1, "combine"), "multiply", "normal.blocks[1].combine = 'multiply'"),
        (("normal", "blocks"), [], "normal.blocks"),
        (("reduction", "concat"), [3, 9], "concat names state 9, but the cell has states 0 to 6"),
        (("reduction", "concat"), [4, 3], "ascending"),
        (("reduction", "concat"), [], "reduction.concat"),
        (("reduction",), 7, "reduction = 7"),
        (("name",), "", "name"),
        (("schema",), 2, "schema 2 is newer than this nascli reads (1). Upgrade nascli"),
        (("color",), "red", "unknown key color"),
        (("schema",), "one", "schema = 'one'"),
    ],
)
def test_impossible_genotypes_are_refused_by_file_and_field(
    path: tuple[str | int, ...], value: object, phrase: str
) -> None:
    text = json.dumps(change(nasnet_values(), path, value))
    with pytest.raises(InputError) as caught:
        parse_genotype(text, "cell.json")
    assert str(caught.value).startswith("cell.json: ")
    assert phrase in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("cut", [0, 1, 100, -3])
def test_a_truncated_file_is_corrupt(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cell.json"
    path.write_text(published_cell("nasnet-a").to_json()[:cut])
    with pytest.raises(CorruptFileError) as caught:
        read_genotype(path)
    assert "cell.json is not JSON" in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"a": 1}', '"nasnet-a"'])
def test_other_json_is_not_a_genotype(text: str) -> None:
    with pytest.raises(InputError, match="not a genotype"):
        parse_genotype(text, "cell.json")


def test_deep_json_and_huge_files_are_refused() -> None:
    with pytest.raises(CorruptFileError):
        parse_genotype("[" * 100_000, "deep.json")
    with pytest.raises(InputError, match="too many for a genotype"):
        parse_genotype(" " * (2 << 20), "huge.json")


def test_load_genotype_takes_what_a_person_has(tmp_path: Path) -> None:
    genotype = published_cell("enas")
    (tmp_path / "best.json").write_text(genotype.to_json())
    for source in ("enas", str(tmp_path / "best.json"), tmp_path / "best.json", tmp_path, genotype):
        assert load_genotype(source) == genotype


def test_load_genotype_takes_the_cell_of_a_network(tmp_path: Path) -> None:
    genotype = published_cell("enas")
    (tmp_path / "network.json").write_text(json.dumps({"classes": 3, "genotype": json.loads(genotype.to_json())}))
    assert load_genotype(tmp_path) == load_genotype(tmp_path / "network.json") == genotype
    (tmp_path / "network.json").write_text('{"classes": 3, "family": "resnet"}')
    with pytest.raises(InputError, match="without a genotype"):
        load_genotype(tmp_path)


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        ("nasnet-x", "Did you mean nasnet-a?"),
        ("gone.json", "gone.json: No such file"),
        ("no/such/cell", "No such file"),
    ],
)
def test_load_genotype_says_what_it_looked_for(source: str, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        load_genotype(source)
    assert phrase in str(caught.value)


def test_provenance_is_not_part_of_the_hash() -> None:
    genotype = published_cell("enas")
    other = CellGenotype.model_validate(genotype.model_dump(by_alias=True) | {"provenance": {"trial": 3}})
    assert hash(other) == hash(genotype)
    assert other != genotype


def test_an_op_of_a_hundred_thousand_letters_is_refused_in_one_short_line() -> None:
    text = zoo_genotype("enas").to_json().replace("sep_conv_3x3", "o" * 100_000)
    with pytest.raises(InputError) as refused:
        parse_genotype(text, "cell.json")
    assert len(str(refused.value)) < 1000
