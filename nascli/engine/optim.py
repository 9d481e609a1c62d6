"""The optimizers, and the moving average of the weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nascli.config import TrainConfig


class RmsProp(torch.optim.Optimizer):
    """RMSProp with momentum, in TensorFlow's arithmetic.

    With g the gradient, weight decay w added: s <- d s + (1 - d) g^2, m <- u m + lr g / sqrt(s + e), w <- w - m. The
    average s starts at 1, so that the first steps are small.

    Args:
        parameters: Parameters, or groups of them with a `weight_decay` of their own.
        lr: Learning rate.
        decay: d.
        momentum: u.
        epsilon: e, inside the root; the paper's 1 makes this nearly SGD where gradients are small.

    References: Zoph et al. 2018, appendix A.7; TensorFlow's documentation of `RMSPropOptimizer`.
    Deviation: `torch.optim.RMSprop` has epsilon outside the root, starts the average at 0, and multiplies the momentum
    by the learning rate of the moment.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1.0,
    ) -> None:
        numbers = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": 0.0}
        super().__init__(parameters, numbers)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["average"] = torch.ones_like(parameter)
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        averages = [self.state[parameter]["average"] for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(averages, group["decay"])
        torch._foreach_addcmul_(averages, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(averages, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_addcdiv_(momenta, gradients, roots, group["lr"])
        torch._foreach_sub_(parameters, momenta)


def make_optimizer(network: nn.Module, config: TrainConfig, *, fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay on matrices and kernels only.

    Batch-norm scales and shifts and biases, the parameters with one dimension, are left to grow.

    Args:
        network: Its parameters are optimised.
        config: Which one, learning rate, momentum and weight decay.
        fused: Of SGD: one pass over each tensor, which counts where there are hundreds of small ones; every parameter
            must then get its first gradient at the first step.

    References: the released NASNet code puts its L2 term on convolution and classifier weights, not on batch norms.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "rmsprop":
        return RmsProp(groups, config.lr, config.rmsprop_decay, config.momentum, config.rmsprop_epsilon)
    return torch.optim.SGD(
        groups,
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
