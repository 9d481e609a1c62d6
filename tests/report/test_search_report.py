"""The report of a search: its content, its refusals, and a page that stands alone."""

import itertools
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nascli.errors import InputError
from nascli.genotype.cells.space import NASNET, resolve_cell_space
from nascli.report.baseline import HIGH, LOW, baseline_command, best_of_n, choose_baseline, compare_with_random
from nascli.report.cell_plots import choice_shares, draw_best_cells, plot_choices
from nascli.report.figures import report_style
from nascli.report.report import (
    SearchReport,
    collapse_warning,
    collect_warnings,
    rung_counts,
    train_command,
    write_search_report,
)
from nascli.report.search_data import best_so_far, read_search, select_best, summarize_reranks
from nascli.search import recorded
from nascli.search.trial import Rerank, Rung, Score
from tests.fakes import make_latency
from tests.published import as_cells
from tests.report.search_runs import SearchRuns, make_recipe, mixed_trials, propose_trials, scored

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchRuns:
    made = SearchRuns(tmp_path)
    monkeypatch.setattr(recorded, "read_trials", made.read)
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SearchRuns, SearchReport]]:
    """One whole report: ppo with duplicates, failures and a collapsed controller, a random search beside it."""
    made = SearchRuns(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "read_trials", made.read)
        recipe = make_recipe(search__strategy="ppo", search__top=1, data__dataset="folder:<b>cats</b>")
        updates = [{"trials": 10, "entropy": 9.0, "kl": 0.1}, {"trials": 20, "entropy": 0.01, "kl": 0.2}]
        run = made.search("ppo", recipe, mixed_trials(recipe), updates)
        other = recipe.model_copy(update={"search": recipe.search.model_copy(update={"strategy": "random"}), "seed": 7})
        made.search("random", other, mixed_trials(other, 20, seed=1))
        yield made, write_search_report(run)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and ids."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_outside(written: tuple[SearchRuns, SearchReport]) -> None:
    elements = Elements(written[1].page).found
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "audio", "video", "img"}
    sources = [value for _, given in elements for name, value in given.items() if name in ("src", "href", "xlink:href")]
    assert len(sources) > 8
    assert all(value and value.startswith(("#", "data:")) for value in sources)
    assert not re.search(r"@import|url\((?!#)", written[1].page.read_text(encoding="utf-8"))


def test_what_stands_in_files_is_escaped(written: tuple[SearchRuns, SearchReport]) -> None:
    text = written[1].page.read_text(encoding="utf-8")
    assert SCRIPT not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>cats" not in text
    assert "&lt;b&gt;cats" in text


def test_every_figure_has_words_a_file_and_ids_of_its_own(written: tuple[SearchRuns, SearchReport]) -> None:
    report = written[1]
    elements = Elements(report.page).found
    drawings = [given for tag, given in elements if tag == "svg"]
    assert all(given["role"] == "img" and len(given["aria-label"] or "") > 20 for given in drawings)
    assert [file.stem for file in report.figures if not file.read_bytes().startswith(b"\x89PNG")] == []
    names = {(given["id"] or "").removeprefix("figure-") for tag, given in elements if tag == "figure"}
    assert names == {file.stem for file in report.figures}
    assert {"best-so-far", "best-so-far-seconds", "rewards", "learning", "params", "mult-adds", "hypervolume"} <= names
    assert {"ops-normal", "ops-reduction", "inputs-normal", "inputs-reduction", "cell-01", "seconds"} <= names
    ids = [given["id"] for _, given in elements if given.get("id")]
    assert len(ids) == len(set(ids))
    links = {given["href"] for tag, given in elements if tag == "a"}
    assert links <= {f"#{each}" for each in ids}


def test_what_a_reader_needs_to_know_is_said(written: tuple[SearchRuns, SearchReport]) -> None:
    made, report = written
    text = re.sub(r"\s+", " ", report.page.read_text(encoding="utf-8"))
    assert "it is not final accuracy" in text
    assert report.baseline == made.folder / "random"
    assert report.verdict in text
    assert any("entropy collapsed" in warning for warning in report.warnings)
    assert "2M params, limit params&lt;1M" in text
    assert "strategy = &#34;ppo&#34;" in text
    best = max(t.reward or 0 for t in made.read(made.folder / "ppo" / "trials.jsonl", NASNET))
    assert f"{best:.2%}" in text


def test_the_same_run_gives_the_same_page_and_stale_figures_go(
    written: tuple[SearchRuns, SearchReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, report = written
    monkeypatch.setattr(recorded, "read_trials", made.read)
    out = tmp_path / "new" / "folder"
    (out / "report").mkdir(parents=True)
    (out / "report.html").write_bytes(b'\xff no UTF-8 <figure id="figure-cell-05">')
    (out / "report" / "cell-05.png").touch()
    (out / "report" / "mine.png").touch()
    again = write_search_report(made.folder / "ppo", out=out)
    assert again.page == out / "report.html"
    assert again.page.read_bytes() == report.page.read_bytes()
    for first, second in zip(report.figures, again.figures, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert not (out / "report" / "cell-05.png").exists()
    assert (out / "report" / "mine.png").exists()


def test_best_of_n_is_the_mean_over_all_orderings() -> None:
    rewards, lost = [0.3, 0.9, 0.5, 0.7], 2
    curve = best_of_n(rewards, lost)
    for n in range(1, 7):
        drawn = itertools.combinations([*rewards, *[-math.inf] * lost], n)
        bests = sorted(best for chosen in drawn if (best := max(chosen)) > -math.inf)
        low, mean, high = curve.at(n)
        assert mean == pytest.approx(statistics.fmean(bests))
        assert low == bests[math.ceil(LOW * len(bests) - 1e-9) - 1]
        assert high == bests[math.ceil(HIGH * len(bests) - 1e-9) - 1]


def test_best_of_n_of_a_long_search_stays_exact_at_its_ends() -> None:
    rewards = [k / 20_000 for k in range(20_000)]
    curve = best_of_n(rewards)
    assert curve.at(1)[1] == pytest.approx(statistics.fmean(rewards))
    assert curve.at(20_000) == (rewards[-1],) * 3
    assert curve.at(999)[1] == pytest.approx(999 / 1000, abs=2e-4)


def test_the_running_best_skips_what_has_no_result() -> None:
    assert best_so_far([None, 0.5, 0.2, None, 0.7]) == [pytest.approx(math.nan, nan_ok=True), 0.5, 0.5, 0.5, 0.7]


def test_the_newest_comparable_random_search_beside_the_run_is_taken(runs: SearchRuns) -> None:
    recipe = make_recipe(search__strategy="evolution")
    run = read_search(runs.search("mine", recipe, mixed_trials(recipe)))
    assert choose_baseline(run, None) is None
    other = make_recipe(search__strategy="random", seed=3, search__trials=9, train__threads=2)
    runs.search("b-same", other, mixed_trials(other))
    runs.search("c-newer-but-longer-training", make_recipe(search__strategy="random", train__epochs=99), [])
    runs.search("d-without-result", other, propose_trials(resolve_cell_space(other.space), 2))
    runs.search("e-not-random", make_recipe(search__strategy="ppo"), mixed_trials(recipe))
    (runs.folder / "broken").mkdir()
    (runs.folder / "broken" / "run.json").write_text("{", encoding="utf-8")
    found = choose_baseline(run, None)
    assert found is not None
    assert found.path.name == "b-same"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"search__strategy": "ppo"}, "is a search by ppo, not by random"),
        ({"data__dataset": "cifar10"}, "data.dataset is 'cifar10' there and 'digits' here"),
        ({"network__filters": 9}, "network.filters is 9 there and not set here"),
        ({"train__epochs": 3, "train__lr": 0.5}, "train.epochs is 3 there and 10 here"),
        ({"space": {"name": "enas"}}, "space.name is 'enas' there and 'own' here"),
        ({"search__evaluator": "params"}, "search.evaluator"),
    ],
)
def test_a_baseline_of_something_else_is_refused(runs: SearchRuns, flags: dict[str, object], words: str) -> None:
    recipe = make_recipe(search__strategy="ppo")
    run = runs.search("mine", recipe, mixed_trials(recipe))
    other = make_recipe(**({"search__strategy": "random"} | flags))
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        write_search_report(run, baseline=runs.search("other", other, mixed_trials(recipe)))
    assert f"nascli search --recipe {run}/recipe.toml --strategy random" in refused.value.hint
    assert not (run / "report.html").exists()


def test_without_a_baseline_the_command_that_makes_one_is_given(runs: SearchRuns) -> None:
    recipe = make_recipe(search__strategy="ppo", search__warm_start_trials=5)
    run = read_search(runs.search("my search", recipe, mixed_trials(recipe)))
    assert "no random search to compare with" in compare_with_random(run, None)
    assert baseline_command(run) == (
        f"nascli search --recipe '{run.path}/recipe.toml' --strategy random --set search.warm_start_trials=0"
    )


@pytest.mark.parametrize(("shift", "place"), [(0.5, "above"), (-0.5, "below")])
def test_the_verdict_says_where_the_search_lies(runs: SearchRuns, shift: float, place: str) -> None:
    random, ppo = make_recipe(search__strategy="random"), make_recipe(search__strategy="ppo")
    space = resolve_cell_space(ppo.space)
    baseline = runs.search("random", random, [scored(t, 0.4 + t.id / 1000) for t in propose_trials(space, 30)])
    run = runs.search("ppo", ppo, [scored(t, 0.4 + shift + t.id / 1000) for t in propose_trials(space, 10)])
    said = compare_with_random(read_search(run), read_search(baseline))
    assert said.startswith("After 10 trials each: ppo")
    assert f"the search lies {place} the band" in said
    assert f"{0 if shift > 0 else 30} of the 30 random trials" in said
    assert f"In {0 if shift > 0 else 1:.2%} of its orderings 10 trials reach as far" in said
    assert "how often luck alone" in compare_with_random(
        read_search(baseline), replace(read_search(run), path=run / "other")
    )


def test_a_random_search_is_its_own_baseline(runs: SearchRuns) -> None:
    recipe = make_recipe(search__strategy="random")
    run = read_search(runs.search("random", recipe, mixed_trials(recipe)))
    assert choose_baseline(run, None) is run
    assert "This is a random search" in compare_with_random(run, run)


def test_only_a_collapsed_entropy_is_warned_of(runs: SearchRuns) -> None:
    recipe = make_recipe(search__strategy="ppo")
    trials = mixed_trials(recipe)
    full = read_search(runs.search("none", recipe, trials)).uniform_entropy
    assert full == pytest.approx(sum(map(math.log, resolve_cell_space(recipe.space).decision_sizes)))

    def warn(name: str, entropies: list[float]) -> str | None:
        updates = [{"trials": 5 * (k + 1), "entropy": value} for k, value in enumerate(entropies)]
        return collapse_warning(read_search(runs.search(name, recipe, trials, updates)))

    assert warn("sound", [full, 0.01, full / 2]) is None
    said = warn("collapsed", [full, 0.01, full, 0.01, 0.02])
    assert said is not None
    assert "since trial 20" in said
    assert "of the 10 trials" in said


def test_many_failures_and_unfinished_searches_are_pointed_out(runs: SearchRuns) -> None:
    recipe = make_recipe()
    trials = mixed_trials(recipe, 8)
    assert list(collect_warnings(read_search(runs.search("sound", recipe, trials)))) == []
    lost = [*trials[:2], *(replace(trials[4], id=k) for k in (2, 3, 4))]
    (said,) = collect_warnings(read_search(runs.search("lost", recipe, lost)))
    assert said.startswith("3 of 5 children failed")
    running = propose_trials(resolve_cell_space(recipe.space), 9)[8:]
    (said,) = collect_warnings(read_search(runs.search("running", recipe, [*trials, *running])))
    assert "1 trials without an outcome" in said


def test_a_run_without_trials_is_refused(runs: SearchRuns) -> None:
    with pytest.raises(InputError, match="no trial yet"):
        write_search_report(runs.search("empty", make_recipe(), []))


def test_a_latency_is_said_with_what_it_holds_for(runs: SearchRuns) -> None:
    recipe = make_recipe()
    (trial,) = propose_trials(resolve_cell_space(recipe.space), 1)
    score = Score(reward=0.5, accuracy=0.5, params=1, mult_adds=1, seconds=1.0, latency=make_latency(0.003))
    (drawn,) = draw_best_cells(read_search(runs.search("timed", recipe, [trial.complete(score)])))
    assert "3ms for 1 image of 8×8 px, openvino in float32, 1 thread" in drawn.caption


def test_shares_are_of_each_window() -> None:
    trials = propose_trials(NASNET, 25)
    ops, inputs = NASNET.choice_groups()[:2]
    first_block = replace(ops, read=lambda genotype: map(NASNET.ops.index, as_cells(genotype).normal.blocks[0].ops))
    shares, names = choice_shares(trials, first_block)
    assert shares.shape == (13, 10)
    assert shares.sum(axis=0) == pytest.approx([1.0] * 10)
    assert (names[0], names[-1]) == ("0–2", "23–24")
    first = [op for trial in trials[:3] for op in as_cells(trial.genotype).normal.blocks[0].ops]
    assert shares[NASNET.ops.index(first[0]), 0] == first.count(first[0]) / 6
    assert sum(inputs.uniform) == pytest.approx(1)
    assert sum(ops.uniform) == pytest.approx(1)


def test_where_one_cell_serves_as_both_it_is_shown_once(runs: SearchRuns) -> None:
    recipe = make_recipe(space__cells="one")
    data = read_search(runs.search("one", recipe, propose_trials(resolve_cell_space(recipe.space), 3)))
    with report_style():
        assert [figure.name for figure in plot_choices(data)] == ["ops-normal", "inputs-normal"]


def test_cells_that_were_trained_again_are_ranked_by_it(runs: SearchRuns) -> None:
    recipe = make_recipe()
    trials = mixed_trials(recipe, 4)
    for trial, accuracies in ((0, (0.6, 0.8)), (2, (0.9, 0.9))):
        for index, accuracy in enumerate(accuracies):
            again = Rerank(index=index, epochs=30, accuracy=accuracy, seconds=1.0)
            trials[trial] = trials[trial].add_rerank(again)
    data = read_search(runs.search("again", recipe, trials))
    assert [trial.id for trial in select_best(data)] == [2, 0]
    first, second = summarize_reranks(data)
    assert first.seeds == second.seeds == 2
    assert [first.mean, first.deviation] == pytest.approx([0.9, 0.0])
    assert [second.mean, second.deviation] == pytest.approx([0.7, 0.1 * math.sqrt(2)])


def test_the_command_that_trains_a_cell_names_its_file_or_makes_one(runs: SearchRuns) -> None:
    recipe = make_recipe()
    run = runs.search("cells", recipe, mixed_trials(recipe, 4))
    (run / "top").mkdir()
    (run / "top" / "01.json").write_text('{"provenance": {"trial": 2}}', encoding="utf-8")
    data = read_search(run)
    assert train_command(data, data.trials[2]) == f"nascli train --cell {run}/top/01.json --dataset digits"
    assert train_command(data, data.trials[1]) == (
        f"nascli decode {run} --trial 1 --out trial-1.json && nascli train --cell trial-1.json --dataset digits"
    )


def _score(accuracy: float) -> Score:
    return Score(reward=accuracy, accuracy=accuracy, params=1000, mult_adds=10_000, seconds=2.0)


def test_rungs_say_where_children_were_stopped(runs: SearchRuns) -> None:
    recipe = make_recipe(halving__rungs=[1, 3], train__epochs=9)
    early, later, full = propose_trials(resolve_cell_space(recipe.space), 3)
    first = Rung(epochs=1, score=_score(0.5))
    second = Rung(epochs=3, score=_score(0.6))
    trials = [
        early.advance(first).complete(first.score, stopped=True),
        later.advance(first).advance(second).complete(second.score, stopped=True),
        scored(full.advance(first).advance(second), 0.8),
    ]
    assert rung_counts(read_search(runs.search("rungs", recipe, trials))) == {1: 1, 3: 1, 9: 1}


def test_scores_that_are_no_accuracies_are_not_called_so(runs: SearchRuns) -> None:
    recipe = make_recipe(search__evaluator="params")
    (trial,) = propose_trials(resolve_cell_space(recipe.space), 1)
    done = scored(trial, -3.5)
    assert done.score is not None
    data = read_search(runs.search("params", recipe, [replace(done, score=replace(done.score, accuracy=None))]))
    assert data.reward_name == "reward"
    assert data.format_reward(-3.5) == "-3.5"
