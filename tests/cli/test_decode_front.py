"""`nascli decode RUN --front`: the networks of a run that no other beats, as a table and as files."""

from pathlib import Path

import pytest

from nascli.genotype.cells.space import resolve_cell_space
from nascli.genotype.genotype import read_genotype
from nascli.runs.start import create_run
from nascli.search.journal import Finished, Journal, Proposed
from tests.cli.decode_program import Nascli
from tests.fakes import make_latency
from tests.report.search_runs import make_recipe, propose_trials


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


def search_run(figures: list[tuple[float, int, float]], **flags: object) -> Path:
    """A search run whose trials have these accuracies, mult-adds and latencies."""
    recipe = make_recipe(**flags)
    with create_run("search", "digits-random", recipe, runs=Path("runs").resolve()) as run:
        with Journal(run.file("trials.jsonl")) as journal:
            trials = propose_trials(resolve_cell_space(recipe.space), len(figures))
            for trial, (accuracy, mult_adds, seconds) in zip(trials, figures, strict=True):
                journal.append(Proposed.of(trial))
                sizes = {"params": 10, "mult_adds": mult_adds, "latency": make_latency(seconds)}
                journal.append(Finished(trial=trial.id, reward=0.1, accuracy=accuracy, seconds=1.0, **sizes))
        return run.path


def test_the_front_is_listed_and_each_network_gets_its_files(nascli: Nascli) -> None:
    run = search_run([(0.9, 900, 0.1), (0.5, 300, 0.2), (0.4, 400, 0.3), (0.7, 350, 0.4)])
    ran = nascli("latest", "--front", "--out", "new/cell.json", "--draw", "cell.svg", "--json")
    assert ran.code == 0
    found = ran.json
    assert (found["run"], found["cost_is"]) == (str(run), "mult_adds")
    assert [(each["trial"], each["accuracy"], each["cost"]) for each in found["front"]] == [
        (1, 0.5, 300),
        (3, 0.7, 350),
        (0, 0.9, 900),
    ]
    assert [each["files"] for each in found["front"]] == [
        [f"new/cell-{place:02d}.json", f"cell-{place:02d}.svg"] for place in (1, 2, 3)
    ]
    assert [each["latency"] for each in found["front"]] == [0.2, 0.4, 0.1]
    for place, each in enumerate(found["front"], start=1):
        genotype = read_genotype(Path(f"new/cell-{place:02d}.json"))
        assert genotype.canonical_hash() == each["hash"]
        assert genotype.provenance["cost"] == each["cost"]
        assert "<svg" in Path(f"cell-{place:02d}.svg").read_text(encoding="utf-8")
    assert ran.next == ["nascli", "build", "--cell", "new/cell-03.json"]


def test_the_table_shows_accuracies_and_costs_cheapest_first(nascli: Nascli) -> None:
    search_run([(0.9, 900, 0.1), (0.5, 300, 0.2)])
    lines = nascli("latest", "--front").out.splitlines()
    assert "2 networks" in lines[0]
    assert [line.split()[:2] for line in lines[2:4]] == [["1", "50.00"], ["0", "90.00"]]


def test_where_a_constraint_names_the_latency_it_is_the_cost(nascli: Nascli) -> None:
    search_run([(0.9, 900, 0.1), (0.5, 300, 0.2)], search__constraints=["latency < 1s"])
    found = nascli("latest", "--front", "--json").json
    assert [(each["trial"], each["cost"]) for each in found["front"]] == [(0, 0.1)]
    assert found["cost_is"] == "latency"


def test_nothing_is_written_where_one_of_the_files_exists(nascli: Nascli) -> None:
    search_run([(0.9, 900, 0.1), (0.5, 300, 0.2)])
    Path("cell-02.json").touch()
    ran = nascli("latest", "--front", "--out", "cell.json")
    assert ran.code == 2
    assert "cell-02.json exists" in ran.err
    assert not Path("cell-01.json").exists()
    assert nascli("latest", "--front", "--out", "cell.json", "--overwrite").code == 0
    assert read_genotype(Path("cell-02.json")).provenance["trial"] == 0


def test_under_an_objective_the_front_is_of_its_cost_and_shows_rewards(nascli: Nascli) -> None:
    goal = {"objective__quantity": "latency", "objective__target": "100ms"}
    search_run([(0.9, 900, 0.3), (0.5, 300, 0.1), (0.8, 100, 0.2)], **goal)
    lines = nascli("latest", "--front").out.splitlines()
    assert "accuracy and latency" in lines[0]
    assert lines[1].split() == ["trial", "proxy", "accuracy", "reward", "params", "mult-adds", "latency", "cell"]
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "0"]
    assert lines[2].split()[1:4] == ["50.00", "%", "0.1000"]
    nascli("latest", "--trial", 1, "--out", "one.json")
    provenance = read_genotype(Path("one.json")).provenance
    assert (provenance["reward"], provenance["accuracy"]) == (0.1, 0.5)
