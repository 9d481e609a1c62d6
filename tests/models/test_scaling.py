"""Sizes for a target: on formulas in place of networks, and on the published networks."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.config import CellNetworkConfig
from nascli.errors import InputError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.family import CellFamily
from nascli.models.scaling import (
    TOLERANCE,
    Quantity,
    SizeCost,
    Target,
    find_size,
    measure_size,
    parse_target,
    scale_to_target,
)
from nascli.models.spec import NetworkSpec
from tests.cells import resolve_cells
from tests.fakes import make_latency
from tests.mobile import chain, resolve_mobile

KNOBS = CellFamily.knobs


def at(width: int, depth: int) -> SizeCost:
    """A size to start from."""
    return SizeCost(KNOBS, width, depth, 0, 0)


class Formula:
    """A cost by formula that notes which sizes are asked for."""

    def __init__(self, formula: Callable[[int, int], float]) -> None:
        self.formula = formula
        self.asked: list[tuple[int, int]] = []

    def __call__(self, filters: int, cells: int) -> SizeCost:
        self.asked.append((filters, cells))
        amount = self.formula(filters, cells)
        return SizeCost(KNOBS, filters, cells, round(amount), round(10 * amount), make_latency(amount / 1e6))


def like_a_network(filters: int, cells: int) -> float:
    """Params of about the published size: a square in F, a straight line in N, and a stem that grows in fours."""
    return 3 * cells * 180 * filters**2 + 900 * filters + 4000 * (filters // 4) + 2000


@given(
    st.floats(2e4, 5e8),
    st.integers(1, 300),
    st.sampled_from([like_a_network, lambda f, n: 60_000 * n + 2.0 * f**2, lambda f, n: 100.0 * f * n]),
    st.integers(1, 20),
)
def test_no_other_size_is_nearer(amount: float, start: int, formula: Callable[[int, int], float], cells: int) -> None:
    measure = Formula(formula)
    target = Target("params", round(amount))
    if formula(1, cells) > target.amount * (1 + TOLERANCE):
        with pytest.raises(InputError, match="out of reach: the least"):
            find_size(measure, target, at(start, cells))
        return
    if formula(KNOBS.max_width, cells) < target.amount * (1 - TOLERANCE):
        with pytest.raises(InputError, match="out of reach: the most"):
            find_size(measure, target, at(start, cells))
        return
    table = find_size(measure, target, at(start, cells))
    amounts = [formula(size, cells) for size in range(1, KNOBS.max_width + 1)]
    assert abs(table.distance) == min(abs(each / target.amount - 1) for each in amounts)
    assert table.chosen in table.sizes
    assert len(measure.asked) == len(set(measure.asked)) <= 25


def test_a_cost_that_is_nearly_a_square_takes_few_measurements() -> None:
    for amount in (5e4, 1e6, 3.3e6, 8e7, 1e9):
        measure = Formula(like_a_network)
        find_size(measure, Target("params", amount), at(32, 6))
        assert len(measure.asked) <= 9


@pytest.mark.parametrize("quantity", ["params", "mult_adds", "latency"])
def test_each_quantity_is_met(quantity: Quantity) -> None:
    wanted = Formula(like_a_network)(70, 4)
    table = find_size(Formula(like_a_network), Target(quantity, wanted.amount(quantity)), at(44, 4))
    assert table.chosen == wanted
    assert [size.width for size in table.sizes] == [68, 69, 70, 71, 72]
    assert table.hit


def test_a_latency_that_jumps_about_still_ends() -> None:
    def noisy(filters: int, cells: int) -> float:
        return like_a_network(filters, cells) * (1 + 0.2 * ((filters * 7919) % 13 - 6) / 6)

    measure = Formula(noisy)
    table = find_size(measure, Target("latency", 2.0), at(44, 4))
    assert len(measure.asked) <= 25
    assert abs(table.distance) == min(abs(table.target.distance(size)) for size in table.sizes)


@given(st.floats(3e4, 1e8))
def test_n_is_the_nearest_that_has_a_size_within_two_percent(amount: float) -> None:
    target = Target("params", amount)
    table = find_size(Formula(like_a_network), target, at(32, 6), KNOBS.depths)
    near = {
        cells: min(abs(like_a_network(size, cells) / amount - 1) for size in range(1, 400)) for cells in KNOBS.depths
    }
    fitting = [cells for cells in KNOBS.depths if near[cells] <= TOLERANCE]
    if fitting:
        assert abs(table.chosen.depth - 6) == min(abs(cells - 6) for cells in fitting)
        assert table.hit
    else:
        assert abs(table.distance) == pytest.approx(min(near.values()), abs=1e-4)
        assert not table.hit


def test_without_choices_n_is_kept_and_a_coarse_f_says_its_steps() -> None:
    table = find_size(Formula(like_a_network), Target("params", 19_000), at(32, 6))
    assert {size.depth for size in table.sizes} == {6}
    assert not table.hit
    assert table.chosen.width == 2
    assert [size.width for size in table.neighbors] == [2, 3]


@pytest.mark.parametrize(
    ("amount", "choices", "message"),
    [
        (100, (), r"100 params is out of reach: the least is 6\.14k params, with F = 1, N = 6.*auto"),
        (100, KNOBS.depths, r"the least is 3\.44k params, with F = 1, N = 1\. Ask for more$"),
        (5e10, (), r"50G params is out of reach: the most is 3\.399G params, with F = 1024, N = 6.*auto"),
        (5e10, KNOBS.depths, r"the most is 11\.33G params, with F = 1024, N = 20\. Ask for less$"),
    ],
)
def test_out_of_reach_names_the_end(amount: float, choices: range | tuple[()], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_size(Formula(like_a_network), Target("params", amount), at(32, 6), choices)


def test_n_that_cannot_be_built_is_passed_over() -> None:
    def odd_only(filters: int, cells: int) -> float:
        if cells % 2 == 0:
            raise InputError("idle")
        return like_a_network(filters, cells)

    assert find_size(Formula(odd_only), Target("params", 4e6), at(32, 6), KNOBS.depths).chosen.depth in (5, 7)
    with pytest.raises(InputError, match="idle"):
        find_size(Formula(odd_only), Target("params", 4e6), at(32, 6))


@pytest.mark.parametrize(
    ("quantity", "text", "amount", "said"),
    [
        ("params", "3.3M", 3.3e6, "3.3M params"),
        ("mult_adds", " 0.6 G ", 6e8, "600M mult-adds"),
        ("latency", "20ms", 0.02, "a latency of 20ms"),
        ("params", "12345", 12345, "12.345k params"),
    ],
)
def test_a_target_is_a_number_with_a_unit(quantity: Quantity, text: str, amount: float, said: str) -> None:
    target = parse_target(quantity, text)
    assert target == Target(quantity, amount)
    assert str(target) == said


def test_the_mobile_network_is_found_by_its_mult_adds_from_another_size() -> None:
    genotype = zoo_genotype("nasnet-a")

    def measure(filters: int, cells: int) -> SizeCost:
        config = CellNetworkConfig(preset="imagenet-mobile", filters=filters, cells_per_stage=cells)
        return measure_size(resolve_cells(genotype, config))

    table = find_size(measure, Target("mult_adds", 564e6), at(20, 4))
    assert (table.chosen.params, table.chosen.mult_adds) == (5_289_978, 563_638_816)
    assert (table.chosen.width, table.hit) == (44, True)


def test_widths_of_mobile_networks_are_a_ladder_of_which_the_nearest_is_chosen() -> None:
    """Of these widths 1 costs less than 0.95, since 12 and 20 channels are rounded to 16 and 24 but at width 1."""
    genotype = chain("small", 12, "depthwise c12", "mbconv3 c20 n2 s2", "mbconv6 c36 n2 s2", "mbconv6 c64 s2")
    spec = resolve_mobile(genotype, image_size=32, width=0.33)

    def resize(size: Mapping[str, int | float]) -> NetworkSpec:
        return resolve_mobile(genotype, image_size=32, width=size["width"])

    costs = {step: measure_size(resize({"width": step / 20})).mult_adds for step in range(1, 31)}
    assert costs[20] < costs[19]
    for amount in (costs[20], costs[7], 1.03 * costs[25]):
        table = scale_to_target(spec, resize, Target("mult_adds", amount))
        assert abs(table.distance) == min(abs(cost / amount - 1) for cost in costs.values())
        assert costs[table.chosen.width] == table.chosen.mult_adds
        assert table.chosen.values == {"width": table.chosen.width / 20}
    with pytest.raises(InputError, match=r"most is .* with width = 4\.0"):
        scale_to_target(spec, resize, Target("params", 1e9))
