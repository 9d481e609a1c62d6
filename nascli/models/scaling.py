"""Filters F, and normal cells a stage N, for a target: a network of so many params or mult-adds, or of such a latency.

Whatever is measured grows with F, nearly with its square: so F is found by secants through the square roots of sizes
that were measured exactly, and no second formula for a cost is needed.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import torch

from nascli.errors import InputError
from nascli.models.cost import measure_cost
from nascli.models.families import build, find_family
from nascli.models.latency import Latency, measure_latency
from nascli.models.spec import NetworkSpec
from nascli.units import (
    EXAMPLES,
    UNITS,
    format_exactly,
    format_quantity,
    list_units,
    parse_quantity,
)

Quantity = Literal["params", "mult_adds", "latency"]

TOLERANCE = 0.02
"""A size that is off by at most this part of the target is as good as another."""

LARGEST_FILTERS = 1024
"""The largest F that is tried; published networks end at 512."""

AUTO_CELLS = range(1, 21)
"""The N that `--cells-per-stage auto` chooses from."""

_LARGEST_TIMED = 1_000_000_000
_SECANTS = 8


@dataclass(frozen=True)
class Target:
    """What a network shall cost: `amount` of a quantity in plain units, latency in seconds."""

    quantity: Quantity
    amount: float

    def distance(self, rung: "Rung") -> float:
        """How far a size is off, as a part of the target; negative where it is below."""
        return rung.amount(self.quantity) / self.amount - 1

    def __str__(self) -> str:
        return said(self.quantity, format_exactly(self.amount, UNITS[self.quantity]))


@dataclass(frozen=True)
class Rung:
    """One size and what it costs; `latency` only where it was measured."""

    filters: int
    cells_per_stage: int
    params: int
    mult_adds: int
    latency: Latency | None = None

    @property
    def size(self) -> dict[str, int]:
        """F and N by the names that a spec gives them."""
        return {"filters": self.filters, "cells_per_stage": self.cells_per_stage}

    def amount(self, quantity: Quantity) -> float:
        """The cost that a target names."""
        if quantity == "latency":
            assert self.latency is not None, "a target of latency measures it"
            return self.latency.seconds
        return float({"params": self.params, "mult_adds": self.mult_adds}[quantity])

    def text(self, quantity: Quantity) -> str:
        """The same in four digits: `563.6M mult-adds`."""
        return said(quantity, format_quantity(self.amount(quantity), UNITS[quantity]))


@dataclass(frozen=True)
class Ladder:
    """The sizes around a target, by N and F, and which of them was chosen."""

    target: Target
    rungs: tuple[Rung, ...]
    chosen: Rung

    @property
    def distance(self) -> float:
        """How far the chosen size is off the target, as a part of it."""
        return self.target.distance(self.chosen)

    @property
    def hit(self) -> bool:
        """Whether the chosen size is within `TOLERANCE`."""
        return abs(self.distance) <= TOLERANCE

    @property
    def neighbours(self) -> tuple[Rung, ...]:
        """The sizes with the chosen N between which the target lies: one on each side, where there is one."""
        mine = [rung for rung in self.rungs if rung.cells_per_stage == self.chosen.cells_per_stage]
        ordered = sorted(mine, key=self.target.distance)
        above = bisect_left(ordered, 0.0, key=self.target.distance)
        return tuple(ordered[max(above - 1, 0) : above + 1])

    def to_dict(self) -> dict[str, object]:
        """Target, choice and all rungs, with the distance of each."""
        return {
            "quantity": self.target.quantity,
            "target": self.target.amount,
            **self.chosen.size,
            "distance": self.distance,
            "rungs": [{**asdict(rung), "distance": self.target.distance(rung)} for rung in self.rungs],
        }


Measure = Callable[[int, int], Rung]
"""From F and N to that size and its cost."""


def parse_target(quantity: Quantity, text: str) -> Target:
    """The target that a text like `600M` or `20ms` stands for.

    Raises:
        InputError: It is not a positive number with a unit of the quantity.
    """
    place, units = f"--target-{quantity.replace('_', '-')} {text}", UNITS[quantity]
    hint = f"{list_units(quantity, units)}; for example {EXAMPLES[quantity]}"
    amount = parse_quantity(text, units, place, hint)
    if amount <= 0:
        raise InputError(f"{place}: a target is larger than 0", hint)
    return Target(quantity, amount)


def measure_size(spec: NetworkSpec, *, timed: bool = False) -> Rung:
    """What a network costs, from one trace; its latency too, if it is `timed`.

    Timed is one image on the CPU, in evaluation mode and float32, with the threads that torch takes by itself.

    Raises:
        InputError: It shall be timed, and has more than a billion params.
    """
    cost = measure_cost(spec)
    if timed and cost.params > _LARGEST_TIMED:
        raise InputError(
            f"a network of {format_quantity(cost.params, UNITS['params'])} params ({spec.size_text}) is not timed",
            "Give a shorter latency, or a larger image",
        )
    latency = _time(spec) if timed else None
    knobs, values = find_family(spec.family).knobs, spec.config_values()
    width, depth = (int(str(values[knob])) if knob else 1 for knob in (knobs.width, knobs.depth))
    return Rung(width, depth, cost.params, cost.mult_adds, latency)


def find_size(
    measure: Measure, target: Target, filters: int, cells_per_stage: int, choices: Collection[int] = ()
) -> Ladder:
    """The F, and N, whose cost is nearest to a target.

    N is kept where there are no choices. Else it is the one nearest to `cells_per_stage` that has an F within
    `TOLERANCE` of the target (of two as near, the one whose F comes closer); where no N has one, the size nearest to
    the target of all. N with which the cell cannot be built are passed over.

    Args:
        measure: What a size costs; asked once for each. Finding F for one N takes 4 to 8 measurements, seldom more.
        target: What the network shall cost.
        filters: F to start from; any will do.
        cells_per_stage: N to keep, or to stay near.
        choices: N to choose from.

    Raises:
        InputError: Every size is larger, or every one smaller, than the target by more than `TOLERANCE`.
    """
    measured = cache(measure)
    found: list[Rung] = []
    failures: list[InputError] = []
    for group in _by_distance(choices or (cells_per_stage,), cells_per_stage):
        for cells in group:
            if not _may_reach(cells, found, target):
                continue
            try:
                around = _around(measured, target, _start(found, target, filters, cells), cells)
            except InputError as error:
                failures.append(error)
                continue
            found += around
        if _nearest(found, target, within=TOLERANCE):
            break
    chosen = _nearest(found, target)
    if chosen is None:
        raise failures[0]
    _check_reached(found, target, choices)
    return _ladder(measured, target, chosen, found)


def said(quantity: Quantity, amount: str) -> str:
    """An amount and what of: `600M mult-adds`, `a latency of 20ms`."""
    return f"a latency of {amount}" if quantity == "latency" else f"{amount} {quantity.replace('_', '-')}"


def _time(spec: NetworkSpec) -> Latency:
    network = build(spec.without_aux_head()).eval()
    network.to(memory_format=torch.channels_last)
    return measure_latency(network, spec.image_size)


def _by_distance(choices: Collection[int], cells_per_stage: int) -> list[list[int]]:
    """The choices in groups of equal distance from N, the nearest first."""
    distances = sorted({abs(cells - cells_per_stage) for cells in choices})
    return [[cells for cells in choices if abs(cells - cells_per_stage) == distance] for distance in distances]


def _may_reach(cells: int, found: list[Rung], target: Target) -> bool:
    """Whether N may come nearer than those found: not if F = 1 is too large with a smaller N, and so on."""
    return not any(
        (rung.filters == 1 and cells > rung.cells_per_stage and target.distance(rung) >= 0)
        or (rung.filters == LARGEST_FILTERS and cells < rung.cells_per_stage and target.distance(rung) < 0)
        for rung in found
    )


def _start(found: list[Rung], target: Target, filters: int, cells: int) -> int:
    """The F to look at first: the best for the nearest N so far."""
    if not found:
        return min(filters, LARGEST_FILTERS)
    best = min(found, key=lambda rung: (abs(rung.cells_per_stage - cells), abs(target.distance(rung))))
    return best.filters


def _around(measure: Measure, target: Target, start: int, cells: int) -> list[Rung]:
    """The two sizes with this N between which the target lies; one, where all are larger or all smaller."""
    below, above, guess = 0, LARGEST_FILTERS + 1, start
    aim = math.sqrt(target.amount)
    earlier = (0, 0.0)  # F, and the square root of what it costs
    step = 0
    while above - below > 1:
        rung, step = measure(guess, cells), step + 1
        latest = (guess, math.sqrt(rung.amount(target.quantity)))
        below, above = (guess, above) if target.distance(rung) < 0 else (below, guess)
        rise = (latest[1] - earlier[1]) / (latest[0] - earlier[0])
        wanted = latest[0] + (aim - latest[1]) / rise if rise > 0 and step < _SECANTS else (below + above) / 2
        highest = above - 1 if above <= LARGEST_FILTERS else min(LARGEST_FILTERS, 4 * below)
        guess, earlier = min(max(round(wanted), below + 1), highest), latest
    return [measure(size, cells) for size in (below, above) if 1 <= size <= LARGEST_FILTERS]


def _nearest(rungs: list[Rung], target: Target, within: float = math.inf) -> Rung | None:
    near = [rung for rung in rungs if abs(target.distance(rung)) <= within]
    return min(near, key=lambda rung: abs(target.distance(rung)), default=None)


def _check_reached(found: list[Rung], target: Target, choices: Collection[int]) -> None:
    distances = [target.distance(rung) for rung in found]
    if min(distances) <= TOLERANCE and max(distances) >= -TOLERANCE:
        return
    less = min(distances) > TOLERANCE
    end = (min if less else max)(found, key=target.distance)
    hint = "Ask for more" if less else "Ask for less"
    raise InputError(
        f"the target of {target} is out of reach: the {'least' if less else 'most'} is {end.text(target.quantity)}, "
        f"with F = {end.filters} and N = {end.cells_per_stage}",
        hint if choices or (less and end.cells_per_stage == 1) else f"{hint}, or let N vary: --cells-per-stage auto",
    )


def _ladder(measure: Measure, target: Target, chosen: Rung, found: list[Rung]) -> Ladder:
    """The sizes around the chosen one with its N, and with each other N that was tried the nearest.

    A latency may come out nearer at one of those around than at the chosen one: then that one is chosen.
    """
    mine = range(max(1, chosen.filters - 2), min(LARGEST_FILTERS, chosen.filters + 2) + 1)
    rungs = [measure(size, chosen.cells_per_stage) for size in mine]
    chosen = _nearest(rungs, target) or chosen
    for cells in {rung.cells_per_stage for rung in found} - {chosen.cells_per_stage}:
        near = _nearest([rung for rung in found if rung.cells_per_stage == cells], target)
        rungs += [near] if near else []
    return Ladder(target, tuple(sorted(rungs, key=lambda rung: (rung.cells_per_stage, rung.filters))), chosen)
