"""`--cell` with a cell as another tool writes it: refused, with the command that reads it."""

import json
import shlex
from pathlib import Path

import pytest

from nascli.genotype.genotype import read_genotype
from nascli.genotype.notations import write_notation
from nascli.genotype.resolve import load_genotype, zoo_genotype
from tests.cli.program import Nascli

COMMANDS = ("build", "train", "detect")
TEXTS = {name: write_notation(zoo_genotype("enas"), name) for name in ("darts", "slim", "enas", "nni")}
TITLES = {
    "darts": "DARTS notation",
    "slim": "TF-slim notation",
    "nni": "NNI notation",
    "enas": "perhaps ENAS or NAO notation",
}


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


def find_command(message: str) -> str:
    """The command behind "Decode it first: "."""
    return message.strip().partition("Decode it first: ")[2].removesuffix(" (or --from naonet)")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_names_the_decode_that_makes_it_readable(nascli: Nascli, command: str) -> None:
    line = TEXTS["darts"].replace("\n", " ").strip()
    ran = nascli(f"{command} --cell {shlex.quote(line)}")
    assert ran.code == 2
    assert "cell 'enas = Genotype(" in ran.err
    assert "is DARTS notation, not a genotype" in ran.err
    assert nascli(find_command(ran.err).removeprefix("nascli ")).code == 0
    assert read_genotype(Path("cell.json")).canonical_hash() == zoo_genotype("enas").canonical_hash()


@pytest.mark.parametrize("notation", TEXTS)
def test_a_file_in_another_notation_is_told_from_a_damaged_one(nascli: Nascli, notation: str) -> None:
    Path("my cell.txt").write_text(TEXTS[notation], encoding="utf-8")
    ran = nascli("build --cell 'my cell.txt'")
    assert ran.code == 2
    assert f"my cell.txt is {TITLES[notation]}" in ran.err
    space = " --space enas" if notation == "nni" else ""  # decode itself asks for it
    assert nascli(find_command(ran.err).removeprefix("nascli ") + space).code == 0
    assert load_genotype("cell.json").canonical_hash() == zoo_genotype("enas").canonical_hash()


def test_an_arc_and_a_text_of_many_lines_are_offered_a_way(nascli: Nascli) -> None:
    arc = " ".join(TEXTS["enas"].split())
    ran = nascli(f"build --cell '{arc}'")
    assert ran.err.strip().endswith(f"nascli decode '{arc}' --from enas --out cell.json (or --from naonet)")
    ran = nascli(f"build --cell {shlex.quote(TEXTS['slim'])}")
    assert "is TF-slim notation" in ran.err
    assert find_command(ran.err) == "save it as cell.txt, then nascli decode cell.txt --out cell.json"


def test_a_dictionary_in_a_json_file_is_no_damaged_genotype(nascli: Nascli) -> None:
    Path("arch.json").write_text(json.dumps({"normal_n2_p0": "maxpool"}), encoding="utf-8")
    ran = nascli("train --cell arch.json")
    assert ran.code == 2
    assert "arch.json is NNI notation, not a genotype. Decode it first: nascli decode arch.json" in ran.err
