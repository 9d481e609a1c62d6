"""The benchmark of the objective, on a table small enough to search it whole."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import objective
import pytest
from objective import OpenTable, list_variants, quartiles, search, weigh

from nascli.config import TableConfig
from nascli.genotype.mobile.space import MobileSpace
from nascli.search.evaluators.csv_table import read_csv_table
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.front import Point

SCRIPT = Path(objective.__file__)


SPACE = MobileSpace(
    name="widths",
    stem=16,
    strides=(1, 1, 1, 1),
    ops=("conv",),
    kernels=(3,),
    se=(0,),
    skips=("none",),
    filters=((8, 16, 24),) * 4,
    layers=((1,),) * 4,
)
"""Networks of four digits, the widths of their blocks."""


@pytest.fixture
def table(tmp_path: Path) -> TabularBenchmark:
    """All of the space: the larger the digits, the better and the dearer; the last digit is worth most."""
    lines = ["tokens,test_accuracy_1,test_accuracy_2,flops"]
    for digits in itertools.product(range(3), repeat=4):
        accuracy = 50 + sum((place + 1) * digit for place, digit in enumerate(digits))
        tokens = "".join(f"0000{digit}0" for digit in digits)
        lines.append(f"{tokens},{accuracy},{accuracy + 1},{100 * (1 + sum(digits))}")
    path = tmp_path / "networks.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_csv_table(path, SPACE, TableConfig())


def test_a_search_that_has_seen_all_hands_over_the_best_within_the_target_and_the_whole_front(
    table: TabularBenchmark,
) -> None:
    opened = OpenTable(table, table.mult_adds, "400")
    assert opened.best_within == pytest.approx((60.5 + 1) / 100)  # 0012: one step of the third digit, two of the last
    found = search(opened, "random", "none", [0, 1, 2], [20, 400])
    assert found.shape == (3, 2, 2)
    assert found[:, 0, 1] == pytest.approx([opened.best_within] * 3, abs=0.011)  # two trainings differ by 0.01
    assert found[:, 1, 1] == pytest.approx([1.0] * 3, abs=0.05)
    assert (found[:, 1, 0] < found[:, 1, 1]).all()


def test_a_target_can_be_a_share_of_the_networks(table: TabularBenchmark) -> None:
    opened = OpenTable(table, table.mult_adds, "25%")
    assert (opened.costs <= opened.target).mean() == pytest.approx(0.25, abs=0.15)


def test_the_reward_falls_with_the_cost_only_where_the_objective_says_so() -> None:
    cheap, dear = Point(0.5, 50), Point(0.5, 200)
    assert weigh("none", 100)(cheap) == weigh("none", 100)(dear) == 0.5
    assert weigh("hard", 100)(cheap) == 0.5
    assert weigh("hard", 100)(dear) == 0.25
    assert weigh("soft", 100)(cheap) == pytest.approx(0.5 * 2**0.07)
    assert weigh("soft", 100)(dear) == pytest.approx(0.5 * 2**-0.07)


def test_searches_that_found_nothing_count_as_the_worst() -> None:
    found = quartiles(np.array([0.4, np.nan, 0.2, 0.3, np.nan]))
    assert found == {"low": None, "median": 0.2, "high": 0.3}


def test_each_learning_strategy_searches_with_every_objective() -> None:
    variants = list(list_variants([], []))
    assert len(variants) == len(set(variants)) == 3 * 3 + 2
    assert list(list_variants(["nsga2"], [])) == [("nsga2", "none")]
    assert list(list_variants(["random", "bayesian"], ["soft"])) == [("random", "none"), ("bayesian", "soft")]


@pytest.mark.slow
def test_the_script_writes_its_figures(tmp_path: Path) -> None:
    """On a table of NAS-Bench-201's space, with a latency as cost: what has more convolutions is better and slower."""
    lines = ["tokens,accuracy,phone_ms"]
    for digits in itertools.product(range(5), repeat=6):
        convolutions = sum(digit in (2, 3) for digit in digits)
        lines.append(f"{''.join(map(str, digits))},{50 + 5 * convolutions},{1 + convolutions}")
    path = tmp_path / "networks.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["--space", "nas-bench-201", "--cost", "phone_ms", "--seeds", "12", "--trials", "60"]
    only = ["--only", "evolution", "--only", "nsga2", "--json", str(tmp_path / "new" / "out.json")]
    command = [sys.executable, str(SCRIPT), str(path), *options, *only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "new" / "out.json").read_text(encoding="utf-8"))
    assert [(each["strategy"], each["objective"]) for each in found["results"]] == [
        ("evolution", "none"),
        ("evolution", "soft"),
        ("evolution", "hard"),
        ("nsga2", "none"),
    ]
    assert all(set(each["hypervolume"]) == {"50", "60"} for each in found["results"])
    assert 0 < found["results"][3]["hypervolume"]["60"]["median"] <= 1
    assert found["searches"] == 12
