"""Training a detector: one optimizer step, the steps of an epoch, and a whole training from its first step to its end.

Every draw follows from (seed, purpose, epoch or step): the order of the pictures, the flips, and the sampling of
anchors and proposals inside torchvision's heads, which use torch's global generator and so are seeded anew before
each step. A resumed training therefore makes the same steps as one that was never stopped; on one CPU type with one
number of threads, bit for bit.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nascli.config import DetectTrainConfig, TrainConfig
from nascli.data.annotated import AnnotatedImage, DetectionSplit, training_target
from nascli.detection.inference import find_all, read_batches, to_numbers
from nascli.detection.scoring import Detection, DetectionScore, score_detections
from nascli.errors import CorruptFileError, DivergedError, InputError, Interrupted
from nascli.training.allocation import keep_freed_memory
from nascli.training.checkpoint import CheckpointStore
from nascli.training.interrupts import StopRequest
from nascli.training.optimizers import make_optimizer
from nascli.training.runtime import derive_seed, generator_for
from nascli.training.schedules import Schedule, warmup_cosine


@dataclass(frozen=True)
class DetectPlan:
    """What stays the same from the first step to the last.

    Args:
        config: The recipe's `[train]`.
        seed: The run's seed.
        device: Where to compute.
        images: Training pictures.
    """

    config: DetectTrainConfig
    seed: int
    device: torch.device
    images: int

    @property
    def batch_size(self) -> int:
        """Pictures a step: all there are, where they are fewer than a batch."""
        return min(self.config.batch_size, self.images)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; the rest of an epoch's order is left out, another rest each epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def learning_rate(self) -> Schedule:
        """Linear warm-up, then a cosine to 0."""
        return warmup_cosine(self.config.lr, min(self.config.warmup_steps, self.steps), self.steps)

    def order(self, epoch: int) -> list[int]:
        """The positions of the pictures in the order of epoch `epoch` (counted from 0), whole batches only."""
        shuffled = torch.randperm(self.images, generator=generator_for(self.seed, "order", epoch))
        return [int(position) for position in shuffled[: self.steps_per_epoch * self.batch_size]]


@dataclass(frozen=True)
class DetectEpoch:
    """One line of `metrics.jsonl`.

    Args:
        epoch: Counted from 1.
        step: Optimizer steps made since the start.
        train_loss: Mean over the epoch's steps of the sum of the four losses.
        lr: Learning rate of the epoch's last step.
        ap: On the scored split, where this epoch was scored.
        ap50: The same at IoU 0.5.
        seconds: Of the epoch's steps, scoring left out.
        images_per_second: While training.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    ap: float | None
    ap50: float | None
    seconds: float
    images_per_second: float


@dataclass
class DetectState:
    """Everything that a training changes: weights, momenta, steps made, the running epoch's sums, finished epochs."""

    detector: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    records: list[DetectEpoch] = field(default_factory=list)

    def to_payload(self) -> dict[str, Any]:
        """The state as tensors and plain values; `load_payload` takes it back."""
        return {
            "step": self.step,
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": [self.loss_sum, self.seconds],
            "records": [vars(record) for record in self.records],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Become the state that `to_payload` gave."""
        self.detector.load_state_dict(payload["detector"])
        self.optimizer.load_state_dict(payload["optimizer"])
        self.step = payload["step"]
        self.loss_sum, self.seconds = payload["sums"]
        self.records = [DetectEpoch(**record) for record in payload["records"]]


def start_state(detector: nn.Module, plan: DetectPlan) -> DetectState:
    """The state before the first step; moves the detector to the plan's device, channels last in memory.

    From here on the process keeps what memory it frees (`keep_freed_memory`).
    """
    keep_freed_memory()
    detector.to(device=plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = plan.config
    settings = TrainConfig(lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return DetectState(detector, make_optimizer(detector, settings))


def fit_detector(
    state: DetectState,
    plan: DetectPlan,
    train: DetectionSplit,
    scored: DetectionSplit,
    *,
    store: CheckpointStore,
    stop: StopRequest,
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: Callable[[DetectEpoch], None] | None = None,
) -> tuple[DetectionScore, list[Detection]]:
    """Train from where `state` stands to the end, then score.

    Args:
        state: Changed in place; whatever checkpoint `store` holds replaces it first.
        plan: The unchanging numbers.
        train: The pictures to learn from.
        scored: The pictures whose average precision is measured.
        store: Keeps checkpoints and metrics. The first is written before the first step, so a run can be resumed from
            any moment on.
        stop: Looked at after each step and each batch that is scored; when requested, a checkpoint is written.
        on_step: Told after each step: steps made, mean loss of the epoch so far.
        on_epoch: Told of each epoch that ends.

    Returns:
        The final score and the detections it was computed from.

    Raises:
        DivergedError: A loss or a gradient is not finite; the message names the step and the pictures.
        CorruptFileError: A picture cannot be decoded, though its header could be read; the state is saved.
        InputError: A picture was removed or replaced meanwhile; the state is saved.
        Interrupted: `stop` was requested.
    """
    payload = store.load()
    if payload is None:
        store.save(state.to_payload())
    else:
        state.load_payload(payload)
    store.restore_metrics(state.records)

    def pause() -> None:
        """Where the state is whole: save if asked to stop, or if the last checkpoint is old."""
        if stop.requested:
            store.save(state.to_payload())
            raise Interrupted(
                f"stopped after step {state.step} of {plan.steps}; the state is saved",
                f"Resume with: nascli detect --resume {store.folder}",
            )
        if store.age > plan.config.checkpoint_minutes * 60:
            store.save(state.to_payload())

    def after_step() -> None:
        if on_step is not None:
            on_step(state.step, state.loss_sum / (state.step - len(state.records) * plan.steps_per_epoch))
        pause()

    scores: tuple[DetectionScore, list[Detection]] | None = None
    with torch.random.fork_rng(devices=[plan.device] if plan.device.type == "cuda" else []):
        while len(state.records) < plan.config.epochs:
            with _saved_on_fault(state, store):
                train_epoch(state, plan, train, after_step)
                scores = _score_epoch(state, plan, scored, pause)
            record = close_epoch(state, plan, scores)
            store.append_metrics(record)
            store.save(state.to_payload())
            if on_epoch is not None:
                on_epoch(record)
    return scores or measure(state.detector, scored, plan, pause)


def train_epoch(state: DetectState, plan: DetectPlan, split: DetectionSplit, after_step: Callable[[], None]) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end.

    Args:
        state: Changed in place; it may stand inside the epoch.
        plan: The unchanging numbers.
        split: The training pictures.
        after_step: Called after each step, where the state is whole; may raise to stop.
    """
    epoch = len(state.records)
    done = state.step - epoch * plan.steps_per_epoch
    order = plan.order(epoch)[done * plan.batch_size :]
    learning_rate = plan.learning_rate
    state.detector.train()
    since = time.monotonic()
    for entries, pictures in read_batches([split.images[k] for k in order], plan.batch_size):
        step = state.step
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(step)
        torch.manual_seed(derive_seed(plan.seed, "step", step))
        generator = generator_for(plan.seed, "augment", step)
        targets = [training_target(entry) for entry in entries]
        if plan.config.flip:
            pictures, targets = flip_some(pictures, targets, generator)
        state.loss_sum += train_step(state, plan, entries, pictures, targets)
        state.step += 1
        state.seconds += time.monotonic() - since
        since = time.monotonic()
        after_step()


def train_step(
    state: DetectState,
    plan: DetectPlan,
    entries: Sequence[AnnotatedImage],
    pictures: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
) -> float:
    """One optimizer step on one batch; the loss is the sum of the four parts, which have equal weight.

    Args:
        state: Its detector and optimizer change.
        plan: Device and clipping.
        entries: Which pictures they are, for the message if the loss is not finite.
        pictures: uint8 (3, H, W) each.
        targets: `boxes` and `labels` of each.

    Returns:
        The loss before the step.
    """
    losses = state.detector(
        [to_numbers(picture, plan.device) for picture in pictures],
        [{name: tensor.to(plan.device) for name, tensor in target.items()} for target in targets],
    )
    total: Tensor = sum(losses.values(), start=torch.zeros((), device=plan.device))
    value = float(total.detach())
    if not math.isfinite(value):
        parts = ", ".join(f"{name.removeprefix('loss_')} {float(part.detach()):.4g}" for name, part in losses.items())
        raise _diverged(f"the loss is {value} ({parts})", state.step, entries)
    state.optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(state.detector.parameters(), plan.config.clip_norm or math.inf)
    if not bool(torch.isfinite(norm)):
        raise _diverged(f"the gradient is {float(norm)}", state.step, entries)
    state.optimizer.step()
    return value


def flip_some(
    pictures: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], generator: torch.Generator
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Mirror left and right, each picture with its boxes with probability one half."""
    chosen = (torch.rand(len(pictures), generator=generator) < 0.5).tolist()
    flipped = [flip(picture, target) if yes else (picture, target) for yes, picture, target in zip(
        chosen, pictures, targets, strict=True
    )]  # fmt: skip
    return [picture for picture, _ in flipped], [target for _, target in flipped]


def flip(picture: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture (3, H, W) and its boxes mirrored: x becomes W - x."""
    boxes, width = target["boxes"], picture.shape[-1]
    mirrored = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    return picture.flip(-1), {**target, "boxes": mirrored}


def close_epoch(
    state: DetectState, plan: DetectPlan, scores: tuple[DetectionScore, list[Detection]] | None
) -> DetectEpoch:
    """Turn the running sums into the record of the epoch that ends, and start new ones."""
    summary = scores[0].summary if scores else {}
    images = plan.steps_per_epoch * plan.batch_size
    record = DetectEpoch(
        epoch=len(state.records) + 1,
        step=state.step,
        train_loss=state.loss_sum / plan.steps_per_epoch,
        lr=plan.learning_rate(state.step - 1),
        ap=summary.get("ap"),
        ap50=summary.get("ap50"),
        seconds=round(state.seconds, 3),
        images_per_second=round(images / max(state.seconds, 1e-9), 2),
    )
    state.records.append(record)
    state.loss_sum = state.seconds = 0.0
    return record


def measure(
    detector: nn.Module, split: DetectionSplit, plan: DetectPlan, pause: Callable[[], None]
) -> tuple[DetectionScore, list[Detection]]:
    """The average precision of a detector on a split, and the detections it comes from."""
    found = find_all(detector, split, plan.device, plan.batch_size, pause)
    return score_detections(split, found), found


def _score_epoch(
    state: DetectState, plan: DetectPlan, split: DetectionSplit, pause: Callable[[], None]
) -> tuple[DetectionScore, list[Detection]] | None:
    """Score if this epoch is one of those to score, or the last."""
    epoch, every = len(state.records) + 1, plan.config.score_every
    if epoch < plan.config.epochs and (not every or epoch % every):
        return None
    return measure(state.detector, split, plan, pause)


@contextlib.contextmanager
def _saved_on_fault(state: DetectState, store: CheckpointStore) -> Iterator[None]:
    """Pictures are read between steps, where the state is whole: one that turns out to be at fault costs no step."""
    try:
        yield
    except (CorruptFileError, InputError) as error:
        store.save(state.to_payload())
        raise type(error)(
            error.message,
            "nascli detect --check names all such pictures; the state is saved: repair it, then go on with "
            f"nascli detect --resume {store.folder}",
        ) from error


def _diverged(what: str, step: int, entries: Sequence[AnnotatedImage]) -> DivergedError:
    ids = ", ".join(str(entry.id) for entry in entries)
    return DivergedError(
        f"training diverged: {what} at step {step + 1}, on the images with ids {ids}",
        "Lower train.lr, lengthen train.warmup_steps or lower train.clip_norm; if it is always the same image, look at "
        "its boxes",
    )
