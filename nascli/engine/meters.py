"""The loss over an epoch, the record of an epoch, and the errors of a training that diverges."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.errors import DivergedError

Metrics = Mapping[str, float | None]
"""Measurements at the end of an epoch, by name; None is not measured."""

READ_INTERVAL = 20
"""Steps between two readings of the loss where each is a wait for the device; on the CPU it costs nothing."""


@dataclass(frozen=True)
class EpochRecord:
    """One line of `metrics.jsonl`.

    Args:
        epoch: Counted from 1.
        step: Optimizer steps made since the start.
        train_loss: Mean per image of what was minimized in this epoch.
        lr: Learning rate of the epoch's last step.
        train_top1: Part of this epoch's training images, as they were seen, whose class was named; None where a task
            names none.
        metrics: The task's, by name.
        seconds: Steps and evaluation.
        images_per_second: While training.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    metrics: Metrics
    seconds: float
    images_per_second: float
    train_top1: float | None = None

    def figures(self) -> dict[str, float]:
        """Metrics, losses and times of the epoch, by the names that trackers show them under."""
        measured = {f"val/{name}": value for name, value in self.metrics.items() if value is not None}
        return {**measured, "train/epoch_loss": self.train_loss, "train/images_per_second": self.images_per_second}

    def to_dict(self) -> dict[str, Any]:
        """The record with its metrics among the other fields, those of training before them."""
        fields = dict(vars(self))
        top1 = fields.pop("train_top1")
        if top1 is not None:
            fields["train_top1"] = top1
        metrics, seconds, speed = (fields.pop(name) for name in ("metrics", "seconds", "images_per_second"))
        return {**fields, **metrics, "seconds": seconds, "images_per_second": speed}


@dataclass(frozen=True)
class MicroLoss:
    """The losses of a micro-batch by name, detached scalars, and the ids of its images."""

    losses: Mapping[str, Tensor]
    ids: Sequence[int]

    def name_bad(self) -> tuple[str, Sequence[int]] | None:
        """The losses in words, and the images, if one of them is not finite."""
        values = {name.removeprefix("loss_"): float(value) for name, value in self.losses.items()}
        if all(map(math.isfinite, values.values())):
            return None
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        return f" ({words})" if len(values) > 1 or self.ids else "", self.ids


@dataclass(frozen=True)
class StepLoss:
    """Results of a step, still on the device; `LossMeter` reads them later, when the device has finished anyway.

    Args:
        loss: Mean over the whole batch, the same on all processes; a scalar on the device.
        grad_norm: Global norm of the gradient; None where a loss scaler skips steps whose gradient is not finite.
        micro: This process's micro-batches.
        correct: Images of the whole batch whose class was named; None where they are not counted.
    """

    loss: Tensor
    grad_norm: Tensor | None
    micro: Sequence[MicroLoss]
    correct: Tensor | None = None


@dataclass
class LossMeter:
    """Losses of the epoch so far, read from the device a few steps at a time (each reading waits for it).

    Args:
        every: Steps between two readings.
        dist: The processes that train; all read at the same steps.
    """

    every: int = 1
    dist: DistContext = SINGLE_PROCESS
    total: float = 0.0
    images: int = 0
    seconds: float = 0.0
    correct: float | None = None
    _pending: list[tuple[int, int, StepLoss]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean loss per image."""
        return self.total / self.images if self.images else 0.0

    @property
    def top1(self) -> float | None:
        """Part of the images whose class was named; None where they are not counted."""
        return None if self.correct is None or not self.images else self.correct / self.images

    def add(self, step: int, images: int, loss: StepLoss) -> None:
        """Count the loss over `images` images at `step`, counted from 1."""
        self._pending.append((step, images, loss))
        if len(self._pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Count what was added.

        Raises:
            DivergedError: A loss or a gradient is not finite; the message names the first such step.
        """
        pending, self._pending = self._pending, []
        losses = _read([each.loss for _, _, each in pending])
        norms = iter(_read([each.grad_norm for _, _, each in pending if each.grad_norm is not None]))
        counts = _read([each.correct for _, _, each in pending if each.correct is not None])
        for (step, images, each), value in zip(pending, losses, strict=True):
            norm = next(norms) if each.grad_norm is not None else 0.0
            if not math.isfinite(value):
                raise self._explain_loss(step, value, each)
            if not math.isfinite(norm):
                shares = self.dist.all_gather([k for micro in each.micro for k in micro.ids])
                ids = [k for share in shares for k in share]
                raise divergence(f"the gradient is {norm} at step {step}", ids)
            self.total += value * images
            self.images += images
        if counts:
            self.correct = (self.correct or 0.0) + sum(counts)

    def clear(self) -> None:
        """Start another epoch."""
        self.total, self.images, self.seconds, self.correct = 0.0, 0, 0.0, None

    def _explain_loss(self, step: int, value: float, loss: StepLoss) -> DivergedError:
        """Name the first micro-batch whose loss is not finite; all ranks call this, though theirs may be finite."""
        own = next(filter(None, (each.name_bad() for each in loss.micro)), None)
        words, ids = next(filter(None, self.dist.all_gather(own)), ("", ()))
        return divergence(f"the loss is {value}{words} at step {step}", ids)


def check_finite(tensors: Iterable[Tensor], step: int) -> None:
    """DivergedError where one of these weights and statistics, as they are after a step, is not finite."""
    largest = nn.utils.get_total_norm([each for each in tensors if each.is_floating_point()], math.inf)
    if not largest.isfinite():
        raise divergence(f"the weights are not finite after step {step}")


def divergence(what: str, ids: Sequence[int] = ()) -> DivergedError:
    """The error of a training that diverges: `what` is not finite, at which step, computed on which images."""
    where = f", on the images with ids {', '.join(map(str, ids))}" if ids else ""
    look = "; if it is always the same image, look at its boxes" if ids else ""
    return DivergedError(
        f"training diverged: {what}{where}",
        f"Start again with a lower train.lr, a longer warm-up, or a lower train.clip_grad_norm{look}",
    )


def _read(scalars: list[Tensor]) -> list[float]:
    values: list[float] = torch.stack(scalars).tolist() if scalars else []
    return values
