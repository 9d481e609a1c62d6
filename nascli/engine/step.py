"""One optimizer step on one batch, in as many micro-batches as memory asks for, by as many processes as there are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Generic, NamedTuple

import torch
from torch import Tensor, nn

from nascli.engine.device import name_out_of_memory, seed_generators
from nascli.engine.meters import MicroLoss, StepLoss
from nascli.engine.task import Batch, Run, Task
from nascli.engine.train_state import TrainState
from nascli.errors import DeviceMemoryError
from nascli.seeding import derive_seed


class Gradients(NamedTuple):
    """Results of a micro-batch whose gradients were added, on the device.

    Args:
        share: Its share of the batch's loss.
        losses: By name, means over its own images.
        correct: Its images whose class was named; None where they are not counted.
    """

    share: Tensor
    losses: Mapping[str, Tensor]
    correct: Tensor | None


class StepParts(Generic[Batch]):
    """The parts of a step that a device computes; the rest is up to `train_step`."""

    def __init__(self, state: TrainState, task: Task[Batch], run: Run) -> None:
        self._state, self._task, self._run = state, task, run

    def add_gradients(self, micro: Batch, fraction: float, *, is_first: bool) -> Gradients:
        """Add the gradients of a micro-batch to those of earlier ones.

        Args:
            fraction: Its part of the batch's images.
            is_first: There are no earlier ones in this step.
        """
        if is_first:
            self._state.optimizer.zero_grad()
        losses = self._task.loss(micro)
        loss = reduce(torch.add, losses.values()) * (fraction / self._run.dist.size)
        self._state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return Gradients(loss.detach(), {name: each.detach() for name, each in losses.items()}, self._task.correct)

    def change_weights(self) -> Tensor | None:
        """Clip, step, average. Returns the gradient's norm before clipping; None where the loss is scaled."""
        state, clip_grad_norm = self._state, self._task.plan.config.clip_grad_norm
        norm: Tensor | None = None
        if clip_grad_norm or not state.scaler.is_enabled():
            state.scaler.unscale_(state.optimizer)
            norm = nn.utils.get_total_norm([each.grad for each in state.modules.parameters() if each.grad is not None])
            if clip_grad_norm:
                nn.utils.clip_grads_with_norm_(state.modules.parameters(), clip_grad_norm, norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update(state.modules)
        return None if state.scaler.is_enabled() else norm  # the scaler skips such a step itself


def train_step_with_oom_retry(
    state: TrainState,
    task: Task[Batch],
    batch: Batch,
    seed: int,
    run: Run,
    parts: StepParts[Batch] | None = None,
) -> StepLoss:
    """`train_step`, retried in twice as many micro-batches, and without `parts`, for as long as memory runs out.

    Twice as many add up to the same gradient, but batch norms see each micro-batch alone, and a single process's may
    have counted one of the failed attempt in their moving statistics. `state.micro_batches` keeps its new value. Where
    one of several processes runs out of memory, all retry.

    Raises:
        torch.OutOfMemoryError: The smallest micro-batches are too large, or `run.retry_on_oom` is false.
    """
    size = task.plan.batch_size
    while True:
        try:
            return train_step(state, task, batch, seed, run, parts)
        except torch.OutOfMemoryError:
            if not run.retry_on_oom or size < 2 * task.plan.min_images * state.micro_batches:
                raise
        # here, where the exception no longer holds on to the attempt's tensors
        parts = None
        state.optimizer.zero_grad()
        torch.cuda.empty_cache()
        state.micro_batches *= 2
        task.micro_batches = state.micro_batches
        if run.log is not None:
            run.log(
                f"out of memory: from step {state.step + 1} on a batch of {size} images is computed in "
                f"{state.micro_batches} micro-batches, whose gradients add up to the batch's (batch-norm statistics "
                "are each micro-batch's own)"
            )


def train_step(
    state: TrainState,
    task: Task[Batch],
    batch: Batch,
    seed: int | None,
    run: Run,
    parts: StepParts[Batch] | None = None,
) -> StepLoss:
    """One optimizer step on one batch, in `state.micro_batches` micro-batches.

    Of several processes the first computes the first micro-batches, and so on. The result is what one process would
    have made of the same micro-batches, running statistics included; sums may be rounded otherwise.

    Args:
        batch: This process's share, as many images as every other's.
        seed: The random numbers of each micro-batch follow from it and its place; None leaves torch's generators as
            they are.
        parts: Computes gradients and changes weights; by default one launch at a time.

    Raises:
        torch.OutOfMemoryError: A process has not enough memory; nothing has changed but running statistics.
        DeviceMemoryError: One has not, while the weights are changed.
    """
    parts = StepParts(state, task, run) if parts is None else parts
    state.norms.snapshot()
    try:
        with run.dist.any_rank_raises(torch.OutOfMemoryError), name_out_of_memory():
            total, correct, micro = _compute_gradients(state, task, batch, seed, run, parts)
    except torch.OutOfMemoryError:
        state.norms.restore()
        raise
    with _irreversible():
        if run.dist.size > 1:
            _sum_over_processes(state, [total] if correct is None else [total, correct], run)
        return StepLoss(total, parts.change_weights(), micro, correct)


def _compute_gradients(
    state: TrainState, task: Task[Batch], batch: Batch, seed: int | None, run: Run, parts: StepParts[Batch]
) -> tuple[Tensor, Tensor | None, list[MicroLoss]]:
    """Add up the gradients of this process's micro-batches.

    Returns:
        Its share of the loss; its images whose class was named, where they are counted; the losses of each micro-batch.
    """
    count = state.micro_batches // run.dist.size
    shares, counts, micro_losses = list[Tensor](), list[Tensor](), list[MicroLoss]()
    for place, (micro, fraction) in enumerate(task.split(batch, count)):
        if seed is not None:
            number = run.dist.rank * count + place
            seed_generators(derive_seed(seed, "part", number) if number else seed, run.device)
        found = parts.add_gradients(micro, fraction, is_first=place == 0)
        shares.append(found.share)
        counts += [] if found.correct is None else [found.correct]
        micro_losses.append(MicroLoss(found.losses, task.image_ids(micro)))
    return reduce(torch.add, shares), reduce(torch.add, counts) if counts else None, micro_losses


def _sum_over_processes(state: TrainState, shares: list[Tensor], run: Run) -> None:
    """Replace gradients, running statistics, and this process's shares of sums by the sums, in one exchange."""
    count = state.micro_batches // run.dist.size
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    run.dist.sum_([*gradients, *shares, *state.norms.terms(count)])
    state.norms.complete(count)


@contextmanager
def _irreversible() -> Iterator[None]:
    """Make memory that runs out final: weights, or those of other processes, may have changed by then."""
    try:
        with name_out_of_memory():
            yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            "the device has not enough memory to change the weights", "Start again with fewer --filters"
        ) from error
