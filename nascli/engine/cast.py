"""Weights of a network in the number format of its arithmetic, all cast at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nascli.config import TrainingPrecision
from nascli.engine.device import autocast, find_autocast_type

_CAST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose weights autocast casts; batch norms keep theirs in float32."""


class NetworkAutocast:
    """Contexts in which a network computes in a precision by autocast, with its weights cast at once beforehand.

    Autocast alone casts weights one by one where they are used, and their gradients on the way back: two launches for
    each of hundreds of tensors. The numbers and the gradients here are the same.

    Args:
        network: Its layers stay as they are; they are looked for once.
    """

    def __init__(self, network: nn.Module, precision: TrainingPrecision, device: torch.device) -> None:
        self._precision, self._device = precision, device
        self._kind = find_autocast_type(precision, device)
        self._places = [(module._parameters, name) for module, name in _find_weights(network).values()]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One such context."""
        if self._kind is None:
            yield
            return
        weights = [owner[name] for owner, name in self._places]
        casts = _CastAll.apply(self._kind, *weights)
        try:
            for (owner, name), cast in zip(self._places, casts, strict=True):
                owner[name] = cast
            with autocast(self._precision, self._device):
                yield
        finally:
            for (owner, name), weight in zip(self._places, weights, strict=True):
                owner[name] = weight


def cast_weights(
    network: nn.Module, weights: Mapping[str, Tensor], precision: TrainingPrecision, device: torch.device
) -> dict[str, Tensor]:
    """Those of `weights`, by their names in a network, that autocast would cast to a precision, cast at once.

    The others are returned as they are.
    """
    kind = find_autocast_type(precision, device)
    names = [] if kind is None else [name for name in _find_weights(network) if name in weights]
    casts = _CastAll.apply(kind, *(weights[name] for name in names)) if names else ()
    return {**weights, **dict(zip(names, casts, strict=True))}


def _find_weights(network: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """The layer and the name in it of each weight that autocast casts, by its name in the network."""
    return {
        f"{prefix}.{name}" if prefix else name: (module, name)
        for prefix, module in network.named_modules()
        if isinstance(module, _CAST)
        for name, weight in module.named_parameters(recurse=False)
    }


class _CastAll(torch.autograd.Function):
    """Tensors in another number format; their gradients are cast back."""

    @staticmethod
    def forward(ctx: Any, kind: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - torch's context
        ctx.set_materialize_grads(False)  # a layer that took no part has no gradient
        ctx.originals = tensors
        casts = [torch.empty_like(tensor, dtype=kind) for tensor in tensors]
        torch._foreach_copy_(casts, tensors)
        return tuple(casts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
        found = [gradient for gradient in gradients if gradient is not None]
        pairs = zip(gradients, ctx.originals, strict=True)
        results = [None if gradient is None else torch.empty_like(tensor) for gradient, tensor in pairs]
        torch._foreach_copy_([result for result in results if result is not None], found)
        return None, *results
