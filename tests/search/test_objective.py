"""Accuracy weighed by a cost: the formula, and what a search does with it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import CellNetworkConfig, LatencyConfig, SearchRecipe
from nascli.errors import InputError
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.search.builders import check_recipe
from nascli.search.evaluators.constraints import ConstrainedEvaluator, parse_constraint
from nascli.search.evaluators.costs import CostEvaluator, CostMeter
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.front import cost_of
from nascli.search.journal import Journal, read_trials
from nascli.search.loop import SearchLoop
from nascli.search.objective import Objective, describe_reward, find_objective
from nascli.search.plan import SearchPlan
from nascli.search.rerank import sort_reranked
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Rerank, Trial
from nascli.signals import StopRequest
from tests.classify.small_training import AUGMENTATION, CPU, make_data
from tests.cli.program import Nascli
from tests.fakes import TINY, FakeEvaluator, Recorder, ShuffledExecutor, make_latency

SOFT = Objective("latency", 0.02, -0.07, -0.07)
HARD = Objective("latency", 0.02, 0.0, -1.0)
HEAVY = Objective("mult_adds", 10_001, -1.0, -1.0)
"""At the costs of the fakes it ranks nearly by mult-adds."""

accuracies = st.floats(0, 1)
costs = st.floats(1e-6, 1e6)


@given(accuracies, costs, accuracies, costs, costs)
def test_a_soft_objective_ranks_equally_at_any_target(a: float, c: float, b: float, d: float, target: float) -> None:
    other = replace(SOFT, target=target)
    scale = (target / SOFT.target) ** 0.07
    for accuracy, cost in ((a, c), (b, d)):
        assert other.reward(accuracy, cost) == pytest.approx(scale * SOFT.reward(accuracy, cost), rel=1e-9, abs=1e-300)


@given(accuracies, costs)
def test_a_hard_objective_is_flat_up_to_the_target_and_divides_by_the_overrun(accuracy: float, cost: float) -> None:
    expected = accuracy if cost <= 0.02 else accuracy / (cost / 0.02)
    assert HARD.reward(accuracy, cost) == pytest.approx(expected, rel=1e-12)
    assert HARD.reward(accuracy, 0.02) == accuracy == SOFT.reward(accuracy, 0.02)


def test_twice_the_latency_has_to_bring_five_percent() -> None:
    """Figure 3 of the paper at a target of 80 ms: 20, 40, 110 and 150 ms."""
    assert SOFT.reward(0.5 * 1.05, 0.04) == pytest.approx(SOFT.reward(0.5, 0.02), rel=1e-3)
    soft, hard = replace(SOFT, target=0.08), replace(HARD, target=0.08)
    factors = [soft.reward(1, ms / 1e3) for ms in (20, 40, 110, 150)]
    assert factors == pytest.approx([1.102, 1.050, 0.978, 0.957], abs=5e-4)
    assert [hard.reward(1, ms / 1e3) for ms in (20, 40, 110, 150)] == pytest.approx([1, 1, 0.727, 0.533], abs=5e-4)


def recipe(**objective: object) -> SearchRecipe:
    return SearchRecipe.model_validate({"objective": objective})


def test_a_recipe_says_quantity_target_and_exponents() -> None:
    assert find_objective(SearchRecipe()) is None
    assert find_objective(recipe(quantity="latency", target="20ms")) == SOFT
    assert find_objective(recipe(quantity="latency", target="20ms", below=0.0, above=-1.0)) == HARD
    mult_adds = recipe(quantity="mult_adds", target="0.3G", above=-0.15)
    assert find_objective(mult_adds) == Objective("mult_adds", 3e8, -0.07, -0.15)
    assert describe_reward(mult_adds) == "proxy accuracy × (mult_adds / 300M)^-0.07 up to the target and ^-0.15 beyond"
    assert describe_reward(recipe(quantity="params", target="4M")) == "proxy accuracy × (params / 4M)^-0.07"


@pytest.mark.parametrize("text", ["0ms", "-3ms", "20", "20M", "fast", "1e-9us", "1e30s"])
def test_a_target_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"objective\.target"):
        find_objective(recipe(quantity="latency", target=text))


@pytest.mark.parametrize(
    ("evaluator", "more", "word"),
    [
        ("naswot", {}, "accuracy"),
        ("table:x.h5", {"network": {"filters": 4}}, "network"),
    ],
)
def test_rewards_that_cannot_be_weighed_are_refused(evaluator: str, more: dict[str, Any], word: str) -> None:
    values = {"search": {"evaluator": evaluator}, "objective": {"quantity": "latency", "target": "20ms", **more}}
    with pytest.raises(InputError, match=word):
        check_recipe(SearchRecipe.model_validate(values))


def search(path: Path, objective: Objective | None, *, workers: int = 1, rungs: tuple[int, ...] = ()) -> list[Trial]:
    plan = SearchPlan(space=TINY, trials=30, seed=0, failure_reward=0.0, rungs=rungs, objective=objective)
    executor = ShuffledExecutor(FakeEvaluator(failing=0.2), workers, seed=1)
    with Journal(path) as journal:
        SearchLoop(RandomSearch(TINY, 0), executor, journal, plan, Recorder()).run(StopRequest())
        return list(journal.trials)


@pytest.mark.parametrize("rungs", [(), (1, 3)])
def test_rewards_are_weighed_and_accuracies_are_not(tmp_path: Path, rungs: tuple[int, ...]) -> None:
    plain = search(tmp_path / "plain.jsonl", None, rungs=rungs)
    weighed = search(tmp_path / "weighed.jsonl", HEAVY, rungs=rungs)
    assert [trial.tokens for trial in plain] == [trial.tokens for trial in weighed]
    for trial in weighed:
        if trial.score is None:
            assert trial.reward == 0.0
            continue
        accuracy = trial.score.accuracy
        assert accuracy is not None
        assert trial.reward == trial.score.reward == HEAVY.reward(accuracy, trial.score.mult_adds)
        for rung in trial.rungs:
            assert rung.score.reward == HEAVY.reward(rung.score.accuracy or 0.0, rung.score.mult_adds)
    assert weighed == list(read_trials(tmp_path / "weighed.jsonl", TINY))


def test_a_kill_after_any_event_changes_nothing(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    search(whole, HEAVY, rungs=(1, 3))
    lines = whole.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines), 7):
        cut = tmp_path / f"cut-{count}.jsonl"
        cut.write_bytes(b"".join(lines[:count]) + lines[count][:10])
        search(cut, HEAVY, workers=2, rungs=(1, 3))
        assert sorted(cut.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())


def test_trials_trained_again_are_sorted_by_the_weighed_mean(tmp_path: Path) -> None:
    scored = [trial for trial in search(tmp_path / "t.jsonl", HEAVY) if trial.scored][:2]
    assert all(trial.score for trial in scored)
    cheap, dear = (
        replace(trial, score=trial.score and replace(trial.score, mult_adds=cost))
        for trial, cost in zip(scored, (10_000, 20_000), strict=True)
    )
    again = [
        trial.add_rerank(Rerank(index=0, epochs=3, accuracy=accuracy, seconds=1.0))
        for trial, accuracy in ((cheap, 0.6), (dear, 0.7))
    ]
    assert [trial.id for trial in sort_reranked(again)] == [dear.id, cheap.id]
    assert [trial.id for trial in sort_reranked(again, HEAVY)] == [cheap.id, dear.id]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each measurement takes 20 ms, whatever the machine; the image sizes of what was timed."""
    asked: list[int] = []

    def measure(network: ImageClassifier, engine: str, *_: object) -> Latency:
        asked.append(network.spec.image_size)
        return make_latency(0.02, engine=engine)

    monkeypatch.setattr("nascli.search.evaluators.costs.measure_latency", measure)
    return asked


def test_the_latency_is_measured_once_a_trial_whoever_asks(timed: list[int]) -> None:
    setup = ChildSetup(make_data(train=24), CellNetworkConfig(filters=2, cells_per_stage=1), AUGMENTATION, CPU)
    deployed = replace(setup, network=CellNetworkConfig(filters=3, cells_per_stage=1, image_size=16))
    meter = CostMeter(deployed, LatencyConfig(engine="openvino", device="cpu"))
    genotype = TINY.decode([0] * len(TINY.decision_sizes))
    plain = CostEvaluator(FakeEvaluator(), meter, with_latency=True, first_epochs=1)
    bound = ConstrainedEvaluator(FakeEvaluator(), (parse_constraint("latency<1s"),), setup, meter, first_epochs=1)
    for evaluator in (plain, replace(plain, evaluator=bound)):
        timed.clear()
        first, second = (evaluator.evaluate(genotype, 1, epochs) for epochs in (1, None))
        assert timed == [16]
        assert first.latency is not None
        assert second.latency is None
        assert cost_of(first, "latency") == 0.02
        cost = deployed.cost(genotype)
        assert (first.params, first.mult_adds) == (cost.params, cost.mult_adds)
        assert cost.params > setup.cost(genotype).params


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


RECIPE = """
[data]
dataset = "digits"
[space]
name = "mine"
ops = ["sep_conv_3x3", "identity"]
blocks = 1
[network]
filters = 2
cells_per_stage = 1
image_size = 8
[train]
epochs = 1
[search]
strategy = "random"
trials = 4
"""


def test_a_search_for_a_target_from_the_command_line(tmp_path: Path, nascli: Nascli) -> None:
    path, run = tmp_path / "tiny.toml", tmp_path / "run"
    path.write_text(RECIPE + "[objective.network]\nfilters = 4\ncells_per_stage = 1\n")
    refused = nascli(f"search --recipe {path} --out {run}")
    assert (refused.code, "quantity" in refused.err) == (2, True)
    path.write_text(path.read_text() + '[objective]\nquantity = "params"\ntarget = "1k"\n')
    results = nascli(f"search --recipe {path} --target-mult-adds 200k --trade-off hard --out {run} --json").json
    assert results["cost_is"] == "mult_adds"
    assert "200k" in results["reward_is"]
    for line in (run / "trials.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "finished":
            overrun = max(1.0, event["mult_adds"] / 2e5)
            assert math.isclose(event["reward"], event["accuracy"] / overrun)
    best = results["best"]
    built = nascli(f"build --cell {run} --filters 4 --cells-per-stage 1 --image-size 8 --json").json
    assert best["mult_adds"] == built["mult_adds"]
    assert best["reward"] <= best["accuracy"]


def test_one_target_only(nascli: Nascli) -> None:
    two = nascli("search --target-params 4M --target-latency 20ms")
    assert (two.code, "--target-latency" in two.err) == (2, True)
    half = nascli("search --set objective.quantity=params")
    assert (half.code, "target" in half.err) == (2, True)
