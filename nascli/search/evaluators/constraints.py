"""Limits: what a cell must keep before it is trained, as `params<6M`, `latency<20ms` or `naswot>50%`.

A limit is a quantity, a comparison, and a number with its unit. All quantities are of the child network as the recipe
builds it, not of the larger network that a found cell may end up in.
"""

import operator
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from nascli.config import suggestion
from nascli.engine.device import cpu_threads
from nascli.errors import InputError, NascliError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace
from nascli.models import latency
from nascli.search.evaluators.proxy import Evaluator, ProxyTraining
from nascli.search.evaluators.zero_cost import CHEAP_SCORES, untrained_child
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
_UNITS: dict[str, dict[str, int]] = {
    "params": UNITS["params"],
    "mult_adds": UNITS["mult_adds"],
    "naswot": {"": 0},
    "gradient_norm": {"": 0},
    "latency": UNITS["latency"],
}
"""The units of each quantity, largest first, as powers of ten; the quantities in the order of their cost."""

_FORM = re.compile(r"(?P<quantity>[^<>=]*?)\s*(?P<comparison><=|>=|<|>)\s*(?P<rest>[^<>=]*)")


@dataclass(frozen=True)
class Limit:
    """One bound on one quantity; `str` gives its text, which `parse_limit` reads back.

    Args:
        quantity: `params`, `mult_adds`, `naswot`, `gradient_norm` or `latency`.
        comparison: How the quantity must compare with the bound.
        bound: A number in plain units, latency in seconds; or percent of random cells.
        percent: Whether `bound` is the place among random cells, in (0, 100), which `resolve_percentages` replaces by
            a number: `naswot>75%` is above three quarters of them, `params<25%` among the smallest quarter.
    """

    quantity: str
    comparison: Comparison
    bound: float
    percent: bool = False

    def keeps(self, value: float) -> bool:
        """Whether a measured value is inside; one that is not a number never is."""
        return _COMPARISONS[self.comparison](value, self.bound)

    def breach(self, value: float) -> str:
        """One line about a value that is outside: `params 7.3M breaks params<6M`."""
        rounded = float(f"{value:.4g}")
        said = format_exactly(value if self.keeps(rounded) else rounded, _UNITS[self.quantity])
        return f"{self.quantity} {said} breaks {self}"

    def __str__(self) -> str:
        units = {"%": 0} if self.percent else _UNITS[self.quantity]
        bound = format_exactly(self.bound, units)
        return f"{self.quantity}{self.comparison}{bound}"


def parse_limit(text: str) -> Limit:
    """The limit that a text stands for; spaces do not matter.

    Raises:
        InputError: It is not quantity, comparison, number and unit; the message says which part is wrong.

    Example:
        >>> str(parse_limit("mult_adds <= 0.6G"))
        'mult_adds<=600M'
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise InputError(f"limit {text!r}: no quantity and comparison", "Write it like params<6M, with <, <=, > or >=")
    quantity, comparison = form["quantity"], cast(Comparison, form["comparison"])
    if quantity not in _UNITS:
        raise InputError(f"limit {text!r}: unknown quantity {quantity!r}", suggestion(quantity, _UNITS))
    percent = form["rest"].endswith("%")
    units = {"%": 0} if percent else _UNITS[quantity]
    hint = f"{_units_of(quantity)}; for example {_example(quantity)}"
    bound = parse_quantity(form["rest"], units, f"limit {text!r}", hint, f"no number after {comparison}")
    if percent and not 0 < bound < 100:
        raise InputError(f"limit {text!r}: a percentage lies between 0% and 100%", f"For example {quantity}>50%")
    return Limit(quantity, comparison, bound, percent)


@dataclass(frozen=True)
class Limited:
    """An evaluator that asks another one only about cells that keep every limit.

    The limits are checked in the order of what they cost: params, mult-adds, scores without training, latency; the
    first that is broken ends the check.

    Args:
        evaluator: Scores the cells that are left.
        limits: Without percentages.
        proxy: The proxy task whose child networks are measured.

    Raises:
        ValueError: A limit is a percentage still.
    """

    evaluator: Evaluator
    limits: tuple[Limit, ...]
    proxy: ProxyTraining

    def __post_init__(self) -> None:
        for limit in self.limits:
            if limit.percent:
                raise ValueError(f"{limit} was not resolved")

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The other evaluator's score.

        Raises:
            RejectedError: The genotype breaks a limit; the message names it and the measured value.
        """
        for quantity in _UNITS:
            limits = [limit for limit in self.limits if limit.quantity == quantity]
            value = measure(quantity, self.proxy, genotype, seed) if limits else 0.0
            for limit in limits:
                if not limit.keeps(value):
                    raise RejectedError(limit.breach(value))
        return self.evaluator.evaluate(genotype, seed, epochs)


def resolve_percentages(
    limits: Iterable[Limit], proxy: ProxyTraining, space: SearchSpace, seed: int, sample: int = 64
) -> tuple[Limit, ...]:
    """The limits with every percentage replaced by the number that so many percent of random cells lie below.

    The number depends a little on the machine (a latency much), so a run keeps it, not the percentage, to go on with.

    Args:
        limits: With and without percentages.
        proxy: The proxy task whose child networks are measured.
        space: Where the random cells come from.
        seed: The run's seed; the cells and their weights follow from it.
        sample: How many cells are drawn. With 64, the true share of a 50% limit is within 13 points of it 19 times
            out of 20.

    Raises:
        InputError: One of the cells cannot be scored.
    """
    limits = tuple(limits)
    draw = random.Random(derive_seed(seed, "limits"))
    tokens = [[draw.randrange(size) for size in space.decision_sizes] for _ in range(sample)]
    cells = [space.decode(each, name=f"random-{k}") for k, each in enumerate(tokens)]
    wanted = {limit.quantity for limit in limits if limit.percent}
    values = {quantity: _measure_all(quantity, proxy, cells, seed) for quantity in _UNITS if quantity in wanted}
    return tuple(
        replace(limit, bound=float(np.quantile(values[limit.quantity], limit.bound / 100)), percent=False)
        if limit.percent
        else limit
        for limit in limits
    )


def measure(quantity: str, proxy: ProxyTraining, genotype: Genotype, seed: int) -> float:
    """A quantity of the child network of a genotype, in plain units; of a quantity that a limit can name."""
    return measure_latency(proxy, genotype) if quantity == "latency" else CHEAP_SCORES[quantity](proxy, genotype, seed)


def measure_latency(proxy: ProxyTraining, genotype: Genotype) -> float:
    """Seconds that the child network takes for one image.

    In evaluation mode, float32, on the proxy's device, with one thread on a CPU: after 3 runs to warm up, the median
    of 15. It is the one quantity that is not repeatable: it counts whatever else the machine does, other workers too,
    so a cell near the bound may pass one time and not the next.
    """
    network = untrained_child(proxy, genotype, seed=0).eval()
    with cpu_threads(1):
        return latency.measure_latency(network, network.spec.image_size).seconds


def _measure_all(quantity: str, proxy: ProxyTraining, cells: list[Genotype], seed: int) -> list[float]:
    values = []
    for k, cell in enumerate(cells):
        try:
            values.append(measure(quantity, proxy, cell, derive_seed(seed, "limits", k)))
        except NascliError as error:
            raise InputError(
                f"a percentage of {quantity}: random cell {k} cannot be scored: {error.message}",
                f"Give the limit as a number, for example {_example(quantity)}",
            ) from error
    return values


def _units_of(quantity: str) -> str:
    if not any(_UNITS[quantity]):
        return f"{quantity} takes a plain number or %"
    return f"{list_units(quantity, _UNITS[quantity])}, or %"


def _example(quantity: str) -> str:
    return f"{quantity}<{EXAMPLES[quantity]}" if quantity in EXAMPLES else f"{quantity}>100"
