"""Numbers that change over a training: pure functions of the step, joined from simple ones."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
"""From the step, counted from 0, to a number."""


def linear(start: float, end: float, steps: int) -> Schedule:
    """start + (end - start) step / steps, and `end` from then on."""
    return lambda step: end if step >= steps else start + (end - start) * step / steps


def cosine(start: float, steps: int) -> Schedule:
    """start (1 + cos(pi step / steps)) / 2: falls to 0 at `steps`, and stays there.

    References: Loshchilov and Hutter, 2017, "SGDR", equation 5, one period without restarts.
    """
    return lambda step: 0.0 if step >= steps else start * (1 + math.cos(math.pi * step / steps)) / 2


def join(first: Schedule, second: Schedule, boundary: int) -> Schedule:
    """`first` before step `boundary`; from there `second`, which counts its steps from the boundary."""
    return lambda step: first(step) if step < boundary else second(step - boundary)


def staircase(start: float, factor: float, every: float) -> Schedule:
    """start factor^floor(step / every).

    Args:
        start: The first value.
        factor: Of one stair to the next.
        every: Steps on one stair; need not be whole.

    References: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 8.
    """
    return lambda step: start * factor ** math.floor(step / every)


def warm_up(steps: int, peak: float, then: Schedule) -> Schedule:
    """Linear up to `peak`, which is reached at step `steps`; from there `then`, which begins with it.

    Args:
        steps: Length of the rise; 0 starts at the peak.
        peak: The highest value.
        then: Counts its steps from the end of the rise.
    """
    return join(linear(peak / (steps + 1), peak, steps), then, steps)


def warmup_cosine(peak: float, warmup_steps: int, steps: int) -> Schedule:
    """Linear up to `peak`, then a cosine to 0.

    Args:
        peak: The highest rate, reached at step `warmup_steps`.
        warmup_steps: Length of the rise; 0 starts at the peak.
        steps: Length of the whole; the rate would be 0 at this step, which is one after the last.
    """
    return warm_up(warmup_steps, peak, cosine(peak, steps - warmup_steps))
