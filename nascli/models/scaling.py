"""Sizes for a target: the width, and the depth, whose network has so many params or mult-adds, or such a latency.

Whatever is measured grows with the width, nearly with its square: so the width is found by secants through the square
roots of sizes that were measured exactly, and no second formula for a cost is needed. Which numbers of a network are
its width and depth, and in which steps the width is tried, says its family (`SizeKnobs`): for cells F and N. Of mobile
networks, whose channels are rounded, a wider one may cost the same, or a little less: the nearest of those around is
chosen.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal

from nascli.errors import InputError
from nascli.models.cost import measure_cost
from nascli.models.families import build, find_family
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.models.spec import NetworkSpec, SizeKnobs
from nascli.units import UNITS, format_exactly, format_quantity, parse_amount

Quantity = Literal["params", "mult_adds", "latency"]

TOLERANCE = 0.02
"""A size that is off by at most this share of the target is as good as another."""

_MOST_TIMED = 1_000_000_000
"""Params of the largest network that is timed."""

_SECANTS = 8
"""Steps after which the width is found by halving the interval."""


@dataclass(frozen=True)
class Target:
    """The cost that a network shall have: `amount` of a quantity in plain units, latency in seconds."""

    quantity: Quantity
    amount: float

    def distance(self, size: "SizeCost") -> float:
        """The distance of a size, as a share of the target; negative where it is below."""
        return size.amount(self.quantity) / self.amount - 1

    def __str__(self) -> str:
        return _name_amount(self.quantity, format_exactly(self.amount, UNITS[self.quantity]))


@dataclass(frozen=True)
class SizeCost:
    """One size, its width in steps, and what it costs; `latency` only where it was measured."""

    knobs: SizeKnobs
    width: int
    depth: int
    params: int
    mult_adds: int
    latency: Latency | None = None

    @property
    def values(self) -> dict[str, int | float]:
        """The size as keys of the recipe section `[network]`."""
        return self.knobs.values(self.width, self.depth)

    @property
    def label(self) -> str:
        """`F = 44, N = 4`."""
        return ", ".join(f"{self.knobs.symbols[key]} = {value}" for key, value in self.values.items())

    def amount(self, quantity: Quantity) -> float:
        """The cost that a target names."""
        if quantity != "latency":
            return float(self.params if quantity == "params" else self.mult_adds)
        assert self.latency is not None, "a target of latency measures it"
        return self.latency.seconds

    def text(self, quantity: Quantity) -> str:
        """The same in four digits: `563.6M mult-adds`."""
        return _name_amount(quantity, format_quantity(self.amount(quantity), UNITS[quantity]))

    def to_dict(self) -> dict[str, object]:
        """Size and costs by name."""
        latency = self.latency and self.latency.model_dump()
        return {**self.values, "params": self.params, "mult_adds": self.mult_adds, "latency": latency}


@dataclass(frozen=True)
class SizeTable:
    """The sizes around a target, by depth and width, and which of them was chosen."""

    target: Target
    sizes: tuple[SizeCost, ...]
    chosen: SizeCost

    @property
    def distance(self) -> float:
        """The distance of the chosen size from the target, as a share of it."""
        return self.target.distance(self.chosen)

    @property
    def hit(self) -> bool:
        """Whether the chosen size is within `TOLERANCE`."""
        return abs(self.distance) <= TOLERANCE

    @property
    def neighbors(self) -> tuple[SizeCost, ...]:
        """The sizes of the chosen depth between which the target lies: one on each side, where there is one."""
        mine = [size for size in self.sizes if size.depth == self.chosen.depth]
        ordered = sorted(mine, key=self.target.distance)
        above = bisect_left(ordered, 0.0, key=self.target.distance)
        return tuple(ordered[max(above - 1, 0) : above + 1])

    def to_dict(self) -> dict[str, object]:
        """Target, choice and all sizes, with the distance of each."""
        return {
            "quantity": self.target.quantity,
            "target": self.target.amount,
            **self.chosen.values,
            "distance": self.distance,
            "sizes": [{**size.to_dict(), "distance": self.target.distance(size)} for size in self.sizes],
        }


Measure = Callable[[int, int], SizeCost]
"""From width and depth to that size and its cost."""

Timer = Callable[[ImageClassifier], Latency]
"""From a network to its latency."""


def parse_target(quantity: Quantity, text: str) -> Target:
    """The target that a text like `600M` or `20ms` stands for.

    Raises:
        InputError: It is not a positive number with a unit of the quantity.
    """
    return Target(quantity, parse_amount(quantity, text, f"--target-{quantity.replace('_', '-')} {text}"))


def measure_size(spec: NetworkSpec, time: Timer | None = None) -> SizeCost:
    """The cost of a network, from one trace; its latency too, where there is a timer.

    Raises:
        InputError: It shall be timed, and has more than a billion params.
    """
    cost = measure_cost(spec)
    if time and cost.params > _MOST_TIMED:
        raise InputError(
            f"a network of {format_quantity(cost.params, UNITS['params'])} params ({spec.size_text}) is not timed",
            "Give a shorter latency, or a larger image",
        )
    latency = time(build(spec.without_aux_head())) if time else None
    knobs, values = find_family(spec.family).knobs, spec.config_values()
    width = knobs.count_steps(float(str(values[knobs.width])))
    depth = int(str(values[knobs.depth])) if knobs.depth else 1
    return SizeCost(knobs, width, depth, cost.params, cost.mult_adds, latency)


def scale_to_target(
    spec: NetworkSpec,
    resize: Callable[[dict[str, int | float]], NetworkSpec],
    target: Target,
    *,
    vary_depth: bool = False,
    time: Timer | None = None,
) -> SizeTable:
    """The sizes of a network around a target (see `find_size`).

    Args:
        spec: The network to start from.
        resize: The network with other values of the family's size keys.
        vary_depth: Choose the depth, too, from the family's `depths`.
        time: For a target of latency.
    """
    start = measure_size(spec)

    def measure(width: int, depth: int) -> SizeCost:
        return measure_size(resize(start.knobs.values(width, depth)), time)

    return find_size(measure, target, start, start.knobs.depths if vary_depth else ())


def find_size(measure: Measure, target: Target, start: SizeCost, depths: Collection[int] = ()) -> SizeTable:
    """The width, and depth, whose cost is nearest to a target.

    The depth is kept where there are no `depths`. Else it is the one nearest to that of `start` that has a width
    within `TOLERANCE` of the target (of two as near, the one whose width comes closer); where no depth has one, the
    size nearest to the target of all. Depths with which the network cannot be built are passed over.

    Args:
        measure: Called once for each size; for one depth 4 to 8 times, seldom more.
        start: Width to begin with, which may be any, and depth to keep, or to stay near.
        depths: Depths to choose from.

    Raises:
        InputError: Every size is larger, or every one smaller, than the target by more than `TOLERANCE`.
    """
    measured = cache(measure)
    found: list[SizeCost] = []
    failures: list[InputError] = []

    def steps(depth: int) -> int:
        return abs(depth - start.depth)

    for _, group in groupby(sorted(depths or (start.depth,), key=steps), key=steps):
        for depth in group:
            if not _may_reach(depth, found, target):
                continue
            # begin with the best width of the nearest depth so far
            like = min(found, key=lambda size: (abs(size.depth - depth), abs(target.distance(size))), default=start)
            try:
                found += _bracket(measured, target, like.width, depth, start.knobs.max_width)
            except InputError as error:
                failures.append(error)
        if any(abs(target.distance(size)) <= TOLERANCE for size in found):
            break
    if not found:
        raise failures[0]
    _check_reached(found, target, depths)
    return _make_table(measured, target, found)


def _name_amount(quantity: Quantity, amount: str) -> str:
    """An amount and what of: `600M mult-adds`, `a latency of 20ms`."""
    return f"a latency of {amount}" if quantity == "latency" else f"{amount} {quantity.replace('_', '-')}"


def _may_reach(depth: int, found: list[SizeCost], target: Target) -> bool:
    """Whether a depth may come nearer than those found: not if width 1 is too large with a smaller one, and so on."""
    return not any(
        (size.width == 1 and depth > size.depth and target.distance(size) >= 0)
        or (size.width == size.knobs.max_width and depth < size.depth and target.distance(size) < 0)
        for size in found
    )


def _bracket(measure: Measure, target: Target, first: int, depth: int, most: int) -> list[SizeCost]:
    """The two sizes of this depth between which the target lies; one, where all are larger or all smaller."""
    below, above, guess = 0, most + 1, min(first, most)  # widths that cost less, and at least as much
    root = math.sqrt(target.amount)
    last = (0, 0.0)  # a width, and the square root of its cost
    step = 0
    while above - below > 1:
        size, step = measure(guess, depth), step + 1
        now = (guess, math.sqrt(size.amount(target.quantity)))
        below, above = (guess, above) if target.distance(size) < 0 else (below, guess)
        slope = (now[1] - last[1]) / (now[0] - last[0])
        # where a secant leads nowhere, and after many of them (a latency jumps about), the interval is halved
        secant = slope > 0 and step < _SECANTS
        wanted = now[0] + (root - now[1]) / slope if secant else (below + above) / 2
        highest = above - 1 if above <= most else min(most, 4 * below)
        guess, last = min(max(round(wanted), below + 1), highest), now
    return [measure(width, depth) for width in (below, above) if 1 <= width <= most]


def _find_nearest(sizes: Iterable[SizeCost], target: Target) -> SizeCost:
    return min(sizes, key=lambda size: abs(target.distance(size)))


def _check_reached(found: list[SizeCost], target: Target, depths: Collection[int]) -> None:
    distances = [target.distance(size) for size in found]
    if min(distances) <= TOLERANCE and max(distances) >= -TOLERANCE:
        return
    less = min(distances) > TOLERANCE
    end = (min if less else max)(found, key=target.distance)
    hint, key = "Ask for more" if less else "Ask for less", end.knobs.depth
    if key and not (depths or (less and end.depth == 1)):
        hint = f"{hint}, or let {end.knobs.symbols[key]} vary: --{key.replace('_', '-')} auto"
    raise InputError(
        f"the target of {target} is out of reach: the {'least' if less else 'most'} is {end.text(target.quantity)}, "
        f"with {end.label}",
        hint,
    )


def _make_table(measure: Measure, target: Target, found: list[SizeCost]) -> SizeTable:
    """The sizes around the nearest with its depth, and with each other depth that was tried the nearest.

    A latency may come out nearer at one of those around than at the nearest found: then that one is chosen.
    """
    best = _find_nearest(found, target)
    mine = range(max(1, best.width - 2), min(best.knobs.max_width, best.width + 2) + 1)
    sizes = [measure(width, best.depth) for width in mine]
    chosen = _find_nearest(sizes, target)
    for depth in {size.depth for size in found} - {best.depth}:
        sizes.append(_find_nearest((size for size in found if size.depth == depth), target))
    return SizeTable(target, tuple(sorted(sizes, key=lambda size: (size.depth, size.width))), chosen)
