"""The memory that one training step, or a whole run, needs at its peak."""

import resource
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nascli.classify.loop import Plan, computing_as_asked
from nascli.classify.state import TrainState
from nascli.classify.step import train_step


def step_memory(state: TrainState, plan: Plan) -> int:
    """Bytes of all tensors that are alive at once at the peak of an optimizer step on a CPU.

    Counted are weights, gradients, momenta, averages, statistics, and everything that forward and backward pass keep or
    make; not the data set, nor what a kernel or a compiled cell allocates for itself (cells are measured as they are
    before they are compiled). The number depends on shapes alone, so it is the same on every machine.

    Args:
        state: Two steps on an empty batch are made with it; the first makes gradients and momenta.
        plan: Gives batch size, precision and what the loss is made of.
    """
    config = plan.config.model_copy(update={"compile": False})
    size = state.network.spec.image_size
    images = torch.zeros(plan.batch_size, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.zeros(plan.batch_size, dtype=torch.int64)
    state.network.train()
    state.network.set_drop_path(config.drop_path_prob)
    with torch.random.fork_rng(devices=[]), computing_as_asked(state.network, config, plan.device):
        train_step(state, config, images, labels)
        live = LiveBytes()
        with live:
            for tensor in (images, *_held(state)):
                live.hold(tensor)
            train_step(state, config, images, labels)
    return live.peak


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at once at most so far: of tensors on CUDA, else of the process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is active, as long as they live; `peak` is the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor; views of the same memory count once."""
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self._alive:
            return
        self._alive[place] = weakref.ref(storage, partial(self._forget, place, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, place: int, size: int, storage: object) -> None:
        del self._alive[place]
        self.now -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - as torch has it
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        return result


def _held(state: TrainState) -> Iterator[Tensor]:
    """What stays from step to step."""
    for parameter in state.network.parameters():
        yield parameter.detach()
        if parameter.grad is not None:
            yield parameter.grad
    yield from state.network.buffers()
    for values in state.optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, Tensor))
    if state.average is not None:
        yield from (tensor.detach() for tensor in (*state.average.parameters(), *state.average.buffers()))
