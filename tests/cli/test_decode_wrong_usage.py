"""Wrong uses of `nascli decode`: explained, and nothing written."""

import json
import shlex
from pathlib import Path

import pytest

from nascli.config import SearchRecipe, TrainRecipe
from nascli.genotype.resolve import zoo_genotype
from nascli.runs.start import create_run
from tests.cli.decode_program import DARTS_V2, ENAS_ARC, Nascli


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


def prepare() -> None:
    """The files that wrong usages name."""
    Path("folder.svg").mkdir()
    Path("empty").mkdir()
    Path("torn.json").write_text('{"schema": 1, "na', encoding="utf-8")
    Path("list.json").write_text("[1, 2]", encoding="utf-8")
    Path("file").touch()
    Path("arc.txt").write_text(ENAS_ARC, encoding="utf-8")
    Path("two.py").write_text(f"{DARTS_V2}\nB = {DARTS_V2.partition(' = ')[2]}", encoding="utf-8")
    newer = json.loads(zoo_genotype("enas").to_json()) | {"schema": 99}
    Path("newer.json").write_text(json.dumps(newer), encoding="utf-8")
    with create_run("train", "x", TrainRecipe(), runs=Path("runs"), out=Path("trained")):
        pass
    with create_run("search", "x", SearchRecipe(), runs=Path("runs"), out=Path("begun")) as run:
        run.file("trials.jsonl").touch()
    with create_run("search", "x", SearchRecipe(), runs=Path("runs"), out=Path("damaged")) as run:
        run.file("trials.jsonl").write_text('{"event": "proposed"}\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "nothing to decode"),
        ("enas --tokens 1,2", 2, "both enas and --tokens are given"),
        ("enas --space darts", 2, "there are no --tokens"),
        ("enas --trial 3", 2, "--trial 3 belongs to a search run"),
        ("enas --list", 2, "--list shows the zoo and decodes nothing"),
        ("--list --canonical", 2, "--list shows the zoo and decodes nothing"),
        ("nasnet-x", 2, "Did you mean nasnet-a?"),
        ("none.json", 2, "none.json: No such file"),
        ("torn.json", 1, "torn.json is not JSON"),
        ("list.json", 2, "not a genotype"),
        ("newer.json", 2, "schema 99 is newer"),
        ("0,1,2,3", 2, "Give them as --tokens"),
        ("'0 1 2 3'", 2, "--from enas or naonet"),
        ("arc.txt", 2, "arc.txt: neither genotype JSON nor a notation that shows itself"),
        ("arc.txt --from darts", 2, "arc.txt: no Genotype(...) in the text"),
        ("arc.txt --from emas", 2, "Did you mean enas?"),
        ("arc.txt --from enas --select X", 2, "--select chooses one genotype of a DARTS text"),
        ("arc.txt --from enas --space enas", 2, "there are no --tokens"),
        ("two.py", 2, "Choose one with --select NAME"),
        ("two.py --select C", 2, "two.py: no genotype 'C' in the text. Known: DARTS_V2, B"),
        ("empty --from darts", 2, "empty is a run folder"),
        ("--tokens 1,2 --from darts", 2, "how to read SOURCE"),
        ("nasnet-a --to nni --out cell.json", 2, "none of NNI's spaces"),
        ("nasnet-a --to nnni", 2, "Did you mean nni?"),
        ("--list --to darts", 2, "--list shows the zoo and decodes nothing"),
        ("--tokens 1,x", 2, "'x'"),
        ("--tokens 1,2", 2, "2 tokens, but space 'nasnet' has 50 decisions"),
        ("--tokens ''", 2, "--tokens is empty"),
        ("--tokens 1,2 --space nasnett", 2, "Did you mean nasnet?"),
        (f"--tokens {','.join(['9'] * 50)}", 2, "token 0 is 9"),
        ("latest", 2, "nascli search makes one"),
        ("empty", 2, "empty: not a run folder"),
        ("empty --trial 0", 2, "empty: not a run folder"),
        ("trained", 2, "trained is a run of nascli train, not of nascli search"),
        ("begun", 2, "no trial has finished yet"),
        ("begun --trial 0", 2, "It has none yet"),
        ("damaged --trial 0", 1, "trials.jsonl, line 1"),
        ("--front", 2, "--front belongs to a search run"),
        ("latest --front --trial 3", 2, "--trial is about one network"),
        ("begun --front", 2, "no trial has its result yet"),
        ("damaged --front", 1, "trials.jsonl, line 1"),
        ("enas --draw cell.pdf", 2, ".svg, .png, .dot or .mmd"),
        ("enas --draw folder.svg --overwrite", 2, "folder.svg exists"),
        ("enas --out cell.svg", 2, "a genotype file ends in .json"),
        ("enas --out torn.json", 2, "replace it with --overwrite"),
        ("enas --out file/cell.json", 1, "file cannot be written"),
        (f"enas --out {'x' * 300}.json", 1, "cannot be written: File name too long"),
        ("enas --name ''", 2, "--name is empty"),
        (f"enas --name {'x' * 201}", 2, "--name has 201 letters"),
    ],
)
def test_wrong_usage_is_explained(nascli: Nascli, line: str, code: int, words: str) -> None:
    prepare()
    before = sorted(Path().rglob("*"))
    ran = nascli(*shlex.split(line))
    assert ran.code == code, ran.err
    assert words in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert sorted(Path().rglob("*")) == before, "nothing is written"
