"""What a training will cost, from a few of its real steps."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nascli.classify.job import TrainJob
from nascli.classify.loop import Plan, train_epoch
from nascli.classify.memory import step_memory
from nascli.classify.metrics import evaluate
from nascli.classify.state import start_state
from nascli.engine.device import cpu_threads
from nascli.models.cost import measure_cost

_STEPS = 6
_UNTIMED = 2
"""The first steps warm up caches and memory."""


@dataclass(frozen=True)
class Estimate:
    """The plan of a training and its measured cost.

    Args:
        params: Trainable parameters without the auxiliary head.
        mult_adds: Multiply-accumulates of one image.
        image_size: Height and width in pixels that `mult_adds` are for.
        train_images: Training images.
        val_images: Images that every epoch ends with measuring.
        epochs: To be made.
        steps: Optimizer steps in all.
        seconds_per_step: Median over the measured steps, data included.
        seconds: Of the whole training, evaluations included.
        memory: Bytes that a step needs at its peak: all tensors of the step and the training's state on a CPU, whatever
            torch had allocated on CUDA.
    """

    params: int
    mult_adds: int
    image_size: int
    train_images: int
    val_images: int
    epochs: int
    steps: int
    seconds_per_step: float
    seconds: float
    memory: int


class _Enough(Exception):  # noqa: N818 - not an error: the way out of a loop that is not ours
    """Enough steps were timed."""


def estimate_job(job: TrainJob) -> Estimate:
    """Time a few steps and one evaluation batch of a job; nothing is written."""
    with cpu_threads(job.recipe.train.threads):
        return _estimate(job)


def _estimate(job: TrainJob) -> Estimate:
    plan = Plan.of(job.data, job.recipe.train, job.recipe.data, job.recipe.seed, job.device)
    network = job.new_network()
    cost = measure_cost(job.spec)
    state = start_state(job.new_network(), job.recipe.train, job.device)
    train = job.data.train.to(job.device)
    on_cuda = job.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(job.device)
    step = median_step(lambda after_step: train_epoch(state, plan, train, after_step), job.device, _STEPS)
    memory = torch.cuda.max_memory_allocated(job.device) if on_cuda else step_memory(state, plan)
    test = job.data.val.to(job.device)
    sample = test.take(torch.arange(min(len(test), 256)))
    network.to(job.device).to(memory_format=torch.channels_last)
    evaluate(network, sample, normalizer=plan.normalizer, device=job.device)
    since = time.monotonic()
    evaluate(network, sample, normalizer=plan.normalizer, device=job.device)
    evaluation = (time.monotonic() - since) * len(test) / len(sample)
    return Estimate(
        cost.params,
        cost.mult_adds,
        cost.image_size,
        len(job.data.train),
        len(test),
        job.recipe.train.epochs,
        plan.steps,
        step,
        plan.steps * step + job.recipe.train.epochs * evaluation,
        memory,
    )


def median_step(train: Callable[[Callable[[], None]], None], device: torch.device, steps: int) -> float:
    """Seconds a step: the median over the first steps of a training, warm-up left out.

    Args:
        train: Trains, calling what it is given after each step; it is left when enough steps were timed.
        device: Waited for after each step.
        steps: How many are timed.
    """
    times = [time.monotonic()]

    def after_step() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic())
        if len(times) > _UNTIMED + steps:
            raise _Enough

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), contextlib.suppress(_Enough):
        train(after_step)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps[_UNTIMED:] or gaps)
