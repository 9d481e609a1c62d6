"""Training steps as CUDA graphs: forward and backward pass in one launch; clipping, optimizer, average in another.

In evaluations the forward pass is one launch.

A step can be captured where it launches the same whatever the numbers are. So what changes from step to step lies on
the device, and is put there before each replay: micro-batches, learning rates, the probability of drop path, and the
seed of the device's generator. Replays make the step that `train_step` makes otherwise, random numbers included; what
several processes exchange they exchange in between.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, cast

import torch
from torch import Tensor

from nascli.engine.meters import StepLoss
from nascli.engine.step import Gradients, StepParts, train_step_with_oom_retry
from nascli.engine.task import Batch, Run, Task
from nascli.engine.train_state import TrainState
from nascli.errors import DeviceMemoryError
from nascli.models.deploy.graphs import GraphedEngine, GraphStream, explain_failure

WARM_UP = 3
"""Steps on batches of the same shapes before one is captured: libraries make what they need, optimizers their state."""

WORTH = 200
"""Steps that have to be left: capturing takes about as long as some hundred steps save."""

WORTH_FORWARD = 30
"""Batches that have to be left of evaluations: a forward pass is captured faster, and saves less. Not measured."""

MOST_CAPTURES = 16
"""Captures per training. Shapes that change more often would be captured again and again."""

Step = Callable[[Batch, int], StepLoss]
"""From a batch and the step's seed to its losses."""

Forward = Callable[[Tensor], Tensor]
"""From normalized images (N, 3, H, W) to logits."""


def choose_step(state: TrainState, task: Task[Batch], run: Run) -> Step[Batch]:
    """Choose the way to make the steps of a training: CUDA graphs on a GPU, as far as that is possible."""
    if run.device.type != "cuda":
        return lambda batch, seed: train_step_with_oom_retry(state, task, batch, seed, run)
    return GraphedStep(state, task, run, GraphStream(run.device))


def choose_forward(forward: Forward, batches: float, run: Run, *, allowed: bool = True) -> Forward:
    """The forward pass for evaluations: as a CUDA graph for each number of images on a GPU, if that pays.

    Args:
        forward: Of a network in evaluation mode. Its weights may be changed in place later on.
        batches: Those that are left.
        allowed: Whether a graph may be used.
    """
    if run.device.type != "cuda" or not allowed or batches < WORTH_FORWARD:
        return forward
    return replay_forward(forward, GraphStream(run.device), run)


def replay_forward(forward: Forward, stream: GraphStream, run: Run) -> GraphedEngine[Tensor]:
    """A forward pass that is captured, and replayed from then on; a message says why where that fails."""

    def say(reason: str) -> None:
        if run.log is not None:
            run.log(f"CUDA graphs: not used in evaluations, since {reason}")

    return GraphedEngine(forward, stream, say)


def keeps_numbers_on(device: torch.device) -> bool:
    """Whether numbers that change from step to step are scalars on a device: where a step may be captured."""
    return device.type != "cpu"


class GraphedParts(StepParts[Batch]):
    """The parts of steps as graphs: of the first micro-batch of a step, of a later one, and of the change of weights.

    Args:
        stream: Parts were warmed up there on micro-batches of the same shapes.
        micro: One of `count` micro-batches, all of the same shapes.
        fraction: Its part of the batch's images.

    Raises:
        RuntimeError: A part cannot be captured.
        DeviceMemoryError: Memory does not suffice.
    """

    def __init__(
        self,
        state: TrainState,
        task: Task[Batch],
        run: Run,
        stream: GraphStream,
        micro: Batch,
        fraction: float,
        count: int,
    ) -> None:
        super().__init__(state, task, run)
        self._places = tuple(torch.zeros_like(each) for each in _as_tensors(micro))
        add, places, pool = super().add_gradients, cast("Batch", self._places), stream.make_pool()
        self._first = self._later = stream.capture(lambda: add(places, fraction, is_first=True), pool)
        if count > 1:
            self._later = stream.capture(lambda: add(places, fraction, is_first=False), pool)
        self._change = stream.capture(super().change_weights, pool)

    def add_gradients(self, micro: Batch, fraction: float, *, is_first: bool) -> Gradients:
        """Those of a micro-batch, as `StepParts` adds them."""
        for place, tensor in zip(self._places, _as_tensors(micro), strict=True):
            place.copy_(tensor)
        found = self._first() if is_first else self._later()
        losses = {name: each.clone() for name, each in found.losses.items()}  # which the next replay leaves alone
        return Gradients(found.share.clone(), losses, None if found.correct is None else found.correct.clone())

    def change_weights(self) -> Tensor | None:
        """Clip, step, average, as `StepParts` does."""
        norm = self._change()
        return None if norm is None else norm.clone()


class GraphedStep(Generic[Batch]):
    """Steps that are replayed from graphs once a few were made one launch at a time, as all are where that fails.

    Attributes:
        captures: How often steps were captured so far.
        reason: Why no graph is used any more; empty where one is, or will be.
    """

    def __init__(self, state: TrainState, task: Task[Batch], run: Run, stream: GraphStream) -> None:
        self._state, self._task, self._run, self._stream = state, task, run, stream
        self._rates = [torch.zeros((), device=run.device) for _ in state.optimizer.param_groups]
        self._shapes: object = None
        self._alike = 0
        self._parts: GraphedParts[Batch] | None = None
        self.captures = 0
        self.reason = ""

    def __call__(self, batch: Batch, seed: int) -> StepLoss:
        """One step on one batch; arguments and errors as of `train_step_with_oom_retry`."""
        step = partial(train_step_with_oom_retry, self._state, self._task, batch, seed, self._run)
        if not self.reason:
            self._give_up(_explain_eager(self._state, self._task))
        if self.reason:
            return step()
        self._look_at(batch)
        for rate, group in zip(self._rates, self._state.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if self._parts is None and self._is_due:
            self._capture(batch)
        if self._parts is not None:
            return step(self._parts)
        with self._rates_on_device():
            return self._stream.warm_up(step)

    @property
    def _is_due(self) -> bool:
        return self._alike > WARM_UP and self._task.plan.steps - self._state.step >= WORTH

    def _look_at(self, batch: Batch) -> None:
        """Count batches of the same shapes and micro-batches; the graphs of others are let go."""
        shapes = self._state.micro_batches, [(each.shape, each.dtype) for each in _as_tensors(batch)]
        if shapes != self._shapes:
            self._shapes, self._alike, self._parts = shapes, 0, None
        self._alike += 1

    def _capture(self, batch: Batch) -> None:
        count, since = self._state.micro_batches // self._run.dist.size, time.monotonic()
        (micro, fraction), *others = self._task.split(batch, count)
        if any(part != fraction for _, part in others):
            self._give_up("the micro-batches of a batch differ in size")
            return
        if self.captures == MOST_CAPTURES:
            self._give_up("the shapes of batches change too often")
            return
        reason = ""
        try:
            self._state.optimizer.zero_grad()
            with self._rates_on_device(capturing=True):
                self._parts = GraphedParts(self._state, self._task, self._run, self._stream, micro, fraction, count)
        except (RuntimeError, DeviceMemoryError) as error:
            reason = explain_failure(error, "a step")
        if reason:  # here, where the exception no longer holds on to the attempt's tensors
            self._mend()
            self._give_up(reason)
            return
        self.captures += 1
        if self._run.log is not None and self.captures == 1:
            seconds = time.monotonic() - since
            self._run.log(f"CUDA graphs: used from step {self._state.step + 1} on (captured in {seconds:.1f} s)")

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
            self._parts = None
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


def _explain_eager(state: TrainState, task: Task[Batch]) -> str:
    """Why no graph is used for the steps of a training; empty where one can be."""
    if task.why_eager:
        return task.why_eager
    if state.scaler.is_enabled() and not getattr(state.optimizer, "_step_supports_amp_scaling", False):
        return "this optimizer is told by the CPU whether a gradient in float16 has overflowed"
    return ""


def _as_tensors(batch: object) -> tuple[Tensor, ...]:
    """The batch of a task whose steps can be captured: a tuple of tensors."""
    assert isinstance(batch, tuple)
    return batch
