"""Cost of a training from a few of its real steps: their time, and the memory of one."""

import contextlib
import itertools
import math
import resource
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nascli.engine.device import fork_rng
from nascli.engine.fit import train_epoch
from nascli.engine.graphs import choose_step
from nascli.engine.step import train_step
from nascli.engine.task import Batch, Run, Task
from nascli.engine.train_state import TrainState

_UNTIMED = 2
"""Steps that warm up caches and memory."""


class _Enough(Exception):  # noqa: N818 - not an error: the way out of a loop
    """Enough steps were timed."""


def median_step(
    state: TrainState, task: Task[Batch], seed: int, run: Run, steps: int, seconds: float = math.inf
) -> float:
    """Seconds per step, data included: the median over `steps` steps after two that warm up.

    A training of fewer steps is timed to its end, and no step begins after so many `seconds` of timed ones.
    """
    times = [time.monotonic()]

    def after_step() -> None:
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        times.append(time.monotonic())
        timed = times[_UNTIMED:]
        if len(timed) > steps or (len(timed) > 1 and timed[-1] - timed[0] > seconds):
            raise _Enough

    step = choose_step(state, task, run)
    with fork_rng(run.device), contextlib.suppress(_Enough):
        for epoch in range(task.plan.config.epochs):
            with task.training():
                train_epoch(state, task, seed, run, epoch, after_step, step)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps[_UNTIMED:] or gaps)


def step_memory(state: TrainState, task: Task[Batch], batch: Batch, run: Run) -> int:
    """Bytes of all tensors that are alive at once at the peak of an optimizer step on a CPU.

    Counted are weights, gradients, momenta, averages, statistics, and everything that forward and backward pass keep or
    make; not the data set, nor what a kernel or a compiled cell allocates for itself. The number depends on shapes
    alone, so it is the same on every machine.

    Args:
        state: Two steps are made with it; the first makes gradients and momenta.
        batch: A full batch of any content.
    """
    state.modules.train()
    with fork_rng(run.device), task.training():
        train_step(state, task, batch, None, run)
        live = LiveBytes()
        with live:
            for tensor in _held(state):
                live.hold(tensor)
            for tensor in batch if isinstance(batch, tuple) else ():
                live.hold(tensor)
            train_step(state, task, batch, None, run)
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
        place, size = storage._cdata, storage.nbytes()  # the address of the data is 0 on the device meta
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
    """The tensors that stay from step to step."""
    for parameter in state.modules.parameters():
        yield parameter.detach()
        if parameter.grad is not None:
            yield parameter.grad
    yield from state.modules.buffers()
    for values in state.optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, Tensor))
    if state.ema is not None:
        yield from (tensor.detach() for tensor in (*state.ema.module.parameters(), *state.ema.module.buffers()))
