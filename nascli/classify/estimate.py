"""Cost of a classifier's training, from a few of its real steps."""

import time
from dataclasses import dataclass

import torch

from nascli.classify.image_sizes import find_side
from nascli.classify.job import TrainJob
from nascli.classify.metrics import evaluate
from nascli.classify.task import ClassifyTask, answers_once
from nascli.classify.teacher import TeacherEngine
from nascli.data.transforms import Normalizer
from nascli.engine.device import cpu_threads
from nascli.engine.estimate import median_step, peak_memory, step_memory
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.models.cost import measure_cost


@dataclass(frozen=True)
class CostEstimate:
    """The plan of a training and its measured cost.

    Args:
        params: Trainable parameters without the auxiliary head.
        mult_adds: Multiply-accumulates of one image.
        image_size: Height and width in pixels that `mult_adds` are for.
        val_images: Images that every epoch ends with measuring.
        steps: Optimizer steps in all.
        seconds_per_step: Median over the measured steps, data included; the mean over the epochs, where
            `train.image_sizes` gives them images of several sizes.
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


def estimate_train_job(job: TrainJob) -> CostEstimate:
    """Time a few steps and one evaluation batch of a job; nothing is written."""
    with cpu_threads(job.recipe.train.threads):
        return _estimate(job)


def _estimate(job: TrainJob) -> CostEstimate:
    recipe, plan = job.recipe, job.plan
    job.check()
    cost = measure_cost(job.spec)
    once = answers_once(job.data.train, recipe.data)
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(job.device)
    sides = [find_side(recipe.train, epoch, job.spec.image_size) for epoch in range(recipe.train.epochs)]
    times = {side: _time_step(job, side, None if once else job.teacher) for side in dict.fromkeys(sides)}
    step = sum(times[side] for side in sides) / len(sides)
    memory = peak_memory(job.device) if job.device.type == "cuda" else _count_memory(job, max(sides))
    evaluation = _time_evaluation(job)
    answers = _time_answers(job, job.teacher) if once and job.teacher else 0.0
    return CostEstimate(
        cost.params,
        cost.mult_adds,
        cost.image_size,
        len(job.data.train),
        len(job.data.val),
        recipe.train.epochs,
        plan.steps,
        step,
        answers + plan.steps * step + (recipe.train.epochs + len(job.data.test or ()) / len(job.data.val)) * evaluation,
        memory,
    )


def _time_step(job: TrainJob, side: int, teacher: TeacherEngine | None) -> float:
    """Seconds of a step on images of a size, augmentation and what a teacher answers in each step included."""
    recipe, run = job.recipe, Run(job.device, retry_on_oom=False)
    config = recipe.train.model_copy(update={"image_sizes": (side,)})
    task = ClassifyTask(job.new_network(), job.images, config, recipe.data, recipe.seed, run, teacher)
    return median_step(start_state(task, run), task, recipe.seed, run, 6)


def _count_memory(job: TrainJob, side: int) -> int:
    """Bytes of a step on a CPU, with drop path in full force; a teacher's own are not among them."""
    recipe, plan, run = job.recipe, job.plan, Run(job.device, retry_on_oom=False)
    config = recipe.train.model_copy(update={"compile": False})
    task = ClassifyTask(job.new_network(), job.images, config, recipe.data, recipe.seed, run)
    task.begin_step(plan.steps)
    images = torch.zeros(plan.batch_size, 3, side, side).to(memory_format=torch.channels_last)
    return step_memory(start_state(task, run), task, (images, torch.zeros(plan.batch_size, dtype=torch.int64)), run)


def _time_answers(job: TrainJob, teacher: TeacherEngine) -> float:
    """Seconds in which a teacher answers for all training images, from some; the first time warms up."""
    split, normalizer = job.data.train.to(job.device), Normalizer(job.spec.mean, job.spec.std)
    sample = split.take(torch.arange(min(len(split), 256)))
    for _ in range(2):
        since = time.monotonic()
        teacher.answer_all(sample, normalizer, job.dist)
    return (time.monotonic() - since) * len(split) / len(sample)


def _time_evaluation(job: TrainJob) -> float:
    """Seconds of an evaluation, from its first batch; a batch before warms up."""
    network = job.new_network().to(job.device).to(memory_format=torch.channels_last)
    test = job.data.val.to(job.device)
    sample = test.take(torch.arange(min(len(test), 256)))
    normalizer = Normalizer(job.spec.mean, job.spec.std)
    for _ in range(2):
        since = time.monotonic()
        evaluate(network, sample, normalizer, Run(job.device))
    return (time.monotonic() - since) * len(test) / len(sample)
