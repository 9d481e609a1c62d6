"""Constraints: their text, the order in which they are checked, and percentages that become numbers."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import CellNetworkConfig, LatencyConfig
from nascli.errors import InputError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.search.evaluators.constraints import (
    Comparison,
    ConstrainedEvaluator,
    Constraint,
    parse_constraint,
    resolve_percentages,
)
from nascli.search.evaluators.costs import CostMeter
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.evaluators.zero_cost import naswot, params
from nascli.search.executors.executor import Job, evaluate_job
from nascli.search.trial import Failure, FailureKind, Score
from tests.classify.small_training import AUGMENTATION, CPU, make_data
from tests.fakes import TINY, hide_package, make_latency

PROXY = ChildSetup(make_data(train=24), CellNetworkConfig(filters=2, cells_per_stage=1), AUGMENTATION, CPU)
METER = CostMeter(PROXY, LatencyConfig(engine="openvino", device="cpu"))
CELL = TINY.decode([0] * len(TINY.decision_sizes))
SATISFIED = ("params>0", "mult_adds>0", "naswot>=0", "grad_norm>=0", "latency<100s")
VIOLATED = ("params<1", "mult_adds<1", "naswot>1e9", "grad_norm>1e9", "latency<1us")
SCORE = Score(reward=0.5, accuracy=0.5, params=1, mult_adds=1, seconds=0.0)


class Inner:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Genotype, int, int | None]] = []

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        self.asked.append((genotype, seed, epochs))
        return SCORE


def constrain(inner: Inner, *texts: str, first_epochs: int | None = None) -> ConstrainedEvaluator:
    return ConstrainedEvaluator(inner, tuple(map(parse_constraint, texts)), PROXY, METER, first_epochs)


@pytest.mark.parametrize(
    ("text", "constraint", "canonical"),
    [
        ("params<6M", Constraint("params", "<", 6e6), "params<6M"),
        ("mult_adds<600M", Constraint("mult_adds", "<", 6e8), "mult_adds<600M"),
        (" mult_adds <= 0.6 G ", Constraint("mult_adds", "<=", 6e8), "mult_adds<=600M"),
        ("latency<20ms", Constraint("latency", "<", 0.02), "latency<20ms"),
        ("latency<0.02s", Constraint("latency", "<", 0.02), "latency<20ms"),
        ("latency<250us", Constraint("latency", "<", 0.00025), "latency<250us"),
        ("naswot>120", Constraint("naswot", ">", 120), "naswot>120"),
        ("naswot>50%", Constraint("naswot", ">", 50, percent=True), "naswot>50%"),
        ("grad_norm>=1.5e2", Constraint("grad_norm", ">=", 150), "grad_norm>=150"),
        ("params>1234567", Constraint("params", ">", 1234567), "params>1.234567M"),
        ("params>.5k", Constraint("params", ">", 500), "params>500"),
    ],
)
def test_a_constraint_is_quantity_comparison_number_and_unit(text: str, constraint: Constraint, canonical: str) -> None:
    assert parse_constraint(text) == constraint
    assert str(constraint) == canonical


@st.composite
def any_constraint(draw: st.DrawFn) -> Constraint:
    quantity = draw(st.sampled_from(["params", "mult_adds", "naswot", "grad_norm", "latency"]))
    comparisons: list[Comparison] = ["<", "<=", ">", ">="]
    percent = draw(st.booleans())
    largest = 100.0 if percent else 1e30
    bound = draw(st.floats(0, largest, exclude_min=True, exclude_max=True))
    return Constraint(quantity, draw(st.sampled_from(comparisons)), bound, percent)


@given(any_constraint())
def test_the_text_of_a_constraint_reads_back(constraint: Constraint) -> None:
    assert parse_constraint(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prams<6M", "unknown quantity 'prams'. Did you mean params?"),
        ("flops<6M", "unknown quantity 'flops'. Known: params, mult_adds, naswot"),
        ("params=6M", "no quantity and comparison. Write it like params<6M"),
        ("params<<6M", "no quantity and comparison"),
        ("params", "no quantity and comparison"),
        ("params<", "no number after <. The units of params are G, M, k, or %; for example params<6M"),
        ("params<many", "no number after <"),
        ("latency<nan", "no number after <"),
        ("latency<20", "the number has no unit. The units of latency are s, ms, us"),
        ("latency<20M", "unknown unit 'M'. The units of latency are s, ms, us"),
        ("params<6MB", "unknown unit 'MB'. The units of params are G, M, k"),
        ("naswot>5M", "unknown unit 'M'. naswot takes a plain number or %"),
        ("naswot>100%", "a percentage lies between 0% and 100%"),
        ("naswot>-5%", "a percentage lies between 0% and 100%"),
        ("naswot>1e999", "too large"),
    ],
)
def test_a_text_that_is_no_limit_teaches_what_is(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_constraint(text)
    assert repr(text) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("params<10", 9, 10), ("params<=10", 10, 11), ("params>10", 11, 10), ("params>=10", 10, 9)],
)
def test_each_comparison_holds_at_its_bound(text: str, inside: float, outside: float) -> None:
    constraint = parse_constraint(text)
    assert constraint.is_satisfied(inside)
    assert not constraint.is_satisfied(outside)
    assert not constraint.is_satisfied(float("nan"))


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("params<6M", 7.3e6, "params 7.3M violates params<6M"),
        ("mult_adds<=0.6G", 712_345_678, "mult_adds 712.3M violates mult_adds<=600M"),
        ("params<=6M", 6_000_001, "params 6.000001M violates params<=6M"),
        ("latency<20ms", 0.0251239, "latency 25.12ms violates latency<20ms"),
        ("naswot>120", 81.25, "naswot 81.25 violates naswot>120"),
    ],
)
def test_a_breach_names_the_value_and_the_limit(text: str, value: float, message: str) -> None:
    assert parse_constraint(text).violation(value) == message


def test_a_cell_within_all_limits_is_evaluated_as_without_them() -> None:
    inner = Inner()
    score = constrain(inner, *SATISFIED, first_epochs=2).evaluate(CELL, 3, epochs=2)
    assert replace(score, latency=None) == SCORE
    assert inner.asked == [(CELL, 3, 2)]


@pytest.mark.parametrize("first", range(len(VIOLATED)))
def test_the_cheapest_violated_constraint_rejects_before_anything_is_evaluated(first: int) -> None:
    inner = Inner()
    texts = (*SATISFIED[:first], *VIOLATED[first:])
    with pytest.raises(RejectedError) as error:
        constrain(inner, *reversed(texts)).evaluate(CELL, 3)
    assert str(error.value).endswith(f"violates {parse_constraint(VIOLATED[first])}")
    assert inner.asked == []


def test_what_costs_more_is_not_measured_once_a_constraint_is_violated() -> None:
    blind = replace(PROXY, data=replace(PROXY.data, std=(1e-300,) * 3))  # its gradient is not finite
    inner = Inner()
    constraints = (parse_constraint("grad_norm>1"), parse_constraint("params<1"))
    with pytest.raises(RejectedError, match="params"):
        ConstrainedEvaluator(inner, constraints, blind, replace(METER, setup=blind)).evaluate(CELL, 1)


def test_the_measured_value_is_that_of_the_child() -> None:
    count = int(params(PROXY, CELL, 0))
    constrain(Inner(), f"params<={count}").evaluate(CELL, 1)
    with pytest.raises(RejectedError, match=f"params {count / 1e3:g}k violates"):
        constrain(Inner(), f"params<{count}").evaluate(CELL, 1)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Each measurement takes 20 ms, whatever the machine; how each was asked for."""
    asked: list[tuple[object, ...]] = []

    def measure(network: ImageClassifier, engine: str, precision: str, device: torch.device) -> Latency:
        asked.append((engine, precision, str(device), torch.get_num_threads(), network.spec.image_size))
        return make_latency(0.02, engine=engine)

    monkeypatch.setattr("nascli.search.evaluators.costs.measure_latency", measure)
    return asked


def test_the_latency_is_that_of_the_engine_and_stays_with_the_result(timed: list[tuple[object, ...]]) -> None:
    form = LatencyConfig(engine="folded", precision="bfloat16", threads=2, device="cpu")
    within, beyond = (
        ConstrainedEvaluator(Inner(), (parse_constraint(text),), PROXY, CostMeter(PROXY, form))
        for text in ("latency<21ms", "latency<19ms")
    )
    score, failure = (evaluate_job(each, Job(0, CELL, 1)).result for each in (within, beyond))
    assert isinstance(score, Score)
    assert isinstance(failure, Failure)
    assert score.latency == failure.latency == make_latency(0.02, engine="folded")
    assert failure.kind is FailureKind.REJECTED
    assert "latency 20ms violates latency<19ms" in failure.error
    assert timed == [("folded", "bfloat16", "cpu", 2, PROXY.data.image_size)] * 2


def test_a_cell_is_checked_once_however_often_it_is_trained(timed: list[tuple[object, ...]]) -> None:
    inner = Inner()
    constrained = constrain(inner, "latency<21ms", first_epochs=1)
    scores = [constrained.evaluate(CELL, 1, epochs) for epochs in (1, 3, None)]
    assert [score.latency is None for score in scores] == [False, True, True]
    assert len(timed) == 1
    assert len(inner.asked) == 3


def test_auto_is_the_fastest_engine_of_the_device_of_the_search() -> None:
    form = CostMeter(PROXY, LatencyConfig(threads=3)).settle(TINY, pytest.fail).form
    assert form == LatencyConfig(engine="openvino", threads=3, device="cpu")


def test_without_the_engine_the_folded_network_is_timed_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "openvino")
    assert CostMeter(PROXY, LatencyConfig()).settle(TINY, pytest.fail).form.engine == "folded"
    with pytest.raises(InputError, match=r"not installed.*nascli\[openvino\]"):
        CostMeter(PROXY, LatencyConfig(engine="openvino")).settle(TINY, pytest.fail)


def test_an_engine_that_cannot_take_the_networks_of_a_space_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: ImageClassifier) -> object:
        raise RuntimeError("no such step")

    monkeypatch.setattr("nascli.models.deploy.engines.convert", fail)
    said: list[str] = []
    assert CostMeter(PROXY, LatencyConfig()).settle(TINY, said.append).form.engine == "folded"
    assert "no such step" in said[0]


def test_a_percentage_becomes_the_number_that_so_many_random_cells_lie_below() -> None:
    constraints = tuple(map(parse_constraint, ("naswot>50%", "naswot<25%", "latency<1s")))
    above, below, untouched = resolve_percentages(constraints, PROXY, TINY, 1, METER, sample=32)
    assert (above.comparison, above.percent, below.comparison, below.percent) == (">", False, "<", False)
    assert untouched == constraints[2]
    draw = random.Random(0)
    fresh = [TINY.decode([draw.randrange(size) for size in TINY.decision_sizes]) for _ in range(32)]
    scores = [naswot(PROXY, cell, k) for k, cell in enumerate(fresh)]
    assert 0.3 < sum(map(above.is_satisfied, scores)) / len(scores) < 0.7
    assert 0.08 < sum(map(below.is_satisfied, scores)) / len(scores) < 0.42


def test_a_percentage_follows_from_the_seed_and_its_number_reads_back() -> None:
    constraints = (parse_constraint("naswot>30%"),)
    one, same, other = (resolve_percentages(constraints, PROXY, TINY, seed, METER, sample=8) for seed in (1, 1, 2))
    assert one == same != other
    assert parse_constraint(str(one[0])) == one[0]


def test_a_percentage_of_what_cannot_be_scored_is_refused() -> None:
    blind = replace(PROXY, data=replace(PROXY.data, std=(1e-300,) * 3))
    with pytest.raises(InputError, match=r"random cell 0 cannot be scored.*Give the constraint as a number"):
        resolve_percentages((parse_constraint("grad_norm>50%"),), blind, TINY, 1, replace(METER, setup=blind), sample=2)


def test_an_unresolved_percentage_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="naswot>50% was not resolved"):
        constrain(Inner(), "naswot>50%")
