"""What stays the same over a training, and the steps of one epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from nascli.config import DataConfig, TrainConfig
from nascli.data.arrays import Normalizer, Split, augment_batch
from nascli.data.datasets import ImageData
from nascli.data.mixing import mix_batch
from nascli.errors import InputError
from nascli.models.network import Network
from nascli.training.compiling import compiled_cells
from nascli.training.runtime import derive_seed, generator_for
from nascli.training.schedules import Schedule, linear, staircase, warm_up, warmup_cosine
from nascli.training.state import TrainState
from nascli.training.step import step_within_memory

Note = Callable[[str], None]
"""Told a sentence that a person wants to read."""


@dataclass(frozen=True)
class Plan:
    """What stays the same from the first step to the last.

    Args:
        config: The recipe's `[train]`.
        augmentation: The recipe's `[data]`.
        normalizer: From bytes to numbers.
        seed: The run's seed.
        device: Where to compute.
        images: Training images.
        classes: Of the data.
    """

    config: TrainConfig
    augmentation: DataConfig
    normalizer: Normalizer
    seed: int
    device: torch.device
    images: int
    classes: int

    @classmethod
    def of(
        cls, data: ImageData, config: TrainConfig, augmentation: DataConfig, seed: int, device: torch.device
    ) -> "Plan":
        """The plan of a training on `data.train`.

        Raises:
            InputError: A part of a batch would have one image, which batch normalisation cannot train on; or the
                precision needs another device.
        """
        if len(data.train) < 2:
            raise InputError(
                f"data set {data.name}: {len(data.train)} training image is too few", "At least 2 are needed"
            )
        if config.precision == "float16" and device.type != "cuda":
            raise InputError("train.precision float16 needs a CUDA device", "Use bfloat16 or float32 here")
        plan = cls(config, augmentation, Normalizer(data.mean, data.std), seed, device, len(data.train), data.classes)
        if plan.batch_size < 2 * config.accumulate:
            raise InputError(
                f"train.accumulate = {config.accumulate} parts a batch of {plan.batch_size} images into single ones",
                "Each part needs 2 images at least",
            )
        return plan

    @property
    def batch_size(self) -> int:
        """Images a step: all there are, where they are fewer than a batch."""
        return min(self.config.batch_size, self.images)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; the rest of an epoch's order is left out, another rest each epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: the recipe's, in proportion to the images a step where it says for how many it is.

        References: Goyal et al. 2017, "Accurate, Large Minibatch SGD", the linear scaling rule.
        """
        base = self.config.base_batch
        return self.config.lr * self.batch_size / base if base else self.config.lr

    @property
    def learning_rate(self) -> Schedule:
        """Linear warm-up, then a cosine to 0 or an exponential decay by steps."""
        warmup = min(round(self.config.warmup_epochs * self.steps_per_epoch), self.steps)
        if self.config.schedule == "cosine":
            return warmup_cosine(self.peak_lr, warmup, self.steps)
        every = self.config.decay_epochs * self.steps_per_epoch
        return warm_up(warmup, self.peak_lr, staircase(self.peak_lr, self.config.decay_rate, every))

    @property
    def drop_path(self) -> Schedule:
        """Probability of dropping in the last cell: from 0, growing with the step.

        References: Zoph et al. 2018, section 4, ScheduledDropPath; the network scales it by depth besides.
        """
        return linear(0.0, self.config.drop_path_prob, self.steps)

    def order(self, epoch: int) -> Tensor:
        """The positions of the images in the order of epoch `epoch` (counted from 0), whole batches only."""
        shuffled = torch.randperm(self.images, generator=generator_for(self.seed, "order", epoch))
        return shuffled[: self.steps_per_epoch * self.batch_size]


@contextmanager
def computing_as_asked(network: Network, config: TrainConfig, device: torch.device) -> Iterator[None]:
    """While the context lasts, cells are recomputed and compiled where the recipe says so; afterwards neither.

    Raises:
        InputError: They cannot be compiled here.
    """
    network.recompute_cells = config.recompute_cells
    try:
        with compiled_cells(network, device) if config.compile else nullcontext():
            yield
    finally:
        network.recompute_cells = False


def train_epoch(
    state: TrainState, plan: Plan, split: Split, after_step: Callable[[], None], note: Note | None = None
) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end.

    Draws: the order of the images from (seed, epoch); augmentation, mixing and drop-path masks from (seed, step). The
    latter two come from torch's global generator, which is seeded anew before each.

    Args:
        state: Changed in place; it may stand inside the epoch.
        plan: The unchanging numbers.
        split: The training images.
        after_step: Called after each step, where the state is whole; may raise to stop.
        note: Told when a batch had to be computed in smaller parts for want of memory; without it, that is an error.

    Raises:
        InputError: The cells are to be compiled, and cannot be.
    """
    epoch = len(state.records)
    done = state.step - epoch * plan.steps_per_epoch
    order = plan.order(epoch)[done * plan.batch_size :]
    if not len(order):  # stopped between the last step and the evaluation
        return
    with computing_as_asked(state.network, plan.config, plan.device):
        _train_on(order, state, plan, split, after_step, note)


def _train_on(
    order: Tensor, state: TrainState, plan: Plan, split: Split, after_step: Callable[[], None], note: Note | None
) -> None:
    epoch = len(state.records)
    learning_rate, drop_path = plan.learning_rate, plan.drop_path
    state.network.train()
    since = time.monotonic()
    for images, labels in split.training_batches(order, plan.batch_size, derive_seed(plan.seed, "vary", epoch)):
        step = state.step
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(step)
        state.network.set_drop_path(drop_path(step))
        generator = generator_for(plan.seed, "augment", step)
        batch = augment_batch(images.to(plan.device, non_blocking=True), plan.augmentation, plan.normalizer, generator)
        torch.manual_seed(derive_seed(plan.seed, "mix", step))
        batch, targets = mix_batch(batch, labels.to(plan.device), plan.classes, plan.augmentation)
        loss = step_within_memory(state, plan.config, batch, targets, derive_seed(plan.seed, "step", step), note)
        state.step += 1
        state.tally.add(state.step, len(labels), loss)
        state.tally.seconds += time.monotonic() - since
        since = time.monotonic()
        after_step()
    state.tally.read()
