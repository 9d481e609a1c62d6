"""`nascli decode` of other tools' notations, and into them."""

import io
import sys
from pathlib import Path

import pytest

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.genotype import read_genotype
from nascli.genotype.resolve import zoo_genotype
from tests.cli.decode_program import DARTS_V2, ENAS_ARC, Nascli


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


@pytest.mark.parametrize("given", ["text", "file", "stdin"])
def test_a_darts_genotype_is_seen_wherever_it_stands(
    nascli: Nascli, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("found.txt").write_text(f"epoch 49\n{DARTS_V2}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(DARTS_V2))
    ran = nascli({"text": DARTS_V2, "file": "found.txt", "stdin": "-"}[given], "--json")
    genotype = CellGenotype.model_validate(ran.json["genotype"])
    assert genotype.canonical_hash() == zoo_genotype("darts-v2").canonical_hash()
    assert (genotype.name, genotype.space) == ("DARTS_V2", "darts")
    file = {"file": "found.txt"} if given == "file" else {}
    assert genotype.provenance == {"source": "DARTS notation"} | file
    assert nascli(*ran.next[2:]).code == 0
    assert read_genotype(Path("DARTS-V2.json")) == (
        genotype if given == "file" else genotype.model_copy(update={"provenance": {"source": "DARTS notation"}})
    )


def test_an_arc_is_read_with_its_notation(nascli: Nascli) -> None:
    Path("final.sh").write_text(f'fixed_arc="{ENAS_ARC}"\npython main.py --epochs=630\n', encoding="utf-8")
    for source in (ENAS_ARC, "final.sh"):
        ran = nascli(source, "--from", "enas", "--json")
        assert ran.json["canonical_hash"] == zoo_genotype("enas").canonical_hash()
    assert ran.json["genotype"]["name"] == "final"


def test_genotype_json_comes_through_a_pipe_too(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(zoo_genotype("enas").to_json()))
    assert nascli("-", "--json").json["genotype"]["name"] == "enas"


@pytest.mark.parametrize(
    ("cell", "notation"),
    [("darts-v2", "darts"), ("darts-v2", "nni"), ("nasnet-a", "slim"), ("enas", "enas"), ("naonet-a", "naonet")],
)
def test_stdout_is_the_notation_alone_and_reads_back(
    nascli: Nascli, cell: str, notation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ran = nascli(cell, "--to", notation)
    Path("said").write_text(ran.out, encoding="utf-8")
    again = nascli("said", "--from", notation, "--json")
    assert again.json["canonical_hash"] == zoo_genotype(cell).canonical_hash()
    as_json = nascli(cell, "--to", notation, "--json").json
    assert as_json["notation_text"].strip() == ran.out.strip()
    assert as_json["genotype"]["name"] == cell


def test_standard_input_without_end_is_refused(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/zero").open(encoding="utf-8") as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        ran = nascli("-", "--json")
    assert ran.code == 2
    assert "standard input" in ran.err
