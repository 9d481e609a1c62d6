"""A field of `run.json` of any other type: one line, and the other runs are shown all the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.config import SearchRecipe, load_recipe
from nascli.records import CHECKSUM
from nascli.runs.start import create_run
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.study import run_search
from nascli.signals import StopRequest
from tests.cli.program import Nascli
from tests.fakes import FakeEvaluator, Recorder

SPACE = {"name": "own", "ops": ["sep_conv_3x3", "identity"], "blocks": 1, "combines": ["add"]}
DEEP = "[" * 300 + "]" * 300
ODD = ("null", "true", "1", '"x"', "[1]", '{"a": 1}', "1e400", "7" * 5000, DEEP, "[" * 100_000)
"""JSON of every type, and what is too much of one."""

FIELDS = ("command", "status", "recipe", "results", "asked", "data", "inputs", "versions", "machine", "argv")
MORE = ("trials_changed", "start_weights", "host", "started", "finished", "error", "resumed", "start")
INNER = (("results", "best"), ("results", "seconds"), ("asked", "device"), ("recipe", "search"), ("recipe", "space"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two searches, `runs/search/odd` and `runs/search/whole`."""
    monkeypatch.chdir(tmp_path)
    for name in ("odd", "whole"):
        path = Path("runs/search", name)
        recipe = load_recipe(SearchRecipe, None, {"search.trials": 3, "space": SPACE})
        run = create_run("search", name, recipe, runs=Path("runs"), out=path)
        with run:
            executor = InProcessExecutor(FakeEvaluator())
            run_search(run, recipe, executor, stop=StopRequest(), observer=Recorder())
    return Path("runs/search/odd/run.json")


def replace_field(file: Path, keys: tuple[str, ...], text: str) -> None:
    """Put JSON text in place of a field; the checksum is removed, as the error of a changed file teaches."""
    values: dict[str, Any] = json.loads(file.read_text())
    values.pop(CHECKSUM, None)
    place = values
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = "HERE"
    file.write_text(json.dumps(values).replace('"HERE"', text, 1))


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    return Nascli(capsys)


@pytest.mark.parametrize("keys", [*((field,) for field in (*FIELDS, *MORE)), *INNER], ids=".".join)
def test_a_field_of_another_type_hides_no_run_and_is_no_traceback(
    runs: Path, nascli: Nascli, keys: tuple[str, ...]
) -> None:
    whole = runs.read_text()
    for text in ODD:
        runs.write_text(whole)
        replace_field(runs, keys, text)
        for command in ("runs runs --json", "status runs --json"):
            listed = nascli(command)
            assert listed.code == 0, listed.err
            assert {Path(each["path"]).name for each in listed.json["runs"]} == {"odd", "whole"}
    runs.write_text(whole)
    replace_field(runs, keys, "[1]")  # no field may be that
    for command in ("report", "search --resume"):
        done = nascli(f"{command} runs/search/odd")
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert (done.code, len(errors)) == (1, 1), done.err
        assert "run.json" in errors[0]
        assert keys[-1] in errors[0]


def test_a_recipe_that_was_changed_is_named_with_both_values(runs: Path, nascli: Nascli) -> None:
    recipe = runs.with_name("recipe.toml")
    recipe.write_text(recipe.read_text().replace("trials = 3", "trials = 8"))
    for command in ("search --resume runs/search/odd", "report runs/search/odd"):
        refused = nascli(command)
        assert refused.code == 2
        assert "recipe.toml: search.trials is 8" in refused.err
        assert "begun with 3" in refused.err
        assert "--recipe runs/search/odd/recipe.toml" in refused.err


def test_a_best_cell_that_was_changed_is_not_trained(runs: Path, nascli: Nascli) -> None:
    for file in (runs.with_name("best.json"), runs.parent / "top" / "01.json"):
        text = file.read_text()
        assert '"inputs": [' in text
        file.write_text(text.replace("sep_conv_3x3", "max_pool_3x3", 1).replace("identity", "max_pool_3x3", 1))
        refused = nascli(f"decode {file}")
        assert refused.code == 1
        assert CHECKSUM in refused.err
        lines = [line for line in file.read_text().splitlines() if f'"{CHECKSUM}"' not in line]
        file.write_text("\n".join(lines).replace("},\n}", "}\n}"))
        assert nascli(f"decode {file}").code == 0, "a change that is meant is taken without the line"


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_in_no_record(runs: Path, nascli: Nascli, number: str) -> None:
    replace_field(runs, ("results", "best"), number)
    replace_field(runs.with_name("best.json"), ("note",), number)
    for command in ("report runs/search/odd", "search --resume runs/search/odd", "decode runs/search/odd/best.json"):
        refused = nascli(command)
        assert (refused.code, "finite" in refused.err) == (1, True), refused.err
    assert nascli("runs runs").code == 0


@pytest.mark.parametrize(("network", "command"), [("classifier", "train"), ("detector", "detect")])
def test_a_key_that_may_change_is_told_of(
    network: str, command: str, nascli: Nascli, request: pytest.FixtureRequest
) -> None:
    """It was changed on purpose, or by a disk: the words are the same, as a note and where it makes an error."""
    folder = request.getfixturevalue(network)
    recipe = Path(folder, "recipe.toml")
    whole = recipe.read_text()
    recipe.write_text(whole.replace("max_megapixels = 300", "max_megapixels = 310"))
    ran = nascli(f"{command} --resume {folder}")
    assert (ran.code, "recipe.toml: data.max_megapixels is 310" in ran.err) == (0, True), ran.err
    assert "max_megapixels" not in nascli(f"{command} --resume {folder}").err  # it is the run's own value now
    recipe.write_text(whole.replace("/data", "/dat`"))
    ran = nascli(f"{command} --resume {folder} --json")
    assert (ran.code, "recipe.toml: data.dataset is" in ran.json["error"]["remedy"]) == (2, True), ran.err


@pytest.mark.parametrize(
    "content", ["{}", '{"network": "x", "checksum_": ""}', '{"command": ""}', '{"command": "trian"}']
)
def test_json_of_something_else_is_no_record(content: str, classifier: str, nascli: Nascli) -> None:
    Path(classifier, "run.json").write_text(content)
    ran = nascli(f"train --resume {classifier}")
    assert (ran.code in (1, 2), "run.json" in ran.err) == (True, True), ran.err
