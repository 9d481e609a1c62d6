"""The optimizers, and the moving average of the weights."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from nascli.config import OptimConfig


class RmsProp(torch.optim.Optimizer):
    """RMSProp with momentum, in TensorFlow's arithmetic.

    With g the gradient, weight decay w added: s <- d s + (1 - d) g^2, m <- u m + lr g / sqrt(s + e), w <- w - m. The
    average s starts at 1, so that the first steps are small.

    Args:
        decay, momentum: d, u.
        epsilon: e, inside the root; the paper's 1 makes this nearly SGD where gradients are small.

    References: Zoph et al. 2018, appendix A.7; TensorFlow's documentation of `RMSPropOptimizer`.
    Deviation: `torch.optim.RMSprop` has epsilon outside the root, starts the average at 0, and multiplies the momentum
    by the learning rate of the moment.
    """

    def __init__(self, parameters: ParamsT, lr: float, decay: float, momentum: float, epsilon: float) -> None:
        numbers = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": 0.0}
        super().__init__(parameters, numbers)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            if parameters := [p for p in group["params"] if p.grad is not None]:
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


def make_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD or RMSProp; weight decay on matrices and kernels only, not on parameters with one dimension.

    Momenta of SGD start as zeros. torch would make them at the first step, and where a loss scaler skips that one (the
    gradient overflows in float16) leave them what memory held before.

    Args:
        module: Its parameters that require a gradient are optimized; already on its device.

    References: the released NASNet code puts its L2 term on convolution and classifier weights, not on batch norms.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    lr, momentum = config.lr, config.momentum
    if config.optimizer == "rmsprop":
        return RmsProp(groups, lr, config.rmsprop_decay, momentum, config.rmsprop_epsilon)
    # fused: one pass over each tensor, which counts where there are hundreds of small ones
    sgd = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=config.nesterov and momentum > 0, fused=True)
    if momentum:
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


class WeightAverage:
    """The exponential moving average of weights and batch-norm statistics.

    average <- decay average + (1 - decay) weights after each step; the first update copies the weights. Integer
    counters are copied by each.

    Args:
        module: Copied, on its device.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Count the weights as they are after a step."""
        pairs = list(zip(_tensors(self.module), _tensors(module), strict=True))
        numbers = [pair for pair in pairs if self._updates and pair[0].is_floating_point()]
        copies = [pair for pair in pairs if not self._updates or not pair[0].is_floating_point()]
        if numbers:
            torch._foreach_lerp_([to for to, _ in numbers], [of for _, of in numbers], 1 - self._decay)
        if copies:
            torch._foreach_copy_([to for to, _ in copies], [of for _, of in copies])
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The average as tensors and plain values."""
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the average that `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self._updates = state["updates"]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
