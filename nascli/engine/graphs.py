"""Whole training steps as CUDA graphs: forward and backward pass, optimizer, moving average in one launch.

A step can be captured where it launches the same whatever the numbers are. So what changes from step to step lies on
the device, and is put there before each replay: the batch, the learning rates, the probability of drop path, and the
seed of the device's generator. A replay makes the step that `train_step` would have made, random numbers included.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Generic, cast

import torch
from torch import Tensor

from nascli.device_errors import is_device_lost, is_out_of_memory
from nascli.engine.device import seed_generators
from nascli.engine.meters import MicroLoss, StepLoss
from nascli.engine.step import train_step, train_step_with_oom_retry
from nascli.engine.task import Batch, Run, Task
from nascli.engine.train_state import TrainState
from nascli.errors import DeviceMemoryError
from nascli.models.deploy.graphs import GraphStream

WARM_UP = 3
"""Steps on batches of the same shapes before one is captured: libraries make what they need, optimizers their state."""

WORTH = 200
"""Steps that have to be left: capturing takes about as long as some hundred steps save."""

MOST_CAPTURES = 16
"""Captures per training. Shapes that change more often would be captured again and again."""

Step = Callable[[Batch, int], StepLoss]
"""From a batch and the step's seed to its losses."""


def choose_step(state: TrainState, task: Task[Batch], run: Run) -> Step[Batch]:
    """What makes the steps of a training: CUDA graphs on a GPU, as far as that is possible."""
    if run.device.type != "cuda":
        return lambda batch, seed: train_step_with_oom_retry(state, task, batch, seed, run)
    return GraphedStep(state, task, run, GraphStream(run.device))


def keeps_numbers_on(device: torch.device) -> bool:
    """Whether numbers that change from step to step are scalars on a device: where a step may be captured."""
    return device.type != "cpu"


class GraphedStep(Generic[Batch]):
    """Steps that are replayed from a graph once a few were made one launch at a time, as all are where that fails.

    Attributes:
        captures: Graphs that were captured so far.
        reason: Why no graph is used any more; empty where one is, or will be.
    """

    def __init__(self, state: TrainState, task: Task[Batch], run: Run, stream: GraphStream) -> None:
        self._state, self._task, self._run, self._stream = state, task, run, stream
        self._rates = [torch.zeros((), device=run.device) for _ in state.optimizer.param_groups]
        self._shapes: object = None
        self._alike = 0
        self._places: tuple[Tensor, ...] = ()
        self._replay: Callable[[], StepLoss] | None = None
        self.captures = 0
        self.reason = ""

    def __call__(self, batch: Batch, seed: int) -> StepLoss:
        """One step on one batch; arguments and errors as of `train_step_with_oom_retry`."""
        if not self.reason:
            self._give_up(_explain_eager(self._state, self._task, self._run))
        if self.reason:
            return train_step_with_oom_retry(self._state, self._task, batch, seed, self._run)
        self._look_at(_as_tensors(batch))
        for rate, group in zip(self._rates, self._state.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if self._replay is None and self._is_due:
            self._capture(_as_tensors(batch))
        if self._replay is not None:
            return self._make(self._replay, batch, seed)
        step = partial(train_step_with_oom_retry, self._state, self._task, batch, seed, self._run)
        with self._rates_on_device():
            return self._stream.warm_up(step)

    @property
    def _is_due(self) -> bool:
        return not self.reason and self._alike > WARM_UP and self._task.plan.steps - self._state.step >= WORTH

    def _look_at(self, tensors: Sequence[Tensor]) -> None:
        """Count batches of the same shapes; the graph of others is let go."""
        shapes = [(each.shape, each.dtype) for each in tensors]
        if shapes != self._shapes:
            self._shapes, self._alike, self._replay, self._places = shapes, 0, None, ()
        self._alike += 1

    def _capture(self, tensors: Sequence[Tensor]) -> None:
        if self.captures == MOST_CAPTURES:
            self._give_up("the shapes of batches change too often")
            return
        since, reason = time.monotonic(), ""
        try:
            places = tuple(torch.zeros_like(each) for each in tensors)
            self._state.optimizer.zero_grad()
            with self._rates_on_device(capturing=True):
                self._replay = self._stream.capture(
                    lambda: train_step(self._state, self._task, cast("Batch", places), None, self._run)
                )
        except (RuntimeError, DeviceMemoryError) as error:
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if is_device_lost(first):
                raise
            reason = _explain_failure(first)
        if reason:  # here, where the exception no longer holds on to the attempt's tensors
            self._mend()
            self._give_up(reason)
            return
        self._places = places
        self.captures += 1
        if self._run.log is not None and self.captures == 1:
            seconds = time.monotonic() - since
            self._run.log(f"CUDA graphs: used from step {self._state.step + 1} on (captured in {seconds:.1f} s)")

    def _make(self, replay: Callable[[], StepLoss], batch: Batch, seed: int) -> StepLoss:
        for place, tensor in zip(self._places, _as_tensors(batch), strict=True):
            place.copy_(tensor)
        seed_generators(seed, self._run.device)
        loss = replay()
        ids = [self._task.image_ids(micro) for micro, _ in self._task.split(batch, 1)]
        return _copy_loss(loss, ids)

    def _mend(self) -> None:
        """Undo what a capture that broke off left behind: nothing was computed, but Python objects were changed."""
        optimizer, scaler = self._state.optimizer, self._state.scaler
        optimizer.zero_grad()
        if scaler.is_enabled():
            for name in ("grad_scale", "found_inf"):  # which a scaler lends an optimizer while it steps
                vars(optimizer).pop(name, None)
            self._state.scaler = torch.amp.GradScaler(self._run.device.type)
            self._state.scaler.load_state_dict(scaler.state_dict())
        torch.cuda.empty_cache()

    def _give_up(self, reason: str) -> None:
        """Use no graph from here on, and say why; nothing where there is no reason."""
        self.reason = reason
        if reason:
            self._replay, self._places = None, ()
            if self._run.log is not None:
                self._run.log(f"CUDA graphs: not used, since {reason}")

    @contextmanager
    def _rates_on_device(self, *, capturing: bool = False) -> Iterator[None]:
        """While it lasts, the optimizer takes its learning rates from the device; then it has its numbers again."""
        groups = self._state.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
            if capturing and "capturable" in group:  # AdamW's, who warns where it is set and nothing is captured
                group["capturable"] = True
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)


def _explain_eager(state: TrainState, task: Task[Batch], run: Run) -> str:
    """Why no graph is used for the steps of a training; empty where one can be."""
    if task.why_eager:
        return task.why_eager
    if run.dist.size > 1:
        return f"{run.dist.size} processes exchange gradients within a step"
    if state.micro_batches > 1:
        return f"a batch has {state.micro_batches} micro-batches, each with a seed of its own"
    if state.scaler.is_enabled() and not getattr(state.optimizer, "_step_supports_amp_scaling", False):
        return "this optimizer is told by the CPU whether a gradient in float16 has overflowed"
    return ""


def _explain_failure(error: Exception) -> str:
    if is_out_of_memory(error):
        return "the device has not enough memory for a graph"
    return f"a step cannot be captured ({(str(error) or type(error).__name__).splitlines()[0]})"


def _as_tensors(batch: object) -> tuple[Tensor, ...]:
    """The batch of a task whose steps can be captured: a tuple of tensors."""
    assert isinstance(batch, tuple)
    return batch


def _copy_loss(loss: StepLoss, ids: Sequence[Sequence[int]]) -> StepLoss:
    """Losses that the next replay leaves alone."""
    micro = [
        MicroLoss({name: each.clone() for name, each in one.losses.items()}, own)
        for one, own in zip(loss.micro, ids, strict=True)
    ]
    norm, correct = (None if each is None else each.clone() for each in (loss.grad_norm, loss.correct))
    return StepLoss(loss.loss.clone(), norm, micro, correct)
