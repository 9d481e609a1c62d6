"""`nascli decode` of search runs and of tokens."""

import re
from pathlib import Path

import pytest

from nascli.config import CellSpaceConfig
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.space import ENAS, resolve_cell_space
from nascli.genotype.genotype import read_genotype
from tests.cli.decode_program import ENAS_TOKENS, Nascli, search_run
from tests.published import published_cell


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n"])
def test_tokens_are_decoded_however_they_are_separated(nascli: Nascli, separator: str) -> None:
    text = separator.join(map(str, ENAS_TOKENS))
    ran = nascli("--tokens", f"[{text}]", "--space", "enas", "--json")
    expected = ENAS.decode(ENAS_TOKENS)
    assert CellGenotype.model_validate(ran.json["genotype"]) == expected
    assert ran.json["tokens"] == list(ENAS_TOKENS)
    assert ran.json["tokens_reason"] is None


def test_the_tokens_that_are_shown_decode_to_the_same_cells(nascli: Nascli) -> None:
    shown = re.search(r"^tokens  (\S+)$", nascli("darts-v2").out, re.MULTILINE)
    assert shown is not None
    again = nascli("--tokens", shown[1], "--space", "darts", "--json").json["genotype"]
    assert CellGenotype.model_validate(again).normal == published_cell("darts-v2").normal
    assert CellGenotype.model_validate(again).reduction == published_cell("darts-v2").reduction


def test_the_command_offered_after_tokens_writes_the_cell(nascli: Nascli) -> None:
    offered = nascli("--tokens", ",".join(map(str, ENAS_TOKENS)), "--space", "enas").next
    assert offered[:2] == ["nascli", "decode"]
    assert nascli(*offered[2:]).next == ["nascli", "build", "--cell", "decoded.json"]
    assert read_genotype(Path("decoded.json")) == ENAS.decode(ENAS_TOKENS)


def test_why_a_genotype_has_no_tokens_is_said(nascli: Nascli) -> None:
    ran = nascli("nasnet-a", "--json")
    assert ran.json["tokens"] is None
    assert "normal.concat is [0, 2, 3, 4, 5, 6]" in ran.json["tokens_reason"]
    assert "normal.concat" in nascli("nasnet-a").out


def test_a_run_means_its_best_cell(nascli: Nascli) -> None:
    folder = search_run(ENAS, CellSpaceConfig(name="enas"))
    for source in (folder, "latest"):
        ran = nascli(source, "--json")
        assert CellGenotype.model_validate(ran.json["genotype"]) == published_cell("enas")
        assert ran.next == ["nascli", "build", "--cell", str(folder)]


def test_a_trial_comes_with_its_provenance(nascli: Nascli) -> None:
    folder = search_run(ENAS, CellSpaceConfig(name="enas"), best=False)
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
    folder = search_run(ENAS, CellSpaceConfig(name="enas"))
    ran = nascli(folder, "--trial", trial, "--json")
    assert words in ran.err
    assert ran.json["genotype"]["provenance"]["trial"] == trial
    assert "reward" not in ran.json["genotype"]["provenance"]
    assert ran.next == ["nascli", "decode", str(folder), "--trial", str(trial), "--out", f"trial-{trial}.json"]


def test_a_trial_of_a_space_of_ones_own_has_tokens(nascli: Nascli) -> None:
    config = CellSpaceConfig(name="mine", ops=("identity", "conv_3x3"), blocks=2)
    space = resolve_cell_space(config)
    folder = search_run(space, config)
    ran = nascli(folder, "--trial", 1, "--out", "mine.json", "--json")
    assert ran.json["tokens"] == [size - 1 for size in space.decision_sizes]
    alone = nascli("mine.json", "--json").json
    assert alone["tokens"] is None
    assert "space 'mine' is none of nasnet, enas, darts" in alone["tokens_reason"]


def test_best_json_is_found_in_the_newest_run(nascli: Nascli) -> None:
    folder = search_run(ENAS, CellSpaceConfig(name="enas"))
    ran = nascli("best.json", "--json")
    assert ran.json["genotype"]["name"] == "enas"
    assert str(folder) in ran.err


def test_a_trial_out_of_range_names_the_range(nascli: Nascli) -> None:
    folder = search_run(ENAS, CellSpaceConfig(name="enas"))
    for trial in (3, -1):
        ran = nascli(folder, "--trial", trial)
        assert ran.code == 2
        assert "It has the trials 0 to 2" in ran.err
