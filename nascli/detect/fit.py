"""Training a detector from its first step, or from its last checkpoint, to its end."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nascli.data.detection.dataset import DetectionSplit
from nascli.detect.coco_eval import Detection, DetectionScore, score_detections
from nascli.detect.inference import detect_boxes
from nascli.detect.loop import train_epoch
from nascli.detect.plan import DetectPlan
from nascli.detect.state import DetectEpoch, DetectState, close_epoch
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.launch import resume_command
from nascli.errors import CorruptFileError, InputError, Interrupted
from nascli.signals import StopRequest


def fit_detector(
    state: DetectState,
    plan: DetectPlan,
    train: DetectionSplit,
    scored: DetectionSplit,
    *,
    store: CheckpointStore | None,
    stop: StopRequest,
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: Callable[[DetectEpoch], None] | None = None,
) -> tuple[DetectionScore, list[Detection]]:
    """Train from where `state` stands to the end, then score.

    n processes with `grad_accum_steps` = a make the steps, to rounding, of one process with `grad_accum_steps` = n a:
    the same micro-batches, random numbers and running statistics. So a training may be resumed by another number of
    processes that divides the number of micro-batches. Each finds boxes on its
    share of the images, the first scores them.

    Args:
        state: Changed in place; whatever checkpoint `store` holds replaces it first. With a moving average its detector
            is left with the averaged weights, which are the ones that are scored.
        plan: The unchanging numbers.
        train: The pictures to learn from.
        scored: The pictures whose average precision is measured.
        store: Keeps checkpoints and metrics. The first is written before the first step, so a run can be resumed from
            any moment on. Of several processes only the first has one.
        stop: Looked at after each step and each batch that is scored; when requested on any process, a checkpoint is
            written, and `Interrupted` raised on all.
        on_step: Told after each step: steps made, mean loss of the epoch so far.
        on_epoch: Told of each epoch that ends.

    Returns:
        The final score and the detections it was computed from.

    Raises:
        DivergedError: A loss or a gradient is not finite; the message names the step and the pictures.
        CorruptFileError: A picture cannot be decoded, though its header could be read; the state is saved.
        InputError: A picture was removed or replaced meanwhile, the state is saved; or the processes cannot share what
            was begun.
        Interrupted: `stop` was requested.
    """
    _restore(state, plan, store)
    plan = plan.in_parts(state.parts)
    if store is not None:
        store.restore_metrics([vars(record) for record in state.records])
    boundary = _Boundary(state, plan, store, stop, on_step)
    scores: tuple[DetectionScore, list[Detection]] | None = None
    with torch.random.fork_rng(devices=[plan.device] if plan.device.type == "cuda" else []):
        while len(state.records) < plan.config.epochs:
            with _saved_on_fault(state, plan, store):
                train_epoch(state, plan, train, boundary.after_step)
                scores = measure(state, scored, plan, boundary.pause) if _to_be_scored(state, plan) else None
            record = close_epoch(state, plan, scores[0].summary if scores else {})
            if store is not None:
                store.append_metrics(vars(record))
                store.save(state.to_payload())
            if on_epoch is not None:
                on_epoch(record)
    scores = scores or measure(state, scored, plan, boundary.pause)
    if state.average is not None:
        state.detector.load_state_dict(state.average.module.state_dict())
    return scores


def measure(
    state: DetectState, split: DetectionSplit, plan: DetectPlan, pause: Callable[[], None]
) -> tuple[DetectionScore, list[Detection]]:
    """The average precision of what is trained on a split, and the detections it comes from; on each process."""
    found = detect_boxes(state.scored, split, plan.device, plan.part_size, pause, plan.dist)
    return plan.dist.broadcast_from_main(lambda: score_detections(split, found)), found


@dataclass(frozen=True)
class _Boundary:
    """What happens where the state is whole: between two steps, and between two batches of a scoring."""

    state: DetectState
    plan: DetectPlan
    store: CheckpointStore | None
    stop: StopRequest
    on_step: Callable[[int, float], None] | None

    def after_step(self) -> None:
        state = self.state
        if self.on_step is not None:
            self.on_step(state.step, state.loss_sum / (state.step - len(state.records) * self.plan.steps_per_epoch))
        self.pause()

    def pause(self) -> None:
        """Save and leave if asked to stop; save if it is time."""
        state, config = self.state, self.plan.config
        stopping = self.plan.dist.any(self.stop.requested)
        if self.store is not None:
            minutes, steps = config.checkpoint_minutes, config.checkpoint_steps
            self.store.save_if_due(state.to_payload, state.step, minutes=minutes, steps=steps, now=stopping)
        if stopping:
            where = f"stopped after step {self.state.step} of {self.plan.steps}; the state is saved"
            raise Interrupted(where, f"Resume with: {_resumed_by(self.plan, self.store)}")


def _restore(state: DetectState, plan: DetectPlan, store: CheckpointStore | None) -> None:
    """Go on from the checkpoint, or write the first."""
    payload = plan.dist.broadcast_from_main(lambda: store.load() if store is not None else None)
    if payload is not None:
        state.load_payload(payload)
    elif store is not None:
        store.save(state.to_payload())


def _resumed_by(plan: DetectPlan, store: CheckpointStore | None) -> str:
    """The command that goes on; of several processes the first alone knows the folder."""
    folder = "..." if store is None else shlex.quote(str(store.folder))
    return resume_command(plan.dist, plan.device, f"detect --resume {folder}")


def _to_be_scored(state: DetectState, plan: DetectPlan) -> bool:
    """Whether the epoch that ends is one of those to score, or the last."""
    epoch, every = len(state.records) + 1, plan.config.eval_interval
    return epoch == plan.config.epochs or bool(every and epoch % every == 0)


@contextmanager
def _saved_on_fault(state: DetectState, plan: DetectPlan, store: CheckpointStore | None) -> Iterator[None]:
    """Pictures are read between steps, where the state is whole: one that turns out to be at fault costs no step."""
    try:
        yield
    except (CorruptFileError, InputError) as error:
        if store is not None:
            store.save(state.to_payload())
        raise type(error)(
            error.message,
            "nascli detect --check names all such pictures; the state is saved: repair it, then go on with "
            f"{_resumed_by(plan, store)}",
        ) from error
