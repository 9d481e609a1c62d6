"""One optimizer step on one batch, in as many parts as memory asks for."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.config import TrainConfig
from nascli.models.network import Network
from nascli.training.state import TrainState

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in; float32 needs none."""

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
    the first attempt in their moving statistics. `state.parts` stays what it has become.

    Args:
        state: Changed, as by `train_step`.
        config: As for `train_step`.
        images: As for `train_step`.
        targets: As for `train_step`.
        seed: Torch's global generator starts from it, at each attempt.
        note: Told when the parts become more; without it, and where parts would have one image, memory that runs out is
            an error.

    Raises:
        torch.OutOfMemoryError: The least parts are too large.
    """
    while True:
        torch.manual_seed(seed)
        try:
            return train_step(state, config, images, targets)
        except torch.OutOfMemoryError:
            if note is None or len(images) < 2 * _FEWEST_IMAGES * state.parts:
                raise
        # here, where the exception no longer holds on to the attempt's tensors
        state.optimizer.zero_grad()
        torch.cuda.empty_cache()
        state.parts *= 2
        note(
            f"out of memory: from step {state.step + 1} on a batch of {len(images)} images is computed in "
            f"{state.parts} parts, whose gradients add up to the batch's (batch-norm statistics are each part's own)"
        )


def train_step(state: TrainState, config: TrainConfig, images: Tensor, targets: Tensor) -> Tensor:
    """One optimizer step on one batch, in `state.parts` parts.

    loss = CE(logits) + aux_weight CE(auxiliary logits), both with label smoothing; the mean over the batch.

    Args:
        state: Its network, optimizer, scaler and average change.
        config: Weights of the loss, clipping, precision.
        images: float32 (N, 3, H, W), normalised.
        targets: Classes, int64 (N,), or probabilities, float32 (N, classes).

    Returns:
        The loss before the step, a scalar on the device.
    """
    state.optimizer.zero_grad()
    total = images.new_zeros(())
    for part, wanted in zip(images.tensor_split(state.parts), targets.tensor_split(state.parts), strict=True):
        loss = _loss(state.network, config, part, wanted) * (len(part) / len(images))
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    if config.clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return total


def _loss(network: Network, config: TrainConfig, images: Tensor, targets: Tensor) -> Tensor:
    precision = _TYPES.get(config.precision)
    with torch.autocast(images.device.type, dtype=precision, enabled=precision is not None):
        logits, auxiliary = network.forward_with_aux(images)
    loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
    if auxiliary is not None:
        extra = F.cross_entropy(auxiliary.float(), targets, label_smoothing=config.label_smoothing)
        loss = loss + config.aux_weight * extra
    return loss
