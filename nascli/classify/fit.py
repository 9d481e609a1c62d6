"""Training a network from its first step, or from its last checkpoint, to its end."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nascli.classify.loop import Note, Plan, train_epoch
from nascli.classify.metrics import EpochRecord, Evaluation, evaluate
from nascli.classify.state import TrainState, start_state
from nascli.config import DataConfig, TrainConfig
from nascli.data.dataset import ImageData
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.dist import SINGLE_PROCESS, DistContext, command_again
from nascli.errors import Interrupted
from nascli.models.interface import ImageClassifier
from nascli.signals import StopRequest

__all__ = ["EpochRecord", "Evaluation", "FitResult", "evaluate", "fit"]


@dataclass(frozen=True)
class FitResult:
    """A training that reached its end.

    Args:
        evaluation: On the test split, after the last epoch, with the weights that the network is left with.
        train_loss: Mean of what was minimised in the last epoch.
        epochs: Epochs made.
        seconds: Training and evaluation, over all the processes that took part where it was resumed.
    """

    evaluation: Evaluation
    train_loss: float
    epochs: int
    seconds: float


def fit(
    network: ImageClassifier,
    data: ImageData,
    config: TrainConfig,
    *,
    augmentation: DataConfig,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    store: CheckpointStore | None = None,
    stop: StopRequest | None = None,
    note: Note | None = None,
    dist: DistContext = SINGLE_PROCESS,
) -> FitResult:
    """Train on `data.train`, measure on `data.val` after every epoch.

    Nothing is drawn from a state that would have to be saved, so a resumed training makes the same steps as one that
    was never stopped; on one CPU type with one number of threads the weights are equal bit for bit. The caller's own
    random state is left as it was.

    n processes with `grad_accum_steps` = a make the steps, to rounding, of one process with `grad_accum_steps` = n a:
    the same micro-batches, random numbers and running statistics. So a training may be resumed by another number of
    processes that divides the number of micro-batches. Each process measures its share of the test images.

    Args:
        network: Trained in place; left on `device`. With a moving average it is left with the averaged weights.
        data: Training and test split.
        config: The recipe's `[train]`.
        augmentation: The recipe's `[data]`.
        seed: Everything random follows from it (the initial weights are the caller's).
        device: Where to compute.
        on_epoch: Told of each epoch that ends.
        on_step: Told after each step: steps made, mean loss in the epoch so far.
        store: Where to keep checkpoints and metrics; what it holds is gone on from. Of several processes only the first
            has one.
        stop: Looked at after each step; when requested on any process, a checkpoint is written and `Interrupted` raised
            on all.
        note: Told when a batch has to be computed in smaller parts, memory having run out; without it that is an error.
        dist: The processes that train; all call this with equal arguments.

    Raises:
        DivergedError: A loss or a weight is not finite; the message names the step, and the checkpoint before it stays.
        InputError: There are fewer than two training images, or the processes cannot share what was begun.
        Interrupted: `stop` was requested.
    """
    plan = Plan.of(data, config, augmentation, seed, device, dist)
    state = start_state(network, config, device, dist)
    _restore(state, store)
    train, test = data.train.to(device), dist.share_of(data.val).to(device)
    boundary = _Boundary(state, plan, store, stop, on_step)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while len(state.records) < config.epochs:
            train_epoch(state, plan, train, boundary.after_step, note)
            state.check_finite()
            since = time.monotonic()
            evaluation = evaluate(
                state.evaluated,
                test,
                normalizer=plan.normalizer,
                device=device,
                on_batch=boundary.after_batch,
                note=note,
                dist=dist,
            )
            record = _close_epoch(state, plan, evaluation, time.monotonic() - since)
            if store is not None:
                store.append_metrics(record)
                store.save(state.to_payload())
            if on_epoch is not None:
                on_epoch(record)
    if state.average is not None:
        network.load_state_dict(state.average.module.state_dict())
    network.set_drop_path(0.0)
    return _result(state)


@dataclass(frozen=True)
class _Boundary:
    """What happens where the state is whole: between two steps, and between two batches of an evaluation."""

    state: TrainState
    plan: Plan
    store: CheckpointStore | None
    stop: StopRequest | None
    on_step: Callable[[int, float], None] | None

    def after_step(self) -> None:
        if self.on_step is not None:
            self.on_step(self.state.step, self.state.tally.mean)
        self.after_batch()

    def after_batch(self, seen: int = 0) -> None:
        """Save and leave if asked to stop; save if it is time."""
        state, config = self.state, self.plan.config
        stopping = self.plan.dist.any(self.stop is not None and self.stop.requested)
        if self.store is not None:
            minutes, steps = config.checkpoint_minutes, config.checkpoint_steps
            self.store.save_if_due(state.to_payload, state.step, minutes=minutes, steps=steps, now=stopping)
        if stopping:
            raise _interrupted(self.state, self.plan, self.store)


def _restore(state: TrainState, store: CheckpointStore | None) -> None:
    dist = state.dist
    payload = dist.broadcast_from_main(lambda: store.load() if store is not None else None)
    if payload is not None:
        state.load_payload(payload)
    dist.check_shares(state.parts, state.parts)
    if store is not None:
        store.restore_metrics(state.records)


def _close_epoch(state: TrainState, plan: Plan, evaluation: Evaluation, seconds: float) -> EpochRecord:
    tally = state.tally
    record = EpochRecord(
        epoch=len(state.records) + 1,
        step=state.step,
        train_loss=tally.mean,
        lr=plan.learning_rate(state.step - 1),
        top1=evaluation.top1,
        top5=evaluation.top5,
        loss=evaluation.loss,
        images=evaluation.images,
        seconds=round(tally.seconds + seconds, 3),
        images_per_second=round(tally.images / max(tally.seconds, 1e-9), 1),
    )
    state.records.append(record)
    tally.total, tally.images, tally.seconds = 0.0, 0, 0.0
    return record


def _result(state: TrainState) -> FitResult:
    last = state.records[-1]
    return FitResult(
        evaluation=Evaluation(last.top1, last.top5, last.loss, last.images),
        train_loss=last.train_loss,
        epochs=last.epoch,
        seconds=round(sum(record.seconds for record in state.records), 3),
    )


def _interrupted(state: TrainState, plan: Plan, store: CheckpointStore | None) -> Interrupted:
    where = f"stopped after step {state.step} of {plan.steps}"
    if store is None:
        return Interrupted(where)
    command = command_again(plan.dist, plan.device, f"train --resume {shlex.quote(str(store.folder))}")
    return Interrupted(f"{where}; the state is saved", f"Resume with: {command}")
