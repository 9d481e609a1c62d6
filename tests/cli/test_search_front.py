"""`nascli search --strategy nsga2` on a table: the front that it ends with, killed and resumed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nascli.config import CellSpaceConfig, to_toml
from nascli.genotype.cells.space import resolve_cell_space
from nascli.genotype.genotype import read_genotype
from nascli.search.evaluators.tabular import write_table
from nascli.search.front import Point, hypervolume, worst_of
from nascli.search.journal import read_trials
from tests.cli.program import exit_code
from tests.search.trained_trials import RECIPE, trained

SPACE = CellSpaceConfig(
    name="toy-2", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=2, inputs="distinct", cells="one"
)
TRIALS = 60


@pytest.fixture
def points() -> list[Point]:
    """Accuracy and mult-adds of every network in `cells.h5`, the recipe of whose space is `toy.toml`."""
    recipe = to_toml(RECIPE.model_copy(update={"space": SPACE}))
    Path("toy.toml").write_text(recipe)
    trials = []
    for trial in trained(resolve_cell_space(SPACE), seeds=1):
        assert trial.score is not None
        mult_adds = 1000 + 100 * trial.genotype.to_json().count("sep_conv") + int(trial.hash[:2], 16) // 8
        trials.append(replace(trial, score=replace(trial.score, mult_adds=mult_adds)))
    write_table(Path("cells.h5"), trials, recipe_toml=recipe)
    return [Point(trial.score.accuracy or 0.0, trial.score.mult_adds) for trial in trials if trial.score]


def search(*arguments: str) -> int:
    options = ["--recipe", "toy.toml", "--evaluator", "table:cells.h5", "--strategy", "nsga2", "--workers", "1"]
    return exit_code("search", *options, "--trials", str(TRIALS), *arguments)


def test_a_search_for_the_front_finds_it_and_resumes_bit_for_bit(
    points: list[Point], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--out", "whole", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    reached = hypervolume([Point(each["accuracy"], each["cost"]) for each in found["front"]], worst_of(points))
    assert len(points) > 2 * TRIALS
    assert reached > 0.95 * hypervolume(points, worst_of(points))
    assert found["cost_is"] == "mult_adds"
    shutil.copytree("whole", "run")
    lines = Path("whole/trials.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/trials.jsonl").write_bytes(b"".join(lines[:61]))
    shutil.rmtree("run/front")
    assert exit_code("search", "--resume", "run") == 0
    whole, resumed = (read_trials(Path(name, "trials.jsonl")) for name in ("whole", "run"))
    assert [(t.tokens, t.reward) for t in resumed] == [(t.tokens, t.reward) for t in whole]
    names = sorted(file.name for file in Path("whole/front").iterdir())
    assert sorted(file.name for file in Path("run/front").iterdir()) == names
    for name, each in zip(names, found["front"], strict=True):
        genotype = read_genotype(Path("run/front", name))
        assert (genotype.canonical_hash(), genotype.provenance["cost"]) == (each["hash"], each["cost"])
