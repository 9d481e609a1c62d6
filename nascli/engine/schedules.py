"""Numbers that change over a training: pure functions of the step, joined from simple ones."""

import math
from bisect import bisect_right
from collections.abc import Callable

from nascli.config import OptimConfig

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


def join_schedules(first: Schedule, second: Schedule, boundary: int) -> Schedule:
    """`first` before step `boundary`; from there `second`, which counts its steps from the boundary."""
    return lambda step: first(step) if step < boundary else second(step - boundary)


def staircase(start: float, factor: float, every: float) -> Schedule:
    """start factor^floor(step / every).

    Args:
        every: Steps per stair; need not be whole.

    References: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 8.
    """
    return lambda step: start * factor ** math.floor(step / every)


def warm_up(steps: int, peak: float, then: Schedule) -> Schedule:
    """Linear up to `peak`, which is reached at step `steps`; from there `then`, which begins with it.

    Args:
        steps: Length of the rise; 0 starts at the peak.
        then: Counts its steps from the end of the rise.
    """
    return join_schedules(linear(peak / (steps + 1), peak, steps), then, steps)


def peak_lr(config: OptimConfig, batch_size: int) -> float:
    """The highest learning rate: the recipe's, in proportion to the images per step where it says for how many it is.

    References: Goyal et al. 2017, "Accurate, Large Minibatch SGD", the linear scaling rule.
    """
    return config.lr * batch_size / config.lr_base_size if config.lr_base_size else config.lr


def learning_rate(config: OptimConfig, batch_size: int, steps_per_epoch: int) -> Schedule:
    """A recipe's learning rate: linear warm-up, then a cosine to 0, an exponential decay by steps, or milestones.

    Args:
        batch_size: Images per step, which may be fewer than `config.batch_size`.
    """
    peak, steps = peak_lr(config, batch_size), config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch) + config.warmup_steps, steps)
    if config.schedule == "cosine":
        return warm_up(warmup, peak, cosine(peak, steps - warmup))
    if config.schedule == "exponential":
        return warm_up(warmup, peak, staircase(peak, config.decay_rate, config.decay_epochs * steps_per_epoch))
    boundaries = [round(part * steps) - warmup for part in config.lr_milestones]
    return warm_up(warmup, peak, lambda step: peak * config.lr_gamma ** bisect_right(boundaries, step))
