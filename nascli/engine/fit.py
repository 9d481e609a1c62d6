"""A training from its first step, or from its last checkpoint, to its end: the one loop of every task.

No random number depends on a state that would have to be saved, so a resumed training makes the same steps as one that
was never stopped; on one CPU type with one number of threads the weights are equal bit for bit.

n processes with `grad_accum_steps` = a make the steps, to rounding, of one process with `grad_accum_steps` = n a: the
same micro-batches, random numbers and running statistics. So a training may be resumed by another number of processes
that divides the number of micro-batches.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import check_precision, deterministic_kernels, fork_rng
from nascli.engine.graphs import Step, choose_step
from nascli.engine.launch import resume_command
from nascli.engine.meters import EpochRecord, Metrics
from nascli.engine.task import Batch, Run, Task
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import CorruptFileError, InputError, Interrupted, LostProcessError
from nascli.progress import ProgressFile
from nascli.seeding import derive_seed
from nascli.text import quote


def fit(task: Task[Batch], seed: int, run: Run, store: CheckpointStore | None = None) -> TrainState:
    """Train a task to its end, or as far as the run goes; its modules get the weights measured last, or measured best.

    The caller's random state is left as it was.

    Args:
        task: Its modules are trained in place, and left on `run.device`; with a moving average they get its weights.
        seed: Everything random follows from it, but for the initial weights, which are the caller's.
        store: Keeps checkpoints and metrics. Training resumes from its newest checkpoint, if any; else one is written
            before the first step. Only rank 0 passes one.

    Raises:
        DivergedError: A loss, a gradient or a weight is not finite; the checkpoint before it stays.
        CorruptFileError: An image cannot be read; the state is saved.
        InputError: The same, or the processes cannot share the batches.
        Interrupted: `run.stop` was requested; the state is saved.
        torch.OutOfMemoryError: The smallest micro-batches are too large.
    """
    check_precision(task.plan.config, run.device)
    state = start_state(task, run, None if store is None else store.folder)
    _restore(state, task, run, store)
    boundary = _Boundary(state, task, run, store, ProgressFile(store.folder, "steps") if store is not None else None)
    boundary.begin()
    step = choose_step(state, task, run)
    epochs = task.plan.config.epochs
    last = epochs if run.until is None else min(run.until, epochs)
    exact = deterministic_kernels(run.device) if task.plan.config.deterministic else nullcontext()
    with fork_rng(run.device), exact:
        while len(state.records) < last and not state.best.is_over(len(state.records)):
            with task.training(), boundary.save_on_error():
                train_epoch(state, task, seed, run, len(state.records), boundary.after_step, step)
            state.check_finite()
            since = time.monotonic()
            with boundary.save_on_error():
                metrics = task.evaluate(state.evaluated, len(state.records) + 1, boundary.pause)
            record = _close_epoch(state, task, metrics, time.monotonic() - since)
            state.best.add(record.epoch, task.score(metrics), state.evaluated)
            if store is not None:
                store.append_metrics(record.to_dict())
                store.save(state.to_payload())
            state.best.forget_others()
            if run.on_epoch is not None:
                run.on_epoch(record)
    boundary.end()
    _leave_weights(state, task, run)
    return state


def _leave_weights(state: TrainState, task: Task[Batch], run: Run) -> None:
    """Give the modules the weights that the training ends with: the averaged ones, or those of the best epoch."""
    last, best = len(state.records), state.best.best
    state.kept = best if task.keep.keep_best and best else last
    if state.ema is not None:
        state.modules.load_state_dict(state.ema.module.state_dict())
    if task.keep.keep_best and best:
        state.best.take_best(state.modules)
    if run.log is not None and last < task.plan.config.epochs:
        run.log(f"stopped after epoch {last} of {task.plan.config.epochs}: none was better than epoch {best}")
    if run.log is not None and state.kept < last:
        run.log(f"the weights are those of epoch {state.kept}, the best of {last}")


def train_epoch(
    state: TrainState,
    task: Task[Batch],
    seed: int,
    run: Run,
    epoch: int,
    after_step: Callable[[], None],
    step: Step[Batch],
) -> None:
    """The steps of an epoch, from where `state.step` stands in it to its end.

    Args:
        epoch: Counted from 0.
        after_step: Called after each step, where the state is whole; may raise to stop.
        step: Makes the steps; from `choose_step`.
    """
    plan, learning_rate = task.plan, task.plan.learning_rate
    state.modules.train()
    since = time.monotonic()
    batches = task.batches(epoch, state.step - epoch * plan.steps_per_epoch)
    for batch in run.dist.lockstep(batches):
        assert batch is not None  # each process has as many
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step) * group["lr_factor"]
        task.begin_step(state.step)
        loss = step(batch, derive_seed(seed, "step", state.step))
        state.step += 1
        state.meter.add(state.step, plan.batch_size, loss)
        state.meter.seconds += time.monotonic() - since
        since = time.monotonic()
        after_step()
    state.meter.read()


@dataclass(frozen=True)
class _Boundary:
    """Actions where the state is whole: between two steps, and between two batches of an evaluation."""

    state: TrainState
    task: Task[Any]
    run: Run
    store: CheckpointStore | None
    progress: ProgressFile | None = None

    def begin(self) -> None:
        """Write where this session begins."""
        if self.progress is not None:
            self.progress.begin(self.state.step, self.task.plan.steps, "training", **self._describe())

    def end(self) -> None:
        """Write that all steps are made."""
        if self.progress is not None:
            self.progress.write(self.state.step, self.task.plan.steps, "finishing", **self._describe())

    def after_step(self) -> None:
        if self.run.on_step is not None:
            self.run.on_step(self.state.step, self.state.meter.mean)
        self._save_or_leave("training")

    def pause(self) -> None:
        """Save and leave if asked to stop; save if it is time. For the batches of an evaluation."""
        self._save_or_leave("evaluating")

    def _describe(self) -> dict[str, object]:
        state, plan = self.state, self.task.plan
        speed = state.meter.images / state.meter.seconds if state.meter.seconds else None
        epoch = min(len(state.records) + 1, plan.config.epochs)
        return {"epoch": epoch, "epochs": plan.config.epochs, "loss": state.meter.mean, "images_per_second": speed}

    def _save_or_leave(self, phase: str) -> None:
        if self.progress is not None and self.progress.is_due:
            self.progress.write(self.state.step, self.task.plan.steps, phase, **self._describe())
        state, stop = self.state, self.run.stop
        stopping = self.run.dist.any(stop is not None and stop.requested)
        if self.store is not None and (stopping or self.store.is_due(state.step, self.task.plan.config)):
            self.store.save(state.to_payload())
        if stopping:
            where = f"stopped after step {state.step} of {self.task.plan.steps}"
            if self.store is None:
                raise Interrupted(where)
            raise Interrupted(f"{where}; the state is saved", f"Resume with: {_command(self.run, self.store)}")

    @contextmanager
    def save_on_error(self) -> Iterator[None]:
        """Save before an error of reading leaves: images are read between steps, where the state is whole."""
        try:
            yield
        except (CorruptFileError, InputError, LostProcessError) as error:
            if self.store is None:
                raise
            self.store.save(self.state.to_payload())
            hint = f"{error.hint}; the state is saved, resume with: {_command(self.run, self.store)}"
            raise error.reword(error.message, hint.removeprefix("; ")) from error


def leave_if_stopped(run: Run, store: CheckpointStore | None) -> None:
    """Raise `Interrupted` if asked to stop; for the batches of a measuring that follows the last checkpoint."""
    if run.dist.any(run.stop is not None and run.stop.requested):
        raise Interrupted("stopped while measuring", f"Resume with: {_command(run, store)}" if store else "")


def _command(run: Run, store: CheckpointStore) -> str:
    return resume_command(run.dist, run.device, f"{store.command} --resume {quote(store.folder)}")


def _restore(state: TrainState, task: Task[Batch], run: Run, store: CheckpointStore | None) -> None:
    """Resume from the newest checkpoint, or check a new run and write its first."""
    payload = run.dist.broadcast_from_main(lambda: store.load() if store is not None else None)
    if payload is None:
        task.plan.check_micro_batches()
    else:
        state.load_payload(payload)
        state.best.restore({epoch: tuple(score) for epoch, score in payload["best"].items()}, run.dist)
        count = state.micro_batches
        run.dist.check_shares(count, count if task.plan.batch_size % count == 0 else 1)
    task.micro_batches = state.micro_batches
    if store is not None:
        store.restore_metrics([record.to_dict() for record in state.records])
        if payload is None:
            store.save(state.to_payload())


def _close_epoch(state: TrainState, task: Task[Batch], metrics: Metrics, seconds: float) -> EpochRecord:
    meter = state.meter
    record = EpochRecord(
        epoch=len(state.records) + 1,
        step=state.step,
        train_loss=meter.mean,
        lr=task.plan.learning_rate(state.step - 1),
        metrics=metrics,
        seconds=round(meter.seconds + seconds, 3),
        images_per_second=round(meter.images / max(meter.seconds, 1e-9), 1),
        train_top1=meter.top1,
    )
    state.records.append(record)
    meter.clear()
    return record
