"""`nascli decode` as a user calls it: published cells and files in, trees, drawings and files out."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nascli.cli import decode
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.genotype import read_genotype
from nascli.genotype.resolve import zoo_genotype, zoo_names
from tests.cli.decode_program import DARTS_V2, Nascli
from tests.published import published_cell


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


def test_a_published_cell_is_shown_as_a_tree(nascli: Nascli) -> None:
    ran = nascli("nasnet-a")
    assert ran.code == 0
    lines = [line.strip("│├└─ ") for line in ran.out.splitlines()]
    assert lines[0].startswith("nasnet-a  space nasnet, canonical hash ")
    assert lines[1] == "normal cell"
    assert re.sub(" +", " ", lines[2]) == "2 add sep 5×5 ← h[i] sep 3×3 ← h[i-1]"
    assert re.sub(" +", " ", lines[7]) == "concat h[i-1] 2 3 4 5 6 → h[i+1]"
    assert lines[8] == "reduction cell"
    assert re.sub(" +", " ", lines[12]) == "5 add identity ← 3 avg 3×3 ← 2"
    assert "dead" not in ran.out
    assert ran.next == ["nascli", "build", "--cell", "nasnet-a"]


def test_dead_blocks_are_marked_and_gone_in_the_canonical_form(nascli: Nascli) -> None:
    genotype = published_cell("enas")
    lame = genotype.model_copy(update={"normal": CellSpec(blocks=genotype.normal.blocks, concat=(2,))})
    Path("lame.json").write_text(lame.to_json(), encoding="utf-8")
    shown = nascli("lame.json").out
    assert shown.count("dead: reaches no output") == 4
    ran = nascli("lame.json", "--canonical", "--out", "fit.json", "--json")
    assert read_genotype(Path("fit.json")) == lame.canonical()
    assert ran.json["canonical_hash"] == lame.canonical_hash()
    assert len(ran.json["genotype"]["normal"]["blocks"]) == 1
    assert "dead" not in nascli("fit.json").out


def test_no_line_is_cut_in_a_narrow_terminal(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = nascli("amoebanet-d").out
    monkeypatch.setenv("COLUMNS", "40")
    assert nascli("amoebanet-d").out == wide


def test_every_published_cell_is_listed(nascli: Nascli) -> None:
    ran = nascli("--list")
    rows = {line.split()[0]: line for line in ran.out.splitlines() if line and not line.startswith(" ")}
    for name in zoo_names():
        assert zoo_genotype(name).canonical_hash() in rows[name]
        assert zoo_genotype(name).space in rows[name]
    listed = nascli("--list", "--json").json["zoo"]
    assert [cell["name"] for cell in listed] == list(zoo_names())
    assert all(cell["source"] and cell["size"] for cell in listed)


@pytest.mark.parametrize("suffix", ["svg", "png", "dot", "mmd"])
def test_each_format_is_drawn(nascli: Nascli, suffix: str) -> None:
    begins = {"svg": b"<svg ", "png": b"\x89PNG", "dot": b'digraph "darts-v2"', "mmd": b'---\ntitle: "darts-v2"'}
    ran = nascli("darts-v2", "--draw", f"drawings/cell.{suffix}")
    assert ran.code == 0
    assert Path(f"drawings/cell.{suffix}").read_bytes().startswith(begins[suffix])
    assert f"wrote drawings/cell.{suffix}" in ran.err


def test_out_and_several_drawings_in_one_call(nascli: Nascli) -> None:
    ran = nascli("darts-v2", "--out", "my cell.json", "--draw", "cell.svg", "--draw", "cell.dot", "--json")
    assert read_genotype(Path("my cell.json")) == zoo_genotype("darts-v2")
    assert ran.json["files"] == ["my cell.json", "cell.svg", "cell.dot"]
    assert all(Path(file).is_file() for file in ran.json["files"])
    assert ran.next == ["nascli", "build", "--cell", "my cell.json"]


def test_a_file_is_replaced_only_when_asked(nascli: Nascli) -> None:
    Path("cell.json").write_text("precious", encoding="utf-8")
    assert nascli("darts-v2", "--out", "cell.json").code == 2
    assert Path("cell.json").read_text(encoding="utf-8") == "precious"
    assert nascli("darts-v2", "--out", "cell.json", "--overwrite").code == 0
    assert read_genotype(Path("cell.json")).name == "darts-v2"


def test_nothing_is_written_if_one_file_cannot_be(nascli: Nascli) -> None:
    Path("old.svg").touch()
    assert nascli("darts-v2", "--out", "new.json", "--draw", "old.svg").code == 2
    assert not Path("new.json").exists()


def test_a_name_goes_into_file_and_drawing(nascli: Nascli) -> None:
    nascli("darts-v2", "--name", "[bold]mine", "--out", "cell.json", "--draw", "cell.svg")
    assert read_genotype(Path("cell.json")).name == "[bold]mine"
    assert "[bold]mine" in Path("cell.svg").read_text(encoding="utf-8")
    assert nascli("cell.json").out.startswith("[bold]mine ")


def test_json_is_one_object_alone_on_stdout(nascli: Nascli) -> None:
    ran = nascli("pnasnet-5", "--json")
    assert set(ran.json) == {"genotype", "canonical_hash", "tokens", "tokens_reason", "notation_text", "files"}
    assert ran.json["notation_text"] is None
    assert CellGenotype.model_validate(ran.json["genotype"]) == zoo_genotype("pnasnet-5")
    assert ran.json["files"] == []


def test_the_examples_of_the_help_work(nascli: Nascli) -> None:
    Path("genotypes.py").write_text(f"{DARTS_V2}\nOTHER = {DARTS_V2.partition(' = ')[2]}\n", encoding="utf-8")
    examples = [example.removeprefix("nascli decode ") for example in decode.run.examples]
    assert len(examples) >= 4
    for example in examples:
        if "search/latest" not in example:
            assert nascli(*shlex.split(example)).code == 0, example
    (tokens,) = (example for example in examples if "--tokens" in example)
    hashed = nascli(*shlex.split(tokens), "--json").json["canonical_hash"]
    assert hashed == zoo_genotype("darts-v2").canonical_hash()


def test_help_shows_brackets_and_loads_neither_torch_nor_matplotlib(nascli: Nascli) -> None:
    ran = nascli("--help")
    assert ran.code == 0
    assert "h[i-1]" in ran.out
    code = "import sys, nascli.cli.decode; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(decode.__file__).parents[2], timeout=120)
