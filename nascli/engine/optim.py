"""The optimizers, and the moving average of the weights."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from nascli.config import OptimConfig

_HIGH_LR = 0.02
"""A learning rate that is usual for SGD and too high for AdamW."""


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
        if isinstance(group["lr"], Tensor):  # the same roundings; the call below takes numbers alone
            scaled = torch._foreach_mul(gradients, group["lr"])
            torch._foreach_div_(scaled, roots)
            torch._foreach_add_(momenta, scaled)
        else:
            torch._foreach_addcdiv_(momenta, gradients, roots, group["lr"])
        torch._foreach_sub_(parameters, momenta)


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `muon` set, AdamW for the others.

    With g the gradient of a kernel, a matrix with a row per output channel, and weight decay d: m <- u m + (1 - u) g;
    o has the singular vectors of (1 - u) g + u m, and singular values near 1; w <- (1 - lr d) w - s lr o. The factor
    s = 0.2 sqrt(max(rows, columns)) makes the update about as large as AdamW's, so both take one learning rate.

    Args:
        momentum: u.
        betas, epsilon: AdamW's.

    References: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the factor is of Liu et
    al. 2025, "Muon is Scalable for LLM Training", equation 4.
    Deviation: `torch.optim.Muon` takes matrices alone, no kernels and no second optimizer, and computes o in bfloat16;
    here it has the precision of the weights.
    """

    def __init__(
        self, parameters: ParamsT, lr: float, momentum: float, betas: tuple[float, float], epsilon: float
    ) -> None:
        numbers = {"lr": lr, "momentum": momentum, "betas": betas, "epsilon": epsilon}
        # with "fused" torch puts the count of steps, when it is loaded, where the weights are
        super().__init__(parameters, numbers | {"weight_decay": 0.0, "muon": False, "fused": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            if parameters := [p for p in group["params"] if p.grad is not None]:
                update = self._update_by_muon if group["muon"] else self._update_by_adamw
                update(parameters, [p.grad for p in parameters if p.grad is not None], group)

    def _update_by_muon(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        updates = torch._foreach_lerp(gradients, momenta, momentum)
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        by_shape: dict[torch.Size, list[int]] = {}
        for place, parameter in enumerate(parameters):
            by_shape.setdefault(parameter.shape, []).append(place)
        for shape, places in by_shape.items():
            matrices = orthogonalize(torch.stack([updates[place].flatten(1) for place in places]))
            step = -0.2 * lr * max(matrices.shape[1:]) ** 0.5
            for place, matrix in zip(places, matrices, strict=True):
                if isinstance(step, Tensor):
                    parameters[place].addcmul_(matrix.view(shape), step)
                else:
                    parameters[place].add_(matrix.view(shape), alpha=step)

    def _update_by_adamw(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter].update(zeros, step=torch.zeros((), device=parameter.device))
        # on a CPU one by one, which is as fast; elsewhere the count of steps would be read back
        fused = not parameters[0].is_cpu or isinstance(group["lr"], Tensor)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=not fused,
            fused=fused,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["epsilon"],
            maximize=False,
        )


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (K, rows, columns) with the same singular vectors, and singular values from about 0.7 to 1.2.

    Five steps of x <- a x + (b x x^T + c (x x^T)^2) x from x / |x|, with the a, b, c that raise small singular values
    fastest.

    References: Jordan et al. 2024, "Muon", the section on Newton-Schulz.
    """
    is_wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if is_wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x if is_wide else x.mT
    return result


def is_dense_kernel(parameter: Tensor) -> bool:
    """Whether it is the kernel of a convolution that mixes channels: neither depthwise nor over the three colors."""
    return parameter.ndim == 4 and parameter.shape[1] > 3


def make_optimizer(
    module: nn.Module, config: OptimConfig, lr_factor: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay on matrices and kernels only, not on parameters with one dimension.

    Momenta of SGD start as zeros. torch would make them at the first step, and where a loss scaler skips that one (the
    gradient overflows in float16) leave them what memory held before.

    Args:
        module: Its parameters that require a gradient are optimized; already on its device.

    References: the released NASNet code puts its L2 term on convolution and classifier weights, not on batch norms.
    """
    groups, lr, momentum = group_parameters(module, config, lr_factor), config.lr, config.momentum
    # fused: one pass over each tensor, which counts where there are hundreds of small ones
    match config.optimizer:
        case "rmsprop":
            return RmsProp(groups, lr, config.rmsprop_decay, momentum, config.rmsprop_epsilon)
        case "adamw":
            return torch.optim.AdamW(groups, lr, config.adamw_betas, config.adamw_epsilon, fused=True)
        case "muon":
            return Muon(groups, lr, momentum, config.adamw_betas, config.adamw_epsilon)
        case "sgd":
            sgd = torch.optim.SGD(groups, lr, momentum, nesterov=config.nesterov and momentum > 0, fused=True)
            if momentum:
                for parameter in (parameter for group in groups for parameter in group["params"]):
                    sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return sgd


def remark_on_lr(config: OptimConfig) -> str:
    """A sentence where the learning rate is of SGD's size and the optimizer is not SGD's kind; empty where all is well.

    AdamW and Muon divide by the gradient's size, so that a rate is how far a weight moves in a step.
    """
    if config.optimizer not in ("adamw", "muon") or config.lr < _HIGH_LR:
        return ""
    return f"{config.section}.lr = {config.lr:g} is high for {config.optimizer}, which usually has about 0.001 (--lr)"


def group_parameters(
    module: nn.Module, config: OptimConfig, lr_factor: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, Any]]:
    """The parameters that require a gradient, in groups for torch's optimizers by what is done to them.

    Args:
        lr_factor: The part of the learning rate for the parameter of a name. A group keeps it under this name: each
            step sets `lr` to the learning rate times it.
    """
    groups: dict[tuple[float, bool, float], list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            by_muon = config.optimizer == "muon" and is_dense_kernel(parameter)
            groups.setdefault((decay, by_muon, lr_factor(name)), []).append(parameter)
    return [
        {"params": found, "weight_decay": decay, "muon": muon, "lr_factor": factor}
        for (decay, muon, factor), found in groups.items()
    ]


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
        self._has_begun = False

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Count the weights as they are after a step."""
        pairs = list(zip(_tensors(self.module), _tensors(module), strict=True))
        numbers = [pair for pair in pairs if self._has_begun and pair[0].is_floating_point()]
        copies = [pair for pair in pairs if not self._has_begun or not pair[0].is_floating_point()]
        if numbers:
            torch._foreach_lerp_([to for to, _ in numbers], [of for _, of in numbers], 1 - self._decay)
        if copies:
            torch._foreach_copy_([to for to, _ in copies], [of for _, of in copies])
        self._has_begun = True

    def state_dict(self) -> dict[str, Any]:
        """The average as tensors and plain values."""
        return {"module": self.module.state_dict(), "has_begun": self._has_begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the average that `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self._has_begun = state["has_begun"]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
