"""A module whose activations are not kept for the backward pass, but computed again there."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *inputs: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
    """Call a module; for the backward pass keep its inputs only, and run it on them once more there.

    Result, gradients and buffers are those of a plain call: the second run draws the same random numbers and leaves
    the running statistics of batch norms as they are.

    References: Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4.
    """
    result: Tensor = checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _BuffersAside(module))
    )
    return result


class _BuffersAside(AbstractContextManager[None]):
    """While it lasts, a module works on copies of its buffers.

    Batch norms would else count the batch twice. Without running statistics, or with a momentum of 0, they would not
    keep for the backward pass what they kept the first time, or would still count batches.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        for owner in self._module.modules():
            self._kept += [(owner, name, buffer) for name, buffer in owner.named_buffers(recurse=False)]
        for owner, name, buffer in self._kept:
            setattr(owner, name, buffer.clone())

    def __exit__(self, *raised: object) -> None:
        for owner, name, buffer in self._kept:
            setattr(owner, name, buffer)
        self._kept.clear()
