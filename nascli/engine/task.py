"""The thing that is trained (`Task`), its batches (`TrainPlan`), and the circumstances (`Run`).

To train something else, subclass `Task` and give it to `nascli.engine.fit.fit`: accumulation of micro-batches, retries
when memory runs out, several processes, moving average, checkpoints, stopping and resuming then hold for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from nascli.config import KeepConfig, OptimConfig
from nascli.engine.device import generator_for
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.meters import EpochRecord, Metrics
from nascli.engine.schedules import Schedule, learning_rate, peak_lr
from nascli.errors import InputError
from nascli.signals import StopRequest

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Run:
    """The device of a training, the processes that share it, and its callbacks.

    Args:
        device: The device of this process.
        dist: The processes that share each batch; all make the same calls.
        stop: Looked at between steps; once requested on any process, all save and leave with `Interrupted`.
        log: Takes messages for the user.
        on_step: Called after each step with the steps made and the mean loss in the epoch so far.
        on_epoch: Called at the end of each epoch.
        until: Epochs after which the training is left, to be resumed later; None is its end.
        retry_on_oom: Whether a step that runs out of memory is made again in smaller micro-batches, the same on all
            processes. Where rewards are compared it is an error instead, since batch norms see each micro-batch alone.
    """

    device: torch.device
    dist: DistContext = SINGLE_PROCESS
    stop: StopRequest | None = None
    log: Callable[[str], None] | None = None
    on_step: Callable[[int, float], None] | None = None
    on_epoch: Callable[[EpochRecord], None] | None = None
    until: int | None = None
    retry_on_oom: bool = True


@dataclass(frozen=True)
class TrainPlan:
    """The batches and learning rates of a training, from the number of its images.

    Args:
        images: Training images.
        min_images: The fewest images that a micro-batch may have.
    """

    config: OptimConfig
    images: int
    dist: DistContext = SINGLE_PROCESS
    min_images: int = 1

    @property
    def batch_size(self) -> int:
        """Images per step, over all processes: all there are, where they are fewer than a batch."""
        return min(self.config.batch_size, self.images)

    @property
    def micro_batches(self) -> int:
        """Micro-batches per batch, over all processes."""
        return self.config.grad_accum_steps * self.dist.size

    @property
    def share(self) -> slice:
        """This process's images of a batch."""
        return self.dist.share(self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; the rest of an epoch's order is skipped, another rest each epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def peak_lr(self) -> float:
        """The highest learning rate."""
        return peak_lr(self.config, self.batch_size)

    @property
    def learning_rate(self) -> Schedule:
        """The learning rate of each step."""
        return learning_rate(self.config, self.batch_size, self.steps_per_epoch)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The positions of the images in the order of an epoch (counted from 0), whole batches only."""
        shuffled = torch.randperm(self.images, generator=generator_for(seed, "order", epoch))
        return shuffled[: self.steps_per_epoch * self.batch_size]

    def check_micro_batches(self) -> None:
        """InputError where a new run cannot divide its batches as it is asked to."""
        size, count = self.dist.size, self.micro_batches
        key = f"{self.config.section}.grad_accum_steps"
        asked = f"{key} = {self.config.grad_accum_steps}" + (f" on {size} processes" if size > 1 else "")
        if self.batch_size < self.min_images * count:
            raise InputError(
                f"{asked} is too many for a batch of {self.batch_size} images",
                f"Each micro-batch needs at least {self.min_images}",
            )
        if size > 1 and self.batch_size % count:
            raise InputError(
                f"{asked} cannot make equal micro-batches of a batch of {self.batch_size} images",
                f"Choose a --batch-size that is a multiple of {count}",
            )


class Task(ABC, Generic[Batch]):
    """A thing to train. Its random numbers follow from (seed, purpose, epoch or step) alone: it resumes bit for bit.

    Attributes:
        modules: Optimized, averaged and checkpointed, as one module; `fit` moves it to the device.
        plan: Batches and learning rates.
        keep: What is kept of the best epochs by `score`.
        why_eager: Why no CUDA graph is made of a step, in words. Empty where each step launches the same on batches of
            the same shapes, reads nothing back from the device and copies nothing to it; a batch is then a tuple of
            tensors on the device, on which `begin_step` sets what changes from step to step.
        correct: After `loss`, the images of the micro-batch whose class was named, a scalar on the device; None where a
            task names none.
        micro_batches: Micro-batches per batch, over all processes; `fit` sets those that the run began with or that
            memory asks for.
    """

    modules: nn.Module
    plan: TrainPlan
    micro_batches: int = 1
    keep: KeepConfig = KeepConfig()
    why_eager: str = "these steps are not made for it"
    correct: Tensor | None = None

    def score(self, metrics: Metrics) -> tuple[float, ...] | None:
        """The quality of an epoch by its metrics, the greater the better; None where it was not measured."""
        return None

    def lr_factor(self, name: str) -> float:
        """The part of the learning rate at which the parameter of this name in `modules` is trained."""
        return 1.0

    @abstractmethod
    def batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, on the device, from the step after `done` on.

        A `NascliError` that reading raises is raised on all processes, after the state was saved.
        """

    def split(self, batch: Batch, count: int) -> Sequence[tuple[Batch, float]]:
        """`count` micro-batches, each with its fraction of the batch's images; here of a tuple of tensors (N, ...)."""
        tensors = cast("tuple[Tensor, ...]", batch)
        micros = zip(*(each.tensor_split(count) for each in tensors), strict=True)
        return [(cast("Batch", micro), len(micro[0]) / len(tensors[0])) for micro in micros]

    def begin_step(self, step: int) -> None:
        """Set up a step, counted from 0: drop path, the child of a supernet."""

    @abstractmethod
    def loss(self, micro: Batch) -> Mapping[str, Tensor]:
        """Losses by name, means over the images of a micro-batch; their sum is minimized.

        Torch's generators are seeded before, from the step and the micro-batch.
        """

    def image_ids(self, micro: Batch) -> Sequence[int]:
        """The images of a micro-batch, for the message of a training that diverges; empty where they have no names."""
        return ()

    def evaluate(self, model: nn.Module, epoch: int, pause: Callable[[], None]) -> Metrics:
        """Measure a model at the end of an epoch.

        Args:
            model: `modules`, or their moving average.
            epoch: Counted from 1.
            pause: To be called between batches, equally often on all processes: saves, or raises `Interrupted`.
        """
        return {}

    def training(self) -> AbstractContextManager[None]:
        """Entered around the steps of an epoch, not its evaluation: for what is compiled, hooked or resized."""
        return nullcontext()
