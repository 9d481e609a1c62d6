"""A task as small as they come: a line through points, batch by batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from nascli.config import OptimConfig
from nascli.engine.meters import Metrics
from nascli.engine.task import Task, TrainPlan

CONFIG = OptimConfig(epochs=2, batch_size=4, lr=0.05, ema_decay=0.5)
Points = tuple[Tensor, Tensor]


class LineTask(Task[Points]):
    """y = 3 x + 1 at 16 points, with noise that each step draws.

    Args:
        config: Numbers of the training.
        before_batch: Called before each batch is read, with its number.
        before_loss: Called before each loss is computed, with the number of points.
    """

    def __init__(
        self,
        config: OptimConfig = CONFIG,
        before_batch: Callable[[int], object] = lambda step: None,
        before_loss: Callable[[int], object] = lambda points: None,
    ) -> None:
        torch.manual_seed(0)
        self.modules = self.line = nn.Linear(1, 1)
        self.plan = TrainPlan(config, images=16)
        self._before_batch, self._before_loss = before_batch, before_loss

    def batches(self, epoch: int, done: int) -> Iterator[Points]:
        for number, ids in enumerate(torch.split(self.plan.order(0, epoch), self.plan.batch_size)):
            if number >= done:
                self._before_batch(epoch * self.plan.steps_per_epoch + number)
                x = ids[:, None] / 16
                yield x, 3 * x + 1

    def loss(self, micro: Points) -> Mapping[str, Tensor]:
        x, y = micro
        self._before_loss(len(x))
        return {"squares": (self.line(x) - y + 0.01 * torch.randn(len(x), 1)).square().mean()}

    def image_ids(self, micro: Points) -> Sequence[int]:
        return [int(each) for each in (16 * micro[0]).round()]

    def evaluate(self, model: nn.Module, epoch: int, pause: Callable[[], None]) -> Metrics:
        with torch.no_grad():
            return {"at_one": float(model(torch.ones(1, 1)))}
