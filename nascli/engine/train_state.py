"""The state of a training, as one value that can be saved and restored."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nascli.engine.batch_norm_sync import BatchNormSync
from nascli.engine.best import BestEpochs
from nascli.engine.device import disable_malloc_trim, resolve_precision
from nascli.engine.meters import READ_INTERVAL, EpochRecord, LossMeter, check_finite
from nascli.engine.optim import WeightAverage, make_optimizer
from nascli.engine.task import Batch, Run, Task


@dataclass
class TrainState:
    """Everything that a training changes; identical on all ranks, saved in checkpoints.

    Args:
        scaler: Scales the loss where gradients in float16 would vanish; else it does nothing.
        norms: Keeps the running statistics of batch norms the same on all processes.
        micro_batches: Micro-batches per batch, over all processes; doubled whenever memory runs out.
        meter: The losses of the epoch that is under way.
        best: The best epochs so far.
        step: Optimizer steps made.
        kept: The epoch whose weights the modules are left with at the end, counted from 1; 0 before.
    """

    modules: nn.Module
    optimizer: torch.optim.Optimizer
    ema: WeightAverage | None
    scaler: torch.amp.GradScaler
    norms: BatchNormSync
    micro_batches: int
    meter: LossMeter
    best: BestEpochs
    step: int = 0
    kept: int = 0
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The modules that are measured and kept: the averaged ones if there are any."""
        return self.ema.module if self.ema is not None else self.modules

    def check_finite(self) -> None:
        """DivergedError where a loss, a gradient, a weight or a statistic is not finite."""
        self.meter.read()
        check_finite(self.modules.state_dict().values(), self.step)

    def to_payload(self) -> dict[str, Any]:
        """The state as tensors and plain values, for `load_payload`.

        Raises:
            DivergedError: It is not finite, so that no training could resume from it.
        """
        self.check_finite()
        return {
            "step": self.step,
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "scaler": self.scaler.state_dict(),
            "micro_batches": self.micro_batches,
            "meter": [self.meter.total, self.meter.images, self.meter.seconds, self.meter.correct],
            "best": {epoch: list(score) for epoch, score in self.best.scores.items()},
            "records": [{**vars(record), "metrics": dict(record.metrics)} for record in self.records],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Become the state that `to_payload` gave."""
        self.modules.load_state_dict(payload["modules"])
        self.optimizer.load_state_dict(payload["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(payload["ema"])
        self.scaler.load_state_dict(payload["scaler"])
        self.micro_batches = payload["micro_batches"]
        self.step = payload["step"]
        self.meter.total, self.meter.images, self.meter.seconds, self.meter.correct = payload["meter"]
        self.records = [EpochRecord(**record) for record in payload["records"]]


def start_state(task: Task[Batch], run: Run, folder: Path | None = None) -> TrainState:
    """The state before the first step; moves the task's modules to the device, channels last in memory.

    From here on the process keeps what memory it frees (`disable_malloc_trim`).

    Args:
        folder: The run folder, for the process that writes it.
    """
    disable_malloc_trim()
    modules, config = task.modules, task.plan.config
    modules.to(run.device).to(memory_format=torch.channels_last).train()
    return TrainState(
        modules,
        make_optimizer(modules, config, task.lr_factor),
        WeightAverage(modules, config.ema_decay) if config.ema_decay else None,
        torch.amp.GradScaler(run.device.type, enabled=resolve_precision(config.precision, run.device) == "float16"),
        BatchNormSync(modules, run.dist),
        task.plan.micro_batches,
        LossMeter(1 if run.device.type == "cpu" else READ_INTERVAL, run.dist),
        BestEpochs(task.keep, folder),
    )
