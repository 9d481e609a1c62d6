"""The cost of a detection run, measured on a few of its real steps."""

import time
from dataclasses import dataclass, replace

import torch

from nascli.detect.inference import detect_boxes
from nascli.detect.job import DetectJob
from nascli.engine.device import cpu_threads
from nascli.engine.estimate import median_step
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.errors import DeviceMemoryError
from nascli.units import count_of

_STEPS = 4


@dataclass(frozen=True)
class DetectCost:
    """The plan of a detection run and its measured cost; parameters are trainable ones, boxes are without crowds.

    Args:
        seconds_per_step: Median over the measured steps, with reading.
        seconds: The whole run, with its evaluations.
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


def estimate_detect_job(job: DetectJob) -> DetectCost:
    """Time a few steps and one evaluation batch; nothing is written, the job cannot be trained afterwards.

    Raises:
        DeviceMemoryError: The device cannot hold a micro-batch.
    """
    config, scored = job.recipe.train, job.scored
    with cpu_threads(config.threads):
        run = Run(job.device, retry_on_oom=False)
        task = job.task(run)
        try:
            step = median_step(start_state(task, run), task, job.recipe.seed, run, _STEPS)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"the device has not enough memory for {count_of(task.micro_batch_size, 'image')} of up to "
                f"{job.recipe.detector.max_size} pixels at once",
                "A run computes them in smaller micro-batches then. To measure that: a larger train.grad_accum_steps, "
                "or a smaller --batch-size or detector.max_size",
            ) from error
        batch_size = task.micro_batch_size
        sample = replace(scored, images=scored.images[:batch_size])
        since = time.monotonic()
        detect_boxes(job.detector, sample, run, batch_size)
        evaluation = (time.monotonic() - since) * len(scored.images) / len(sample.images)
    evaluations = 1 + (config.epochs - 1) // config.eval_interval if config.eval_interval else 1
    return DetectCost(
        params=sum(p.numel() for p in job.detector.parameters() if p.requires_grad),
        train_images=len(job.data.train.images),
        train_boxes=job.data.train.boxes,
        scored_images=len(scored.images),
        scored_boxes=scored.boxes,
        classes=len(job.data.categories),
        epochs=config.epochs,
        steps=job.plan.steps,
        seconds_per_step=step,
        seconds=job.plan.steps * step + evaluations * evaluation,
    )
