"""What a detection run will cost, from a few of its real steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from nascli.detect.inference import detect_boxes
from nascli.detect.job import DetectJob
from nascli.detect.loop import train_epoch
from nascli.detect.state import close_epoch, start_state
from nascli.engine.device import cpu_threads
from nascli.engine.estimate import median_step

_STEPS = 4


@dataclass(frozen=True)
class DetectEstimate:
    """The plan of a detection run and its measured cost.

    Args:
        params: Trainable parameters.
        train_images: Pictures to learn from.
        train_boxes: Boxes on them, crowds left out.
        scored_images: Pictures whose average precision is measured.
        scored_boxes: Boxes on them, crowds left out.
        classes: Of the data.
        epochs: To be made.
        steps: Optimizer steps in all.
        seconds_per_step: Median over the measured steps, reading the pictures included.
        seconds: Of the whole run, scoring included.
    """

    params: int
    train_images: int
    train_boxes: int
    scored_images: int
    scored_boxes: int
    classes: int
    epochs: int
    steps: int
    seconds_per_step: float
    seconds: float


def estimate_job(job: DetectJob) -> DetectEstimate:
    """Time a few steps and one batch of finding boxes; nothing is written, the job cannot be trained afterwards."""
    with cpu_threads(job.recipe.train.threads):
        return _estimate(job)


def _estimate(job: DetectJob) -> DetectEstimate:
    plan, config = job.plan, job.recipe.train
    step = median_step(partial(_train, job), job.device, _STEPS)
    sample = replace(job.scored, images=job.scored.images[: plan.part_size])
    since = time.monotonic()
    detect_boxes(job.detector, sample, job.device, plan.part_size)
    scoring = (time.monotonic() - since) * len(job.scored.images) / len(sample.images)
    scorings = 1 + (config.epochs - 1) // config.eval_interval if config.eval_interval else 1
    return DetectEstimate(
        params=sum(p.numel() for p in job.detector.parameters() if p.requires_grad),
        train_images=len(job.data.train.images),
        train_boxes=job.data.train.boxes,
        scored_images=len(job.scored.images),
        scored_boxes=job.scored.boxes,
        classes=len(job.data.categories),
        epochs=config.epochs,
        steps=plan.steps,
        seconds_per_step=step,
        seconds=plan.steps * step + scorings * scoring,
    )


def _train(job: DetectJob, after_step: Callable[[], None]) -> None:
    """The steps of all epochs, unscored."""
    state = start_state(job.detector, job.plan)
    for _ in range(job.plan.config.epochs):
        train_epoch(state, job.plan, job.data.train, after_step)
        close_epoch(state, job.plan, {})
