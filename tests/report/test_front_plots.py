"""Accuracy against cost in the report: random search at equal cost by brute force, and what the figures say."""

import itertools
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from nascli.genotype.cells.space import resolve_cell_space
from nascli.report.baseline import HIGH, LOW
from nascli.report.equal_cost import best_at_cost, hypervolume_band
from nascli.report.figures import report_style
from nascli.report.front_data import compare_at_target, select_main
from nascli.report.front_plots import plot_fronts, plot_hypervolume
from nascli.report.report import write_search_report
from nascli.report.search_data import read_search
from nascli.search import recorded
from nascli.search.front import Point, hypervolume, trace_hypervolume
from nascli.search.trial import Rung, Trial
from tests.fakes import make_latency
from tests.report.search_runs import SearchRuns, make_recipe, propose_trials, scored

POINTS = [Point(0.3, 4), None, Point(0.5, 2), Point(0.9, 7), Point(0.4, 2), Point(0.6, 5), Point(0.7, 9)]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchRuns:
    made = SearchRuns(tmp_path)
    monkeypatch.setattr(recorded, "read_trials", made.read)
    return made


@pytest.mark.parametrize("trials", range(1, 8))
def test_the_best_at_a_cost_is_the_mean_over_all_orderings(trials: int) -> None:
    band = best_at_cost(POINTS, trials)
    expected = {}
    for cost in sorted({point.cost for point in POINTS if point}):
        drawn = list(itertools.combinations(POINTS, trials))
        reached = [[point.accuracy for point in each if point and point.cost <= cost] for each in drawn]
        bests = sorted(max(each) for each in reached if each)
        if len(bests) >= (1 - LOW) * len(drawn) - 1e-9:
            low, high = (bests[math.ceil(q * len(bests) - 1e-9) - 1] for q in (LOW, HIGH))
            expected[cost] = (low, statistics.fmean(bests), high)
    if not expected:
        assert band is None
        return
    assert band is not None
    assert list(band.x) == list(expected)
    assert band.at(min(expected) - 1) is None
    for cost, (low, mean, high) in expected.items():
        found = band.at(cost)
        assert found is not None
        assert (found[0], found[2]) == (low, high)
        assert found[1] == pytest.approx(mean)
    assert band.at(1e9) == band.at(max(expected))


def test_the_hypervolume_band_ends_where_every_ordering_does() -> None:
    reference = Point(0.3, 9)
    known = [point for point in POINTS if point]
    band = hypervolume_band(POINTS, reference)
    assert len(band.x) == len(POINTS)
    assert band.low[-1] == band.high[-1] == hypervolume(known, reference)
    traces = [trace_hypervolume(each, reference) for each in itertools.permutations(POINTS)]
    for place, mean in enumerate(band.mean):
        assert mean == pytest.approx(statistics.fmean(trace[place] for trace in traces), abs=0.3)
    again = hypervolume_band(POINTS, reference)
    assert (band.mean == again.mean).all()


def timed(trial: Trial, accuracy: float, seconds: float, params: int = 1000) -> Trial:
    done = scored(trial, accuracy, params=params)
    assert done.score is not None
    return replace(done, score=replace(done.score, latency=make_latency(seconds)))


def test_figures_name_the_front_and_the_cost_that_counts_comes_first(runs: SearchRuns) -> None:
    recipe = make_recipe(search__strategy="ppo", search__constraints=["latency<1s"])
    space = resolve_cell_space(recipe.space)
    figures = [(0.7, 0.004, 900), (0.5, 0.003, 1100), (0.6, 0.005, 1000), (0.9, 0.02, 1200)]
    trials = [timed(trial, *each) for trial, each in zip(propose_trials(space, 4), figures, strict=True)]
    other = make_recipe(search__strategy="random", search__constraints=["latency<1s"])
    found = [timed(trial, 0.4 + trial.id / 100, 0.004 + trial.id / 1000) for trial in propose_trials(space, 9, 1)]
    data, random = (
        read_search(runs.search(name, each, made))
        for name, each, made in (("ppo", recipe, trials), ("random", other, found))
    )
    main = select_main(data, random)
    with report_style():
        fronts, volume = plot_fronts(main), plot_hypervolume(main)
    assert [figure.name for figure in fronts] == ["latency", "mult-adds", "params"]
    assert "on the front: trial 1 (50.00% at 3ms), trial 0 (70.00% at 4ms), trial 3 (90.00% at 20ms)" in fronts[0].alt
    assert "latency of one image" in fronts[0].svg
    assert "lower is better" in fronts[0].svg
    assert "best of 4 random networks at or under each cost" in fronts[0].caption
    assert "trial 0 (70.00%" in fronts[1].alt
    assert volume is not None
    assert "random search has" in volume.alt
    report = write_search_report(data.path)
    page = re.sub(r"\s+", " ", report.page.read_text(encoding="utf-8"))
    assert "best of 4 random ones at or under its cost" in page
    assert f"nascli decode {data.path} --front --out front.json" in page


def test_networks_that_were_stopped_early_are_not_drawn(runs: SearchRuns) -> None:
    recipe = make_recipe(halving__rungs=[1], train__epochs=9)
    first, second = propose_trials(resolve_cell_space(recipe.space), 2)
    early = scored(second, 0.9).score
    assert early is not None
    stopped = second.advance(Rung(epochs=1, score=early)).complete(early, stopped=True)
    main = select_main(read_search(runs.search("rungs", recipe, [scored(first, 0.6), stopped])), None)
    with report_style():
        (figure, _), volume = plot_fronts(main), plot_hypervolume(main)
    assert "of 1 networks; on the front: trial 0 (60.00%" in figure.alt
    assert "stopped are not shown" in figure.caption
    assert volume is None


def test_under_an_objective_its_cost_stands_first_with_the_target_and_random_networks_within_it(
    runs: SearchRuns,
) -> None:
    goal = {"objective__quantity": "mult_adds", "objective__target": "10k", "objective__above": -1.0}
    recipe = make_recipe(search__strategy="ppo", **goal)
    space = resolve_cell_space(recipe.space)
    trials = [
        scored(trial, reward, accuracy=accuracy, params=params)
        for trial, (reward, accuracy, params) in zip(
            propose_trials(space, 3), [(0.6, 0.6, 900), (0.45, 0.9, 2000), (0.3, 0.3, 950)], strict=True
        )
    ]
    data = read_search(runs.search("ppo", recipe, trials))
    other = make_recipe(search__strategy="random", **goal)
    found = [scored(t, 0.2, accuracy=0.4 + t.id / 100, params=800 + 40 * t.id) for t in propose_trials(space, 9, 1)]
    random = read_search(runs.search("random", other, found))
    main = select_main(data, random)
    with report_style():
        figure, params = plot_fronts(main)
    assert (figure.name, params.name) == ("mult-adds", "params")
    assert "the target is 10k" in figure.alt
    assert "target 10k" in figure.svg
    assert "recommended" in figure.svg
    assert "curves join accuracies and costs of equal reward" in figure.caption
    assert "target" not in params.alt
    said = compare_at_target(main)
    assert "At or under the target of 10k: ppo 60.00% (trial 0), the best of 3 random networks" in said
    assert said.endswith("the search lies above the band.")
    assert said in write_search_report(data.path).verdict
    assert compare_at_target(select_main(data, None)) == ""
    dear = read_search(runs.search("dear", other, [scored(t, 0.1, params=5000) for t in propose_trials(space, 4, 1)]))
    assert "too few random networks" in compare_at_target(select_main(data, dear))


@pytest.mark.parametrize(("target", "tick"), [("7k", "8k"), ("1k", "2k")])
def test_the_window_reaches_to_a_target_that_no_network_meets(runs: SearchRuns, target: str, tick: str) -> None:
    recipe = make_recipe(objective__quantity="mult_adds", objective__target=target)
    first, second = propose_trials(resolve_cell_space(recipe.space), 2)
    trials = [scored(first, 0.3, accuracy=0.5, params=900), scored(second, 0.4, accuracy=0.6, params=2000)]
    with report_style():
        figure, *_ = plot_fronts(select_main(read_search(runs.search("dear", recipe, trials)), None))
    assert f">{tick}</text>" in figure.svg
