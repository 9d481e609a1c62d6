"""Tables of others as CSV files: what is read of them, what is refused, and searches on them."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from nascli.config import SearchRecipe, TableConfig
from nascli.errors import InputError, NascliError
from nascli.genotype.edges.space import NAS_BENCH_201 as SPACE
from nascli.genotype.notations import write_notation
from nascli.genotype.space import resolve_space
from nascli.search.builders import open_table
from nascli.search.evaluators.csv_table import read_csv_table
from nascli.search.evaluators.tabular import TabularBenchmark, TabularEvaluator
from nascli.search.journal import read_trials
from nascli.search.trial import Trial
from tests.cli.program import exit_code, write_images

ROWS = """ops,first_accuracy,second_accuracy_1,second_accuracy_2,phone_ms,chip_us,flops,params
210101,50.5,60,61,1.5,20,900,30
202101,55,,62,2,,800,31
020110,57,,,4,50,700,40
222222,90,91,92,8,80,1000,50
111111,10,10,10,1,10,0,20
"""
"""The first and the third are one network, with other numbers of its nodes."""


def read(text: str = ROWS, **columns: str) -> TabularBenchmark:
    Path("table.csv").write_text(text, encoding="utf-8")
    return read_csv_table(Path("table.csv"), SPACE, TableConfig(**columns))


def hash_of(digits: str) -> str:
    return SPACE.decode([int(digit) for digit in digits]).canonical_hash()


def test_rows_of_equal_networks_are_trainings_of_one() -> None:
    table = read(latency="phone_ms")
    assert len(table) == 4
    row = table.row(hash_of("020110"))
    assert row == table.row(hash_of("210101"))
    assert table.accuracies[row].tolist() == [0.505, 0.57]
    assert table.means[row] == pytest.approx(0.5375)
    assert table.latencies[row] == pytest.approx(0.00275)
    assert (table.params[row], table.mult_adds[row]) == (30, 700)
    assert table.counts.tolist() == [2, 1, 1, 1]
    assert table.best == hash_of("222222")
    evaluator, genotype = TabularEvaluator(table), SPACE.decode([0, 2, 0, 1, 1, 0])
    scores = [evaluator.evaluate(genotype, seed) for seed in range(20)]
    assert {score.accuracy for score in scores} == {0.505, 0.57}
    assert {score.latency.conditions for score in scores if score.latency} == {"phone_ms, from the table"}
    assert {evaluator.evaluate(table.genotype(hash_of("111111")), seed).accuracy for seed in range(9)} == {0.1}
    with pytest.raises(InputError, match="not in the table"):
        evaluator.evaluate(SPACE.decode([3] * 6), 0)


def test_columns_are_chosen_by_name_and_networks_without_their_accuracy_are_left_out() -> None:
    table = read(accuracy="second_accuracy", latency="chip_us")
    assert table.accuracies[table.row(hash_of("210101"))].tolist() == [0.6, 0.61]
    assert table.counts[table.row(hash_of("202101"))] == 1
    assert table.latencies[table.row(hash_of("222222"))] == pytest.approx(8e-5)
    assert np.isnan(table.latencies[table.row(hash_of("202101"))])
    single = read(accuracy="second_accuracy_2")
    assert single.accuracies[single.row(hash_of("210101"))].tolist() == [0.61]
    assert len(read(ROWS.replace("020110,57", "020110,"))) == 4
    without = read(ROWS.replace("202101,55", "202101,"))
    assert hash_of("202101") not in without
    assert not without.has("latency")
    assert without.has("params")


def test_shares_tokens_between_spaces_strings_and_a_mark_of_the_encoding_are_read() -> None:
    string = write_notation(SPACE.decode([2, 1, 0, 1, 0, 1]), "nas-bench-201")
    table = read(f"\ufeffarch,accuracy\n{string},0.5\n2 2 2 2 2 2,0.9\n\n'111111',0.1\n".replace("'", '"'))
    assert [table.mean_accuracy(hash_of(each)) for each in ("210101", "222222", "111111")] == [0.5, 0.9, 0.1]


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("", {}, "no column with accuracy"),
        (ROWS.replace("210101", "210105"), {}, "line 2.*token 5 is 5"),
        (ROWS.replace("222222", "22222"), {}, "line 5.*5 tokens"),
        (ROWS.replace("222222", "cell five"), {}, "line 5.*neither tokens"),
        (ROWS.replace("222222", "|max~0|+|max~0|max~1|+|max~0|max~1|max~2|"), {}, "line 5.*max"),
        (ROWS + "222222,1,2,3,4,5,6,7\n", {}, "line 7.*222222 stands in line 5"),
        (ROWS.replace("90,91", "90;91"), {}, "line 5 has 7 fields"),
        (ROWS.replace(",90,", ",ninety,"), {}, "line 5, column first_accuracy.*ninety"),
        (ROWS.replace(",90,", ",nan,"), {}, "line 5, column first_accuracy"),
        (ROWS.replace(",90,", ",inf,"), {}, "line 5, column first_accuracy"),
        (ROWS.replace(",90,", ",-1,"), {}, "line 5, column first_accuracy"),
        (ROWS.replace(",90,", ",901,"), {}, "an accuracy is 901"),
        (ROWS.replace(",8,80", ",inf,80"), {"latency": "phone_ms"}, "line 5, column phone_ms"),
        (ROWS.replace("flops", "params"), {}, "'params' twice"),
        (ROWS.replace("210101,50.5", '210101,"50.5'), {}, "line"),
        (ROWS.splitlines()[0], {}, "no row with an accuracy"),
        (ROWS, {"accuracy": "third_accuracy"}, r"table\.accuracy.*no such column"),
        (ROWS, {"latency": "tablet_ms"}, r"table\.latency.*phone_ms"),
        (ROWS, {"latency": "params"}, r"table\.latency.*no unit"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, columns: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=rf"(?s){said}") as raised:
        read(text, **columns)
    assert "table.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"objective": {"quantity": "latency", "target": "2ms"}}, r"no latency that is read.*table\.latency"),
        ({"search": {"strategy": "nsga2"}, "table": {"latency": "empty_ms"}}, "nsga2.*no latency"),
        ({"space": {"name": "nasnet"}}, "40 decisions|50 decisions"),
    ],
)
def test_a_table_without_what_the_search_asks_for_is_refused(values: dict[str, dict[str, str]], said: str) -> None:
    Path("table.csv").write_text("ops,accuracy,empty_ms\n222222,90,\n")
    merged = {"space": {"name": "nas-bench-201"}, **values}
    merged["search"] = {"evaluator": "table:table.csv", **values.get("search", {})}
    recipe = SearchRecipe.model_validate(merged)
    with pytest.raises(NascliError, match=rf"(?s){said}"):
        open_table(recipe, resolve_space(recipe.space))


RECIPE = """
[data]
dataset = "folder:images"
[space]
family = "edges"
name = "two-ops"
ops = ["none", "nor_conv_1x1"]
[search]
evaluator = "table:table.csv"
strategy = "evolution"
trials = 60
workers = 1
[evolution]
population = 8
[table]
latency = "phone_ms"
[objective]
quantity = "latency"
target = "8ms"
"""


def lasting(trial: Trial) -> Trial:
    """A trial without its seconds."""
    return replace(trial, score=trial.score and replace(trial.score, seconds=0.0))


def test_a_search_is_killed_and_resumed_and_its_cell_is_built_and_trained(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["tokens,accuracy,phone_ms"]
    lines += [f"{''.join(ops)},{70 + 3 * k % 29},{2 + ops.count('1')}" for k, ops in enumerate(product("01", repeat=6))]
    Path("table.csv").write_text("\n".join(lines))
    Path("recipe.toml").write_text(RECIPE)
    assert exit_code("search", "--recipe", "recipe.toml", "--out", "whole", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cost_is"] == "latency"
    assert found["best"]["latency"]["seconds"] < 0.009
    inputs = json.loads(Path("whole/run.json").read_text())["inputs"]
    assert str(Path("table.csv").absolute()) in inputs

    shutil.copytree("whole", "killed")
    events = Path("whole/trials.jsonl").read_bytes().splitlines(keepends=True)
    Path("killed/trials.jsonl").write_bytes(b"".join(events[:41]))
    text = Path("table.csv").read_text()
    Path("table.csv").write_text(text.replace("70,2", "71,2"))
    assert exit_code("search", "--resume", "killed") == 2
    assert "table.csv is not the file" in capsys.readouterr().err
    Path("table.csv").write_text(text)
    assert exit_code("search", "--resume", "killed") == 0
    whole, killed = (read_trials(Path(run, "trials.jsonl")) for run in ("whole", "killed"))
    assert [(t.tokens, t.reward, t.duplicate_of) for t in killed] == [
        (t.tokens, t.reward, t.duplicate_of) for t in whole
    ]

    write_images(Path("images"), count=8)
    assert exit_code("decode", "whole", "--out", "cell.json", "--draw", "cell.svg") == 0
    assert exit_code("build", "--cell", "cell.json", "--filters", "4", "--cells-per-stage", "1") == 0
    options = (
        "--dataset folder:images --epochs 1 --batch-size 12 --filters 4 --cells-per-stage 1 --seed 0 --out trained"
    )
    assert exit_code("train", "--cell", "cell.json", *options.split()) == 0


def test_a_network_that_the_device_cannot_compute_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["tokens,accuracy,phone_ms"]
    lines += [f"{''.join(ops)},{70 + ops.count('1')},{-1 if ops[0] == '1' else 2}" for ops in product("01", repeat=6)]
    Path("table.csv").write_text("\n".join(lines))
    Path("recipe.toml").write_text(RECIPE)
    assert exit_code("search", "--recipe", "recipe.toml", "--strategy", "exhaustive", "--out", "run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rejected"] > 0
    assert found["failed"] == 0
    for trial in read_trials(Path("run/trials.jsonl")):
        assert trial.scored == (trial.score is not None and trial.score.latency is not None)
    assert exit_code("search", "--recipe", "recipe.toml", "--strategy", "nsga2", "--out", "both") == 0
