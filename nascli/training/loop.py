"""One optimizer step, and the steps of one epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nascli.config import DataConfig, TrainConfig
from nascli.data.arrays import Normalizer, Split, augment_batch
from nascli.data.datasets import ImageData
from nascli.errors import InputError
from nascli.models.allocation import keep_freed_memory
from nascli.models.network import Network
from nascli.training.compiling import compiled_cells
from nascli.training.metrics import EpochRecord, LossTally
from nascli.training.optimizers import make_average, make_optimizer
from nascli.training.runtime import derive_seed, generator_for
from nascli.training.schedules import Schedule, linear, warmup_cosine

_READ_EVERY = {"cpu": 1, "cuda": 20}
"""Steps between two readings of the loss: free on the CPU, a wait for the device on CUDA."""


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
    """

    config: TrainConfig
    augmentation: DataConfig
    normalizer: Normalizer
    seed: int
    device: torch.device
    images: int

    @classmethod
    def of(
        cls, data: ImageData, config: TrainConfig, augmentation: DataConfig, seed: int, device: torch.device
    ) -> "Plan":
        """The plan of a training on `data.train`.

        Raises:
            InputError: A batch would have one image, which batch normalisation cannot train on.
        """
        if len(data.train) < 2:
            raise InputError(
                f"data set {data.name}: {len(data.train)} training image is too few", "At least 2 are needed"
            )
        return cls(config, augmentation, Normalizer(data.mean, data.std), seed, device, len(data.train))

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
    def learning_rate(self) -> Schedule:
        """Linear warm-up, then a cosine to 0."""
        warmup = min(round(self.config.warmup_epochs * self.steps_per_epoch), self.steps)
        return warmup_cosine(self.config.lr, warmup, self.steps)

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


@dataclass
class TrainState:
    """Everything that a training changes.

    Args:
        network: What is trained.
        optimizer: With its momenta.
        average: The moving average of the weights, if there is one.
        step: Optimizer steps made.
        tally: The losses of the epoch that is under way.
        records: The epochs that are done.
    """

    network: Network
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    step: int = 0
    tally: LossTally = field(default_factory=LossTally)
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: the averaged one if there is one."""
        return self.average.module if self.average is not None else self.network

    def to_payload(self) -> dict[str, Any]:
        """The state as tensors and plain values; `load_payload` takes it back."""
        self.tally.read()
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "tally": [self.tally.total, self.tally.images, self.tally.seconds],
            "records": [vars(record) for record in self.records],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Become the state that `to_payload` gave."""
        self.network.load_state_dict(payload["network"])
        self.optimizer.load_state_dict(payload["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(payload["average"])
        self.step = payload["step"]
        self.tally.total, self.tally.images, self.tally.seconds = payload["tally"]
        self.records = [EpochRecord(**record) for record in payload["records"]]


def start_state(network: Network, plan: Plan) -> TrainState:
    """The state before the first step; moves the network to the plan's device, channels last in memory.

    From here on the process keeps what memory it frees (`keep_freed_memory`).
    """
    keep_freed_memory()
    network.to(plan.device).to(memory_format=torch.channels_last)
    return TrainState(
        network,
        make_optimizer(network, plan.config, fused=True),
        make_average(network, plan.config.ema_decay),
        tally=LossTally(every=_READ_EVERY[plan.device.type]),
    )


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


def train_epoch(state: TrainState, plan: Plan, split: Split, after_step: Callable[[], None]) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end.

    Draws: the order of the images from (seed, epoch); augmentation and drop-path masks from (seed, step). The latter
    come from torch's global generator, which is seeded anew before each step.

    Args:
        state: Changed in place; it may stand inside the epoch.
        plan: The unchanging numbers.
        split: The training images.
        after_step: Called after each step, where the state is whole; may raise to stop.

    Raises:
        InputError: The cells are to be compiled, and cannot be.
    """
    epoch = len(state.records)
    done = state.step - epoch * plan.steps_per_epoch
    order = plan.order(epoch)[done * plan.batch_size :]
    if not len(order):  # stopped between the last step and the evaluation
        return
    with computing_as_asked(state.network, plan.config, plan.device):
        _train_on(order, state, plan, split, after_step)


def _train_on(order: Tensor, state: TrainState, plan: Plan, split: Split, after_step: Callable[[], None]) -> None:
    epoch = len(state.records)
    learning_rate, drop_path = plan.learning_rate, plan.drop_path
    state.network.train()
    since = time.monotonic()
    for images, labels in split.training_batches(order, plan.batch_size, derive_seed(plan.seed, "vary", epoch)):
        step = state.step
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(step)
        state.network.set_drop_path(drop_path(step))
        torch.manual_seed(derive_seed(plan.seed, "step", step))
        generator = generator_for(plan.seed, "augment", step)
        batch = augment_batch(images.to(plan.device, non_blocking=True), plan.augmentation, plan.normalizer, generator)
        loss = train_step(state, plan.config, batch, labels.to(plan.device))
        state.step += 1
        state.tally.add(state.step, len(labels), loss)
        state.tally.seconds += time.monotonic() - since
        since = time.monotonic()
        after_step()
    state.tally.read()


def train_step(state: TrainState, config: TrainConfig, images: Tensor, labels: Tensor) -> Tensor:
    """One optimizer step on one batch.

    loss = CE(logits) + aux_weight CE(auxiliary logits), both with label smoothing.

    Args:
        state: Its network, optimizer and average change.
        config: Weights of the loss, clipping, precision.
        images: float32 (N, 3, H, W), normalised.
        labels: int64 (N,).

    Returns:
        The loss before the step, a scalar on the device.
    """
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits, auxiliary = state.network.forward_with_aux(images)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    if auxiliary is not None:
        extra = F.cross_entropy(auxiliary.float(), labels, label_smoothing=config.label_smoothing)
        loss = loss + config.aux_weight * extra
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip_norm:
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return loss.detach()
