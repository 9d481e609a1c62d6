"""SGD with momentum, and the moving average of the weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nascli.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig, *, fused: bool = False) -> torch.optim.SGD:
    """SGD with momentum; weight decay on matrices and kernels only.

    Batch-norm scales and shifts and biases, the parameters with one dimension, are left to grow.

    Args:
        network: Its parameters are optimised.
        config: Learning rate, momentum and weight decay.
        fused: One pass over each tensor, which counts where there are hundreds of small ones; every parameter must then
            get its first gradient at the first step.

    References: the released NASNet code puts its L2 term on convolution and classifier weights, not on batch norms.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        fused=fused,
    )


def make_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of weights and batch-norm statistics; None where `decay` is 0.

    average = decay average + (1 - decay) weights, after each step; the first update copies the weights.
    """
    if not decay:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return average.requires_grad_(False).eval()
