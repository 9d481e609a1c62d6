"""Everything that the training of a detector changes, as one value that can be saved and taken up again."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nascli.detect.plan import DetectPlan
from nascli.engine.batch_norm_sync import BatchNormSync
from nascli.engine.device import disable_malloc_trim
from nascli.engine.optim import WeightAverage, make_optimizer
from nascli.engine.precision import grad_scaler


@dataclass(frozen=True)
class DetectEpoch:
    """One line of `metrics.jsonl`.

    Args:
        epoch: Counted from 1.
        step: Optimizer steps made since the start.
        train_loss: Mean over the epoch's steps of the sum of the four losses.
        lr: Learning rate of the epoch's last step.
        ap: On the scored split, where this epoch was scored.
        ap50: The same at IoU 0.5.
        seconds: Of the epoch's steps, scoring left out.
        images_per_second: While training.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    ap: float | None
    ap50: float | None
    seconds: float
    images_per_second: float


@dataclass
class DetectState:
    """Everything that a training changes, the same on each process.

    Args:
        detector: What is trained.
        optimizer: With its momenta.
        average: The moving average of the weights and statistics, if there is one.
        scaler: Scales the loss where gradients in float16 would vanish; else it does nothing.
        statistics: Keeps the running statistics the same on each process.
        parts: In how many a batch is computed, by all processes together; the plan follows it where a run goes on.
        step: Optimizer steps made.
        loss_sum: Of the steps of the epoch that is under way.
        seconds: That they took.
        records: The epochs that are done.
    """

    detector: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    statistics: BatchNormSync
    parts: int = 1
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    records: list[DetectEpoch] = field(default_factory=list)

    @property
    def scored(self) -> nn.Module:
        """The detector whose average precision counts: the averaged one if there is one."""
        return self.average.module if self.average is not None else self.detector

    def to_payload(self) -> dict[str, Any]:
        """The state as tensors and plain values; `load_payload` takes it back."""
        return {
            "step": self.step,
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "scaler": self.scaler.state_dict(),
            "parts": self.parts,
            "sums": [self.loss_sum, self.seconds],
            "records": [vars(record) for record in self.records],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Become the state that `to_payload` gave."""
        self.detector.load_state_dict(payload["detector"])
        self.optimizer.load_state_dict(payload["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(payload["average"])
        self.scaler.load_state_dict(payload["scaler"])
        self.parts = payload["parts"]
        self.step = payload["step"]
        self.loss_sum, self.seconds = payload["sums"]
        self.records = [DetectEpoch(**record) for record in payload["records"]]


def start_state(detector: nn.Module, plan: DetectPlan) -> DetectState:
    """The state before the first step; moves the detector to the plan's device, channels last in memory.

    From here on the process keeps what memory it frees (`disable_malloc_trim`).
    """
    disable_malloc_trim()
    detector.to(device=plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = plan.config
    return DetectState(
        detector,
        make_optimizer(detector, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
        WeightAverage(detector, config.ema_decay) if config.ema_decay else None,
        grad_scaler(config.precision, plan.device),
        BatchNormSync(detector, plan.dist),
        plan.parts,
    )


def close_epoch(state: DetectState, plan: DetectPlan, summary: dict[str, float | None]) -> DetectEpoch:
    """Turn the running sums into the record of the epoch that ends, and start new ones.

    Args:
        state: At the end of an epoch.
        plan: The unchanging numbers.
        summary: COCO's numbers by name; empty where the epoch was not scored.
    """
    images = plan.steps_per_epoch * plan.batch_size
    record = DetectEpoch(
        epoch=len(state.records) + 1,
        step=state.step,
        train_loss=state.loss_sum / plan.steps_per_epoch,
        lr=plan.learning_rate(state.step - 1),
        ap=summary.get("ap"),
        ap50=summary.get("ap50"),
        seconds=round(state.seconds, 3),
        images_per_second=round(images / max(state.seconds, 1e-9), 2),
    )
    state.records.append(record)
    state.loss_sum = state.seconds = 0.0
    return record
