"""Constraints: what a cell must satisfy before it is trained, as `params<6M`, `latency<20ms` or `naswot>50%`.

A constraint is a quantity, a comparison, and a number with its unit. All quantities are of the child network as the
recipe builds it; params, mult-adds and latency are those of the network that will be deployed, where the objective
names one. A latency is that of the engine which is to answer, not of the network as it trains.
"""

import operator
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from nascli.config import suggestion
from nascli.errors import InputError, NascliError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace, draw_genotypes
from nascli.models.latency import Latency, LatencyRejectedError
from nascli.search.evaluators.costs import CostMeter
from nascli.search.evaluators.evaluator import Evaluator, start_from
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.evaluators.zero_cost import ZERO_COST_SCORES
from nascli.search.trial import Score
from nascli.seeding import derive_seed
from nascli.units import EXAMPLES, UNITS, format_exactly, list_units, parse_quantity

Comparison = Literal["<", "<=", ">", ">="]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNITS = {name: UNITS.get(name, {"": 0}) for name in (*ZERO_COST_SCORES, "latency")}
"""The units of each quantity, largest first, as powers of ten; the quantities in the order of their cost."""

_FORM = re.compile(r"(?P<quantity>[^<>=]*?)\s*(?P<comparison><=|>=|<|>)\s*(?P<rest>[^<>=]*)")


@dataclass(frozen=True)
class Constraint:
    """A bound on a quantity; `str` gives its text, which `parse_constraint` reads back.

    Args:
        quantity: `params`, `mult_adds`, `naswot`, `grad_norm` or `latency`.
        comparison: Holds between the quantity and the bound.
        bound: A number in plain units, latency in seconds; or percent of random cells.
        percent: Whether `bound` is the place among random cells, in (0, 100), which `resolve_percentages` replaces by
            a number: `naswot>75%` is above three quarters of them, `params<25%` among the smallest quarter.
    """

    quantity: str
    comparison: Comparison
    bound: float
    percent: bool = False

    def is_satisfied(self, value: float) -> bool:
        """Whether a measured value is inside the bound; NaN never is."""
        return _COMPARISONS[self.comparison](value, self.bound)

    def violation(self, value: float) -> str:
        """One line about a value that is outside: `params 7.3M violates params<6M`."""
        rounded = float(f"{value:.4g}")
        amount = format_exactly(value if self.is_satisfied(rounded) else rounded, _UNITS[self.quantity])
        return f"{self.quantity} {amount} violates {self}"

    def __str__(self) -> str:
        units = {"%": 0} if self.percent else _UNITS[self.quantity]
        bound = format_exactly(self.bound, units)
        return f"{self.quantity}{self.comparison}{bound}"


def parse_constraint(text: str) -> Constraint:
    """The constraint that a text stands for; spaces do not matter.

    Raises:
        InputError: It is not quantity, comparison, number and unit; the message says which part is wrong.

    Example:
        >>> str(parse_constraint("mult_adds <= 0.6G"))
        'mult_adds<=600M'
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise InputError(
            f"constraint {text!r}: no quantity and comparison", "Write it like params<6M, with <, <=, > or >="
        )
    quantity, comparison = form["quantity"], cast(Comparison, form["comparison"])
    if quantity not in _UNITS:
        raise InputError(f"constraint {text!r}: unknown quantity {quantity!r}", suggestion(quantity, _UNITS))
    percent = form["rest"].endswith("%")
    units = {"%": 0} if percent else _UNITS[quantity]
    plain = f"{quantity} takes a plain number or %"
    hint = f"{list_units(quantity, _UNITS[quantity])}, or %" if any(_UNITS[quantity]) else plain
    hint = f"{hint}; for example {_example(quantity)}"
    bound = parse_quantity(form["rest"], units, f"constraint {text!r}", hint, f"no number after {comparison}")
    if percent and not 0 < bound < 100:
        raise InputError(f"constraint {text!r}: a percentage lies between 0% and 100%", f"For example {quantity}>50%")
    return Constraint(quantity, comparison, bound, percent)


@dataclass(frozen=True)
class ConstrainedEvaluator:
    """An evaluator that asks another one only about cells that satisfy every constraint, none a percentage.

    The constraints are checked in the order of what they cost: params, mult-adds, scores without training, latency; the
    first that is violated ends the check.

    Args:
        setup: The child networks, for scores without training.
        meter: Measures params, mult-adds and latency.
        first_epochs: Epochs of the first training of a trial, before which it is checked; later ones are of cells that
            satisfied the constraints.
    """

    evaluator: Evaluator
    constraints: tuple[Constraint, ...]
    setup: ChildSetup
    meter: CostMeter
    first_epochs: int | None = None

    def __post_init__(self) -> None:
        if open_ := [str(constraint) for constraint in self.constraints if constraint.percent]:
            raise ValueError(f"{', '.join(open_)} was not resolved")

    def start_from(self, parent: str) -> Evaluator:
        """As the other evaluator's."""
        return replace(self, evaluator=start_from(self.evaluator, parent))

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The other evaluator's score, with the latency where a constraint names it.

        Raises:
            RejectedError: The genotype violates a constraint; the message names it and the measured value.
        """
        latency = self._check(genotype, seed) if epochs == self.first_epochs else None
        return replace(self.evaluator.evaluate(genotype, seed, epochs), latency=latency)

    def _check(self, genotype: Genotype, seed: int) -> Latency | None:
        for quantity in ZERO_COST_SCORES:
            if constraints := self._select(quantity):
                value = ZERO_COST_SCORES[quantity](_choose_setup(quantity, self.setup, self.meter), genotype, seed)
                for violation in _list_violations(constraints, value):
                    raise RejectedError(violation)
        if not (constraints := self._select("latency")):
            return None
        latency = self.meter.latency(genotype)
        for violation in _list_violations(constraints, latency.seconds):
            raise LatencyRejectedError(violation, latency)
        return latency

    def _select(self, quantity: str) -> list[Constraint]:
        return [constraint for constraint in self.constraints if constraint.quantity == quantity]


def _list_violations(constraints: Iterable[Constraint], value: float) -> Iterator[str]:
    return (constraint.violation(value) for constraint in constraints if not constraint.is_satisfied(value))


def resolve_percentages(
    constraints: Iterable[Constraint],
    setup: ChildSetup,
    space: SearchSpace,
    seed: int,
    meter: CostMeter,
    *,
    sample: int = 64,
) -> tuple[Constraint, ...]:
    """The constraints with every percentage replaced by the number that so many percent of random cells lie below.

    The number depends a little on the machine (a latency much), so a run keeps it, not the percentage, for its
    resumption.

    Args:
        seed: The run's seed; the cells and their weights follow from it.
        meter: Measures params, mult-adds and latency.
        sample: Cells that are drawn. With 64, the true share of a 50% constraint is within 13 points of it 19 times
            out of 20.

    Raises:
        InputError: One of the cells cannot be scored.
    """
    constraints = tuple(constraints)
    cells = draw_genotypes(space, random.Random(derive_seed(seed, "limits")), sample)
    wanted = {constraint.quantity for constraint in constraints if constraint.percent}
    values = {quantity: _measure_all(quantity, setup, cells, seed, meter) for quantity in _UNITS if quantity in wanted}
    return tuple(
        replace(
            constraint, bound=float(np.quantile(values[constraint.quantity], constraint.bound / 100)), percent=False
        )
        if constraint.percent
        else constraint
        for constraint in constraints
    )


def _choose_setup(quantity: str, setup: ChildSetup, meter: CostMeter) -> ChildSetup:
    """The networks whose quantity it is: those that will be deployed for a cost, the children for other scores."""
    return meter.setup if quantity in UNITS else setup


def _measure_all(quantity: str, setup: ChildSetup, cells: list[Genotype], seed: int, meter: CostMeter) -> list[float]:
    chosen = _choose_setup(quantity, setup, meter)
    values = []
    for k, cell in enumerate(cells):
        try:
            if quantity == "latency":
                values.append(meter.latency(cell).seconds)
            else:
                values.append(ZERO_COST_SCORES[quantity](chosen, cell, derive_seed(seed, "limits", k)))
        except NascliError as error:
            raise InputError(
                f"a percentage of {quantity}: random cell {k} cannot be scored: {error.message}",
                f"Give the constraint as a number, for example {_example(quantity)}",
            ) from error
    return values


def _example(quantity: str) -> str:
    return f"{quantity}<{EXAMPLES[quantity]}" if quantity in EXAMPLES else f"{quantity}>100"
