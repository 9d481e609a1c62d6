"""What stays the same over a training, and the steps of one epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from nascli.classify.state import TrainState
from nascli.classify.step import step_within_memory
from nascli.config import DataConfig, TrainConfig
from nascli.data.dataset import Batch, ImageData, Split
from nascli.data.transforms import BatchRng, Normalizer, vary_batch
from nascli.engine.compile import compiled_cells
from nascli.engine.device import generator_for
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.precision import check_precision
from nascli.engine.schedules import Schedule, learning_rate, linear, peak_lr
from nascli.errors import InputError
from nascli.models.interface import ImageClassifier
from nascli.seeding import derive_seed

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
        dist: The processes that share each batch.
    """

    config: TrainConfig
    augmentation: DataConfig
    normalizer: Normalizer
    seed: int
    device: torch.device
    images: int
    classes: int
    dist: DistContext = SINGLE_PROCESS

    @classmethod
    def of(
        cls,
        data: ImageData,
        config: TrainConfig,
        augmentation: DataConfig,
        seed: int,
        device: torch.device,
        dist: DistContext = SINGLE_PROCESS,
    ) -> "Plan":
        """The plan of a training on `data.train`.

        Raises:
            InputError: A part of a batch would have one image, which batch normalisation cannot train on; or several
                processes cannot have equal parts; or the precision needs another device.
        """
        if len(data.train) < 2:
            raise InputError(
                f"data set {data.name}: {len(data.train)} training image is too few", "At least 2 are needed"
            )
        check_precision(config.precision, device)
        normalizer = Normalizer(data.mean, data.std)
        plan = cls(config, augmentation, normalizer, seed, device, len(data.train), data.classes, dist)
        parts = config.grad_accum_steps * dist.size
        who = f"train.grad_accum_steps = {config.grad_accum_steps}" + (
            f" on {dist.size} processes" if dist.size > 1 else ""
        )
        if plan.batch_size < 2 * parts:
            raise InputError(
                f"{who} parts a batch of {plan.batch_size} images into single ones",
                "Each part needs 2 images at least",
            )
        if dist.size > 1 and plan.batch_size % parts:
            raise InputError(
                f"{who} cannot make equal parts of a batch of {plan.batch_size} images",
                f"Choose a --batch-size that is a multiple of {parts}",
            )
        return plan

    @property
    def batch_size(self) -> int:
        """Images a step: all there are, where they are fewer than a batch."""
        return min(self.config.batch_size, self.images)

    @property
    def share(self) -> slice:
        """Which images of a batch this process computes."""
        return self.dist.share(self.batch_size)

    @property
    def places(self) -> Tensor:
        """Which images of a batch this process reads: its share, after the one that the first of it is mixed with."""
        mixed = self.dist.size > 1 and (self.augmentation.mixup or self.augmentation.cutmix)
        return torch.arange(self.share.start - bool(mixed), self.share.stop) % self.batch_size

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
        """The highest learning rate."""
        return peak_lr(self.config, self.batch_size)

    @property
    def learning_rate(self) -> Schedule:
        """The learning rate of each step."""
        return learning_rate(self.config, self.batch_size, self.steps_per_epoch)

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
def computing_as_asked(network: ImageClassifier, config: TrainConfig, device: torch.device) -> Iterator[None]:
    """While the context lasts, cells are recomputed and compiled where the recipe says so; afterwards neither.

    Raises:
        InputError: They cannot be compiled here.
    """
    network.set_grad_checkpointing(config.grad_checkpointing)
    try:
        with compiled_cells(network, device) if config.compile else nullcontext():
            yield
    finally:
        network.set_grad_checkpointing(False)


def train_epoch(
    state: TrainState, plan: Plan, split: Split, after_step: Callable[[], None], note: Note | None = None
) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end.

    Draws: the order of the images from (seed, epoch); augmentation, mixing and drop-path masks from (seed, step). The
    latter two come from torch's global generator, which is seeded anew before each. Augmentation and mixing are drawn
    for the whole batch, of which each of several processes takes what is its own; masks for each part of a batch.

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
    learning_rate, drop_path, places = plan.learning_rate, plan.drop_path, plan.places
    state.network.train()
    since = time.monotonic()
    own = order.view(-1, plan.batch_size)[:, places].flatten()
    batches = split.training_batches(own, len(places), derive_seed(plan.seed, "vary", epoch))
    for read in filter(None, plan.dist.lockstep(batches)):  # each process has as many: there is no None
        step = state.step
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(step)
        state.network.set_drop_path(drop_path(step))
        images, targets = prepare_batch(read, plan, step)
        loss = step_within_memory(state, plan.config, images, targets, derive_seed(plan.seed, "step", step), note)
        state.step += 1
        state.tally.add(state.step, plan.batch_size, loss)
        state.tally.seconds += time.monotonic() - since
        since = time.monotonic()
        after_step()
    state.tally.read()


def prepare_batch(read: Batch, plan: Plan, step: int) -> Batch:
    """A batch augmented and mixed, on the device.

    Of several processes each varies what it reads, by the draws of the whole batch.

    Args:
        read: Images, uint8 (n, 3, H, W), and labels: those that this process reads of the batch, at `plan.places`.
        plan: The unchanging numbers.
        step: The draws follow from it.

    Returns:
        This process's share: float32 (n, 3, H, W), normalised; labels, int64 (n,), or probabilities, (n, classes).
    """
    images, labels = (each.to(plan.device, non_blocking=True) for each in read)
    rng = BatchRng(generator_for(plan.seed, "augment", step), (plan.batch_size, plan.places))
    mix_seed = derive_seed(plan.seed, "mix", step)
    mixed, targets = vary_batch((images, labels), plan.classes, plan.augmentation, plan.normalizer, rng, mix_seed)
    own = plan.batch_size // plan.dist.size  # after the one that the first of them is mixed with
    return mixed[-own:], targets[-own:]
