"""One optimizer step of a detector on one batch, by as many processes as there are, and how it computes meanwhile."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nascli.data.detection.dataset import AnnotatedImage
from nascli.data.detection.transforms import Target
from nascli.detect.inference import to_float
from nascli.detect.plan import DetectPlan
from nascli.detect.state import DetectState
from nascli.engine.precision import autocast
from nascli.engine.step import seed_micro_batch, sum_over_processes
from nascli.errors import DivergedError

_EXACT = ("backbone", "rpn.head", "roi_heads.box_predictor")
"""Parts of a detector whose outputs are numbers of float32 whatever they were computed in: anchors, boxes and losses
are made from them, and in bfloat16 a box at pixel 1,000 would move in steps of four pixels."""


@contextmanager
def computing_as_asked(detector: nn.Module, plan: DetectPlan) -> Iterator[None]:
    """While the context lasts, pictures get the sizes of training, and boxes stay exact where the rest is not."""
    transform: Any = detector.transform
    sizes = transform.min_size, transform.max_size
    hooks = [detector.get_submodule(name).register_forward_hook(_exact) for name in _EXACT]
    transform.min_size = plan.shorter_sides or transform.min_size
    if plan.jitter is not None:
        transform.max_size = plan.jitter.side
    try:
        yield
    finally:
        transform.min_size, transform.max_size = sizes
        for hook in hooks:
            hook.remove()


def train_step(
    state: DetectState,
    plan: DetectPlan,
    entries: Sequence[AnnotatedImage],
    pictures: Sequence[Tensor],
    targets: Sequence[Target],
    seed: int,
) -> float:
    """One optimizer step on one batch; the loss is the sum of the four parts, which have equal weight.

    A batch computed in parts adds up the parts' gradients, each with the weight of its pictures. Of several processes
    the first computes the first parts, and so on; what comes of it is what one process would have made of the same
    parts, running statistics included; sums may be rounded otherwise.

    Args:
        state: Its detector, optimizer, scaler and average change, on all processes alike.
        plan: Device, parts, processes, precision and clipping.
        entries: Which pictures they are, for the message if the loss is not finite.
        pictures: uint8 (3, H, W) each: this process's share of the batch, as many as every other's.
        targets: `boxes` and `labels` of each.
        seed: The draws of each part follow from it and the part's number.

    Returns:
        The loss before the step, over the whole batch.

    Raises:
        DivergedError: The loss or the gradient is not finite; on all processes, where a loss is not on one.
    """
    state.optimizer.zero_grad()
    state.statistics.snapshot()
    value = plan.dist.raise_together(lambda: _compute_gradients(state, plan, entries, pictures, targets, seed))
    if plan.dist.size > 1:
        total = torch.tensor(value, device=plan.device)
        sum_over_processes(state.optimizer, state.statistics, total, plan.config.grad_accum_steps)
        value = float(total)
    _change_weights(state, plan, entries)
    return value


def _compute_gradients(
    state: DetectState,
    plan: DetectPlan,
    entries: Sequence[AnnotatedImage],
    pictures: Sequence[Tensor],
    targets: Sequence[Target],
    seed: int,
) -> float:
    """Of this process's parts; its part of the loss."""
    parts, whole = plan.config.grad_accum_steps, len(entries) * plan.dist.size
    value = 0.0
    for number, part in enumerate(torch.arange(len(entries)).tensor_split(parts), plan.dist.rank * parts):
        seed_micro_batch(seed, number, plan.device)
        places = part.tolist()
        losses = _losses(state, plan, [pictures[k] for k in places], [targets[k] for k in places])
        total = sum(losses.values(), start=torch.zeros((), device=plan.device)) * (len(places) / whole)
        value += float(total.detach())
        if not math.isfinite(value):
            words = [f"{name.removeprefix('loss_')} {float(loss.detach()):.4g}" for name, loss in losses.items()]
            ids = [entries[k].id for k in places]
            raise _diverged(f"the loss is {value} ({', '.join(words)})", state.step, ids)
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    return value


def _change_weights(state: DetectState, plan: DetectPlan, entries: Sequence[AnnotatedImage]) -> None:
    """By the gradients that were added up."""
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.detector.parameters(), plan.config.clip_grad_norm or math.inf)
    if not state.scaler.is_enabled() and not bool(torch.isfinite(norm)):  # the scaler leaves out such a step itself
        shares = plan.dist.all_gather([entry.id for entry in entries])
        raise _diverged(f"the gradient is {float(norm)}", state.step, [each for share in shares for each in share])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None:
        state.average.update(state.detector)


def _losses(
    state: DetectState, plan: DetectPlan, pictures: Sequence[Tensor], targets: Sequence[Target]
) -> dict[str, Tensor]:
    """The four losses by name."""
    with autocast(plan.config.precision, plan.device):
        losses: dict[str, Tensor] = state.detector(
            [to_float(picture, plan.device) for picture in pictures],
            [{name: tensor.to(plan.device) for name, tensor in target.items()} for target in targets],
        )
    return losses


def _exact(module: nn.Module, inputs: object, output: Any) -> Any:  # noqa: ANN401 - what a hook gets and gives
    """Every tensor of an output as float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _exact(module, inputs, value) for name, value in output.items()}
    return type(output)(_exact(module, inputs, value) for value in output)


def _diverged(what: str, step: int, ids: Sequence[int]) -> DivergedError:
    return DivergedError(
        f"training diverged: {what} at step {step + 1}, on the images with ids {', '.join(map(str, ids))}",
        "Lower train.lr, lengthen train.warmup_steps or lower train.clip_grad_norm; if it is always the same image, "
        "look at its boxes",
    )
