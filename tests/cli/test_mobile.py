"""The family of mobile networks through `search`, `decode` and `report`: what is not asked of every family."""

import math
from pathlib import Path

import pytest

from nascli.genotype.mobile.space import MNASNET
from nascli.search.journal import read_trials
from tests.cli.program import Nascli

OWN = """
[data]
dataset = "digits"
[space]
family = "mobile"
name = "own"
stem = 8
strides = [1, 2]
ops = ["depthwise", "mbconv2"]
kernels = [3]
se = [0]
skips = ["identity", "none"]
filters = [[8], [8, 16]]
layers = [[1], [1, 2]]
[network]
head_filters = 16
[search]
strategy = "exhaustive"
evaluator = "params"
trials = 100
workers = 1
"""


def test_a_search_in_a_space_of_ones_own_tries_every_network_once_and_is_reported(nascli: Nascli) -> None:
    Path("own.toml").write_text(OWN)
    ran = nascli("search --recipe own.toml --out own --json")
    assert ran.code == 0, ran.err
    # block 1 as 2 ops with or without its input, block 2 with a skip where it has two layers: 2 * 2 * (2 * 2 * 3)
    hashes = [trial.hash for trial in read_trials(Path("own/trials.jsonl"))]
    assert len(hashes) == len(set(hashes)) == 48
    assert nascli("decode own").out.splitlines()[1].endswith("2 blocks")
    assert nascli("report own --json").code == 0
    page = Path("own/report.html").read_text(encoding="utf-8")
    for phrase in ("2 blocks, 12 decisions", "Squeeze-and-excitation", "MBConv2"):
        assert phrase in page


def test_the_space_makes_its_family_the_networks(nascli: Nascli) -> None:
    ran = nascli("search --space mnasnet --recipe digits --evaluator params --trials 2 --workers 1 --out run")
    assert ran.code == 0, ran.err
    assert "filters, cells_per_stage not used" in ran.err
    trials = read_trials(Path("run/trials.jsonl"))
    assert [len(MNASNET.encode(trial.genotype)) for trial in trials] == [42, 42]


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ("--evaluator one_shot", "search.evaluator = one_shot"),
        ("--filters 8", "network.filters"),
    ],
)
def test_what_mobile_networks_do_not_have_is_refused(nascli: Nascli, options: str, phrase: str) -> None:
    ran = nascli(f"search --space mnasnet --out run {options}")
    assert ran.code == 2
    assert phrase in ran.err
    assert "recipe digits-mnasnet" in ran.err
    assert not Path("run").exists()


def test_tokens_are_decoded(nascli: Nascli) -> None:
    tokens = [size - 1 for size in MNASNET.decision_sizes]
    ran = nascli(f"decode --space mnasnet --tokens {','.join(map(str, tokens))} --json")
    assert ran.json["tokens"] == tokens
    assert math.prod(block["layers"] for block in ran.json["genotype"]["blocks"]) == 2 * 3 * 4 * 5 * 4 * 4 * 2
    assert nascli("decode mnasnet-a1 --json").json["tokens_reason"].startswith("blocks[4].filters is 112")
