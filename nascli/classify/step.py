"""One optimizer step on one batch, in as many parts as memory asks for, by as many processes as there are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.classify.state import TrainState
from nascli.config import TrainConfig
from nascli.engine.microbatch import add_up, seed_part
from nascli.engine.precision import computing_in
from nascli.errors import DeviceMemoryError
from nascli.models.interface import ImageClassifier

_FEWEST_IMAGES = 2
"""Of a part: batch normalisation needs two."""


def step_within_memory(
    state: TrainState,
    config: TrainConfig,
    images: Tensor,
    targets: Tensor,
    seed: int,
    note: Callable[[str], None] | None,
) -> Tensor:
    """A step that is tried again in twice as many parts for as long as memory runs out.

    Twice as many parts add up to the same gradient, but batch norms see each part alone, and may have counted a part of
    the first attempt in their moving statistics. `state.parts` stays what it has become. Where one of several processes
    has no memory left, all try again.

    Args:
        state: Changed, as by `train_step`.
        config: As for `train_step`.
        images: As for `train_step`.
        targets: As for `train_step`.
        seed: As for `train_step`, at each attempt.
        note: Told when the parts become more; without it, and where parts would have one image, memory that runs out is
            an error.

    Raises:
        torch.OutOfMemoryError: The least parts are too large.
    """
    whole = len(images) * state.dist.size
    while True:
        try:
            return train_step(state, config, images, targets, seed)
        except torch.OutOfMemoryError:
            if note is None or whole < 2 * _FEWEST_IMAGES * state.parts:
                raise
        # here, where the exception no longer holds on to the attempt's tensors
        state.optimizer.zero_grad()
        torch.cuda.empty_cache()
        state.parts *= 2
        note(
            f"out of memory: from step {state.step + 1} on a batch of {whole} images is computed in "
            f"{state.parts} parts, whose gradients add up to the batch's (batch-norm statistics are each part's own)"
        )


def train_step(
    state: TrainState, config: TrainConfig, images: Tensor, targets: Tensor, seed: int | None = None
) -> Tensor:
    """One optimizer step on one batch, in `state.parts` parts.

    loss = CE(logits) + aux_weight CE(auxiliary logits), both with label smoothing; the mean over the batch.

    Of several processes the first computes the first parts, and so on. What comes of it is what one process would have
    made of the same parts, running statistics included; sums may be rounded otherwise.

    Args:
        state: Its network, optimizer, scaler and average change, on all processes alike.
        config: Weights of the loss, clipping, precision.
        images: float32 (N, 3, H, W), normalised: this process's share of the batch, as many as every other's.
        targets: Classes, int64 (N,), or probabilities, float32 (N, classes).
        seed: The draws of each part follow from it and the part's number; without it from what torch's global generator
            is at.

    Returns:
        The loss before the step over the whole batch, a scalar on the device.

    Raises:
        torch.OutOfMemoryError: A process has not enough memory; but for running statistics nothing has changed.
        DeviceMemoryError: One has not, while the weights are changed.
    """
    state.optimizer.zero_grad()
    state.statistics.keep()
    try:
        with state.dist.all_or_none(torch.OutOfMemoryError):
            total = _compute_gradients(state, config, images, targets, seed)
    except torch.OutOfMemoryError:
        state.statistics.restore()
        raise
    with _no_way_back():
        if state.dist.size > 1:
            add_up(state.optimizer, state.statistics, total, state.parts // state.dist.size)
        _change_weights(state, config)
    return total


def _compute_gradients(
    state: TrainState, config: TrainConfig, images: Tensor, targets: Tensor, seed: int | None
) -> Tensor:
    """Of this process's parts; its part of the loss."""
    parts = state.parts // state.dist.size
    whole = len(images) * state.dist.size
    total = images.new_zeros(())
    pairs = zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True)
    for number, (part, wanted) in enumerate(pairs, state.dist.rank * parts):
        if seed is not None:
            seed_part(seed, number)
        loss = _loss(state.network, config, part, wanted) * (len(part) / whole)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total


def _change_weights(state: TrainState, config: TrainConfig) -> None:
    if config.clip_grad_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None:
        state.average.update_parameters(state.network)


@contextmanager
def _no_way_back() -> Iterator[None]:
    """Where some weights, or those of other processes, may have changed, a step cannot be tried again."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            "the device has not enough memory to change the weights", "Start again with fewer --filters"
        ) from error


def _loss(network: ImageClassifier, config: TrainConfig, images: Tensor, targets: Tensor) -> Tensor:
    with computing_in(config.precision, images.device):
        logits, auxiliary = network.forward_with_aux(images)
    loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
    if auxiliary is not None:
        extra = F.cross_entropy(auxiliary.float(), targets, label_smoothing=config.label_smoothing)
        loss = loss + config.aux_weight * extra
    return loss
