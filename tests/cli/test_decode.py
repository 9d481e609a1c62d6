"""`nascli decode` as a person uses it: real files in, files and words out."""

import io
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nascli.artifacts import create_run
from nascli.cli import decode
from nascli.cli.app import main
from nascli.config import SearchRecipe, SpaceConfig, TrainRecipe
from nascli.genotype.canonical import canonical, canonical_hash
from nascli.genotype.encoding import decode_tokens
from nascli.genotype.schema import CellSpec, Genotype, read_genotype
from nascli.genotype.sources import zoo_genotype, zoo_names
from nascli.genotype.space import ENAS, SearchSpace, resolve_space
from nascli.search.journal import Failed, Finished, Journal, Proposed
from nascli.search.trial import FailureKind

DARTS_V2 = (
    "DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
ENAS_ARC = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
ENAS_TOKENS = tuple(k % min(size, 2) for k, size in enumerate(ENAS.decision_sizes))


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def next(self) -> list[str]:
        """The arguments of the command that is offered next."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("next: "))
        return shlex.split(line.removeprefix("next: "))

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)


class Nascli:
    """The program, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        with pytest.raises(SystemExit) as left:
            main(["decode", *map(str, arguments)])
        captured = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


def search_run(space: SearchSpace, config: SpaceConfig, *, best: bool = True) -> Path:
    """A search run under `runs`: trial 0 failed, trial 1 has a reward, trial 2 runs."""
    tokens = tuple(size - 1 for size in space.decision_sizes)
    genotype = decode_tokens(tokens, space, "tried")
    with create_run("search", "digits-random", SearchRecipe(space=config), runs=Path("runs").resolve()) as run:
        with Journal(run.file("trials.jsonl")) as journal:
            for trial in range(3):
                journal.append(
                    Proposed(
                        trial=trial,
                        tokens=tokens,
                        genotype=genotype,
                        hash=canonical_hash(genotype),
                        seed=trial,
                        repeat_of=None,
                    )
                )
            journal.append(Failed(trial=0, kind=FailureKind.DIVERGED, error="loss is nan", reward=0.0))
            journal.append(Finished(trial=1, reward=0.75, accuracy=0.75, params=10, mult_adds=20, seconds=1.5))
        if best:
            run.file("best.json").write_text(zoo_genotype("enas").to_json(), encoding="utf-8")
        return run.path


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
    genotype = zoo_genotype("enas")
    lame = genotype.model_copy(update={"normal": CellSpec(blocks=genotype.normal.blocks, concat=(2,))})
    Path("lame.json").write_text(lame.to_json(), encoding="utf-8")
    shown = nascli("lame.json").out
    assert shown.count("dead: reaches no output") == 4
    ran = nascli("lame.json", "--canonical", "--out", "fit.json", "--json")
    assert read_genotype(Path("fit.json")) == canonical(lame)
    assert ran.json["canonical_hash"] == canonical_hash(lame)
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
        assert canonical_hash(zoo_genotype(name)) in rows[name]
        assert zoo_genotype(name).space in rows[name]
    listed = nascli("--list", "--json").json["zoo"]
    assert [cell["name"] for cell in listed] == list(zoo_names())
    assert all(cell["source"] and cell["blocks"] for cell in listed)


@pytest.mark.parametrize("suffix", ["svg", "png", "dot", "mmd"])
def test_each_format_is_drawn(nascli: Nascli, suffix: str) -> None:
    begins = {"svg": b"<svg ", "png": b"\x89PNG", "dot": b'digraph "darts-v2"', "mmd": b'---\ntitle: "darts-v2"'}
    ran = nascli("darts-v2", "--draw", f"pictures/cell.{suffix}")
    assert ran.code == 0
    assert Path(f"pictures/cell.{suffix}").read_bytes().startswith(begins[suffix])
    assert f"wrote pictures/cell.{suffix}" in ran.err


def test_out_and_several_pictures_in_one_call(nascli: Nascli) -> None:
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


def test_a_name_goes_into_file_and_picture(nascli: Nascli) -> None:
    nascli("darts-v2", "--name", "[bold]mine", "--out", "cell.json", "--draw", "cell.svg")
    assert read_genotype(Path("cell.json")).name == "[bold]mine"
    assert "[bold]mine" in Path("cell.svg").read_text(encoding="utf-8")
    assert nascli("cell.json").out.startswith("[bold]mine ")


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n"])
def test_tokens_are_decoded_however_they_are_separated(nascli: Nascli, separator: str) -> None:
    text = separator.join(map(str, ENAS_TOKENS))
    ran = nascli("--tokens", f"[{text}]", "--space", "enas", "--json")
    expected = decode_tokens(ENAS_TOKENS, ENAS)
    assert Genotype.model_validate(ran.json["genotype"]) == expected
    assert ran.json["tokens"] == list(ENAS_TOKENS)
    assert ran.json["tokens_reason"] is None


def test_the_tokens_that_are_shown_decode_to_the_same_cells(nascli: Nascli) -> None:
    shown = re.search(r"^tokens  (\S+)$", nascli("darts-v2").out, re.MULTILINE)
    assert shown is not None
    again = nascli("--tokens", shown[1], "--space", "darts", "--json").json["genotype"]
    assert Genotype.model_validate(again).normal == zoo_genotype("darts-v2").normal
    assert Genotype.model_validate(again).reduction == zoo_genotype("darts-v2").reduction


def test_the_command_offered_after_tokens_writes_the_cell(nascli: Nascli) -> None:
    offered = nascli("--tokens", ",".join(map(str, ENAS_TOKENS)), "--space", "enas").next
    assert offered[:2] == ["nascli", "decode"]
    assert nascli(*offered[2:]).next == ["nascli", "build", "--cell", "decoded.json"]
    assert read_genotype(Path("decoded.json")) == decode_tokens(ENAS_TOKENS, ENAS)


def test_why_a_genotype_has_no_tokens_is_said(nascli: Nascli) -> None:
    ran = nascli("nasnet-a", "--json")
    assert ran.json["tokens"] is None
    assert "normal.concat is [0, 2, 3, 4, 5, 6]" in ran.json["tokens_reason"]
    assert "normal.concat" in nascli("nasnet-a").out


def test_json_is_one_object_alone_on_stdout(nascli: Nascli) -> None:
    ran = nascli("pnasnet-5", "--json")
    assert set(ran.json) == {"genotype", "canonical_hash", "tokens", "tokens_reason", "notation_text", "files"}
    assert ran.json["notation_text"] is None
    assert Genotype.model_validate(ran.json["genotype"]) == zoo_genotype("pnasnet-5")
    assert ran.json["files"] == []


def test_a_run_means_its_best_cell(nascli: Nascli) -> None:
    folder = search_run(ENAS, SpaceConfig(name="enas"))
    for source in (folder, "latest"):
        ran = nascli(source, "--json")
        assert Genotype.model_validate(ran.json["genotype"]) == zoo_genotype("enas")
        assert ran.next == ["nascli", "build", "--cell", str(folder)]


def test_a_trial_comes_with_its_provenance(nascli: Nascli) -> None:
    folder = search_run(ENAS, SpaceConfig(name="enas"), best=False)
    ran = nascli("latest", "--trial", 1, "--out", "trial.json", "--draw", "trial.svg", "--json")
    genotype = read_genotype(Path("trial.json"))
    assert genotype.provenance["search_run"] == str(folder)
    assert genotype.provenance["trial"] == 1
    assert genotype.provenance["reward"] == 0.75
    assert ran.json["tokens"] == [size - 1 for size in ENAS.decision_sizes]
    assert "trial 1 · reward 0.75" in Path("trial.svg").read_text(encoding="utf-8")
    assert ran.next == ["nascli", "build", "--cell", "trial.json"]


@pytest.mark.parametrize(
    ("trial", "words"), [(0, "trial 0 is failed, so it has no reward: loss is nan"), (2, "running")]
)
def test_a_trial_without_a_reward_says_why(nascli: Nascli, trial: int, words: str) -> None:
    folder = search_run(ENAS, SpaceConfig(name="enas"))
    ran = nascli(folder, "--trial", trial, "--json")
    assert words in ran.err
    assert ran.json["genotype"]["provenance"]["trial"] == trial
    assert "reward" not in ran.json["genotype"]["provenance"]
    assert ran.next == ["nascli", "decode", str(folder), "--trial", str(trial), "--out", f"trial-{trial}.json"]


def test_a_trial_of_a_space_of_ones_own_has_tokens(nascli: Nascli) -> None:
    config = SpaceConfig(name="mine", ops=("identity", "conv_3x3"), blocks=2)
    space = resolve_space(config)
    folder = search_run(space, config)
    ran = nascli(folder, "--trial", 1, "--out", "mine.json", "--json")
    assert ran.json["tokens"] == [size - 1 for size in space.decision_sizes]
    alone = nascli("mine.json", "--json").json
    assert alone["tokens"] is None
    assert "space 'mine' is none of nasnet, enas, darts" in alone["tokens_reason"]


def test_best_json_is_found_in_the_newest_run(nascli: Nascli) -> None:
    folder = search_run(ENAS, SpaceConfig(name="enas"))
    ran = nascli("best.json", "--json")
    assert ran.json["genotype"]["name"] == "enas"
    assert str(folder) in ran.err


def test_the_examples_of_the_help_work(nascli: Nascli) -> None:
    Path("genotypes.py").write_text(f"{DARTS_V2}\nOTHER = {DARTS_V2.partition(' = ')[2]}\n", encoding="utf-8")
    examples = re.findall(r"^ +nascli decode (.+)$", decode.run.__doc__ or "", re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        if "search/latest" not in example:
            assert nascli(*shlex.split(example)).code == 0, example
    (tokens,) = (example for example in examples if "--tokens" in example)
    hashed = nascli(*shlex.split(tokens), "--json").json["canonical_hash"]
    assert hashed == canonical_hash(zoo_genotype("darts-v2"))


def test_help_shows_brackets_and_loads_neither_torch_nor_matplotlib(nascli: Nascli) -> None:
    ran = nascli("--help")
    assert ran.code == 0
    assert "h[i-1]" in ran.out
    code = "import sys, nascli.cli.decode; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(decode.__file__).parents[2], timeout=120)


@pytest.mark.parametrize("given", ["text", "file", "stdin"])
def test_a_darts_genotype_is_seen_wherever_it_stands(
    nascli: Nascli, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("found.txt").write_text(f"epoch 49\n{DARTS_V2}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(DARTS_V2))
    ran = nascli({"text": DARTS_V2, "file": "found.txt", "stdin": "-"}[given], "--json")
    genotype = Genotype.model_validate(ran.json["genotype"])
    assert canonical_hash(genotype) == canonical_hash(zoo_genotype("darts-v2"))
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
        ran = nascli(source, "--notation", "enas", "--json")
        assert ran.json["canonical_hash"] == canonical_hash(zoo_genotype("enas"))
    assert ran.json["genotype"]["name"] == "final"


def test_genotype_json_comes_through_a_pipe_too(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(zoo_genotype("enas").to_json()))
    assert nascli("-", "--json").json["genotype"]["name"] == "enas"


@pytest.mark.parametrize(
    ("cell", "notation"),
    [("darts-v2", "darts"), ("darts-v2", "nni"), ("nasnet-a", "slim"), ("enas", "enas"), ("enas", "naonet")],
)
def test_stdout_is_the_notation_alone_and_reads_back(
    nascli: Nascli, cell: str, notation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ran = nascli(cell, "--as", notation)
    Path("said").write_text(ran.out, encoding="utf-8")
    again = nascli("said", "--notation", notation, "--json")
    assert again.json["canonical_hash"] == canonical_hash(zoo_genotype(cell))
    as_json = nascli(cell, "--as", notation, "--json").json
    assert as_json["notation_text"].strip() == ran.out.strip()
    assert as_json["genotype"]["name"] == cell


def prepare() -> None:
    """What the wrong usages stumble over."""
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
        ("nasnet-b", 2, "Did you mean nasnet-a?"),
        ("none.json", 2, "none.json: No such file"),
        ("torn.json", 1, "torn.json is not JSON"),
        ("list.json", 2, "not a genotype"),
        ("newer.json", 2, "schema 99 is newer"),
        ("0,1,2,3", 2, "Give them as --tokens"),
        ("'0 1 2 3'", 2, "--notation enas or naonet"),
        ("arc.txt", 2, "arc.txt: neither genotype JSON nor a notation that shows itself"),
        ("arc.txt --notation darts", 2, "arc.txt: no Genotype(...) in the text"),
        ("arc.txt --notation emas", 2, "Did you mean enas?"),
        ("arc.txt --notation enas --pick X", 2, "--pick chooses one genotype of a DARTS text"),
        ("arc.txt --notation enas --space enas", 2, "there are no --tokens"),
        ("two.py", 2, "Choose one with --pick NAME"),
        ("two.py --pick C", 2, "two.py: no genotype 'C' in the text. Known: DARTS_V2, B"),
        ("empty --notation darts", 2, "empty is a run folder"),
        ("--tokens 1,2 --notation darts", 2, "how to read SOURCE"),
        ("nasnet-a --as nni --out cell.json", 2, "none of NNI's spaces"),
        ("nasnet-a --as nnni", 2, "Did you mean nni?"),
        ("--list --as darts", 2, "--list shows the zoo and decodes nothing"),
        ("--tokens 1,x", 2, "'x'"),
        ("--tokens 1,2", 2, "2 tokens, but space 'nasnet' has 50 decisions"),
        ("--tokens ''", 2, "0 tokens"),
        ("--tokens 1,2 --space nasnett", 2, "Did you mean nasnet?"),
        (f"--tokens {','.join(['9'] * 50)}", 2, "token 0 is 9"),
        ("latest", 2, "nascli search makes one"),
        ("empty", 2, "empty: not a run folder"),
        ("empty --trial 0", 2, "nascli search makes a run with this file"),
        ("trained", 2, "trained is a run of nascli train, not of nascli search"),
        ("begun", 2, "no trial has finished yet"),
        ("begun --trial 0", 2, "It has none yet"),
        ("damaged --trial 0", 1, "trials.jsonl, line 1"),
        ("enas --draw cell.pdf", 2, ".svg, .png, .dot or .mmd"),
        ("enas --draw folder.svg --overwrite", 2, "folder.svg exists"),
        ("enas --out cell.svg", 2, "a genotype file ends in .json"),
        ("enas --out torn.json", 2, "replace it with --overwrite"),
        ("enas --out file/cell.json", 1, "file/cell.json cannot be written"),
        (f"enas --out {'x' * 300}.json", 1, "cannot be written: File name too long"),
        ("enas --name ''", 2, "--name has 0 letters"),
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


def test_a_trial_out_of_range_names_the_range(nascli: Nascli) -> None:
    folder = search_run(ENAS, SpaceConfig(name="enas"))
    for trial in (3, -1):
        ran = nascli(folder, "--trial", trial)
        assert ran.code == 2
        assert "It has the trials 0 to 2" in ran.err
