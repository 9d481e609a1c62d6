"""Everything that a training changes, as one value that can be saved and taken up again."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nascli.classify.metrics import EpochRecord, LossMeter, check_finite
from nascli.config import TrainConfig
from nascli.engine.batch_norm_sync import RunningStatistics
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.malloc import keep_freed_memory
from nascli.engine.optim import make_average, make_optimizer
from nascli.engine.precision import loss_scaler
from nascli.models.interface import ImageClassifier

_READ_EVERY = {"cpu": 1, "cuda": 20}
"""Steps between two readings of the loss: free on the CPU, a wait for the device on CUDA."""


@dataclass
class TrainState:
    """Everything that a training changes, the same on each process, and who changes it.

    Args:
        network: What is trained.
        optimizer: With its momenta.
        average: The moving average of the weights, if there is one.
        scaler: Scales the loss where gradients in float16 would vanish; else it does nothing.
        dist: The processes that compute it.
        statistics: Keeps the running statistics the same on each of them.
        parts: In how many a batch is computed, by all processes together.
        step: Optimizer steps made.
        tally: The losses of the epoch that is under way.
        records: The epochs that are done.
    """

    network: ImageClassifier
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    scaler: torch.amp.GradScaler
    dist: DistContext
    statistics: RunningStatistics
    parts: int = 1
    step: int = 0
    tally: LossMeter = field(default_factory=LossMeter)
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: the averaged one if there is one."""
        return self.average.module if self.average is not None else self.network

    def check_finite(self) -> None:
        """DivergedError where a weight or a statistic is no number any more; of a loss the tally says it."""
        self.tally.read()
        check_finite(self.network.state_dict().values(), self.step)

    def to_payload(self) -> dict[str, Any]:
        """The state as tensors and plain values; `load_payload` takes it back.

        Raises:
            DivergedError: Nobody could go on from it.
        """
        self.check_finite()
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "scaler": self.scaler.state_dict(),
            "parts": self.parts,
            "tally": [self.tally.total, self.tally.images, self.tally.seconds],
            "records": [vars(record) for record in self.records],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Become the state that `to_payload` gave."""
        self.network.load_state_dict(payload["network"])
        self.optimizer.load_state_dict(payload["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(payload["average"])
        self.scaler.load_state_dict(payload["scaler"])
        self.parts = payload["parts"]
        self.step = payload["step"]
        self.tally.total, self.tally.images, self.tally.seconds = payload["tally"]
        self.records = [EpochRecord(**record) for record in payload["records"]]


def start_state(
    network: ImageClassifier, config: TrainConfig, device: torch.device, dist: DistContext = SINGLE_PROCESS
) -> TrainState:
    """The state before the first step; moves the network to the device, channels last in memory.

    From here on the process keeps what memory it frees (`keep_freed_memory`).
    """
    keep_freed_memory()
    network.to(device).to(memory_format=torch.channels_last)
    return TrainState(
        network,
        make_optimizer(network, config, fused=True),
        make_average(network, config.ema_decay),
        loss_scaler(config.precision, device),
        dist,
        RunningStatistics(network, dist),
        config.grad_accum_steps * dist.size,
        tally=LossMeter(every=_READ_EVERY[device.type]),
    )
