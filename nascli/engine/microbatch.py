"""The parts that a batch is computed in, by one process or by several: what each draws, and their sum."""

import torch
from torch import Tensor

from nascli.engine.batch_norm_sync import RunningStatistics
from nascli.seeding import derive_seed


def seed_part(seed: int, number: int) -> None:
    """Make torch's global generator start a part of a step from what follows from the step's seed and its number."""
    torch.manual_seed(derive_seed(seed, "part", number) if number else seed)


def add_up(optimizer: torch.optim.Optimizer, statistics: RunningStatistics, total: Tensor, parts: int) -> None:
    """Replace gradients, loss and running statistics by those of all processes, in one exchange.

    Args:
        optimizer: Of the parameters whose gradients are added.
        statistics: Kept before the step.
        total: This process's part of the loss, a scalar.
        parts: Of the step on each process.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    statistics.dist.sum_([*gradients, total, *statistics.terms(parts)])
    statistics.complete(parts)
