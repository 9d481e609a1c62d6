"""The residual networks of He et al. 2016 at the cost of any network of nascli.

Deviation: widths other than 16, 32 and 64, so that they cost what they are compared with.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from nascli.classify.job import TrainJob
from nascli.models.cost import measure_cost
from nascli.models.resnet.family import ResNetSpec
from nascli.models.spec import NetworkSpec

WIDEST = 1024
"""Channels of the last stage up to which a width is looked for."""


def nearest_resnet(spec: NetworkSpec, depth: int) -> ResNetSpec:
    """The ResNet of this depth whose mult-adds are nearest to those of the network of `spec`, for the same data.

    The stages have w, 2w and 4w channels, w being the nearest there is; then the last stage gets the width that comes
    nearest of all, which is a finer step.
    """
    target = measure_cost(spec).mult_adds
    shared = spec.model_dump(include={"classes", "image_size", "class_names", "mean", "std", "preprocessing"})

    def with_widths(first: int, last: int) -> ResNetSpec:
        numbers = {"dropout": 0.0, "batch_norm_momentum": 0.1, "batch_norm_epsilon": 1e-5}
        return ResNetSpec(depth=depth, widths=(first, 2 * first, last), **numbers, **shared)

    def mult_adds(first: int, last: int) -> int:
        return measure_cost(with_widths(first, last)).mult_adds

    width = _nearest(range(1, WIDEST // 4), target, lambda width: mult_adds(width, 4 * width))
    return with_widths(width, _nearest(range(2 * width, WIDEST), target, lambda last: mult_adds(width, last)))


def resnet_beside(job: TrainJob, depth: int) -> TrainJob:
    """The same job for the ResNet of its cost."""
    return replace(job, spec=nearest_resnet(job.spec, depth))


def _nearest(choices: range, target: int, cost: Callable[[int], int]) -> int:
    """The choice whose cost, which grows with it, is nearest to the target."""
    above = min(bisect_left(choices, target, key=cost), len(choices) - 1)
    return min(choices[max(above - 1, 0) : above + 1], key=lambda choice: abs(cost(choice) - target))
