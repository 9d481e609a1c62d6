"""Event files of a training for TensorBoard."""

import itertools
import os
import socket
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self

from nascli.engine.meters import EpochRecord
from nascli.engine.schedules import Schedule
from nascli.errors import CannotWriteError, InputError
from nascli.files import make_inner_folder, open_append, writing

EVENTS_FOLDER = "tensorboard"
_EVERY = 20
"""Steps between two points of the curves inside an epoch, in which at least one is."""


def import_tensorboard() -> tuple[Any, Any, Any]:
    """TensorBoard's events, its summaries, and what writes them; InputError where it is not installed."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise InputError(
            f"--tensorboard needs {error.name}, which is not installed", 'pip install "nascli[tensorboard]"'
        ) from error
    return event_pb2, summary_pb2, RecordWriter


class TensorBoardWriter:
    """Writes the figures of one training, by its optimizer steps; a context manager.

    Every few steps `train/loss` (the mean in the epoch so far) and `train/lr`; after each epoch its
    metrics (`val/top1`, ...), `train/epoch_loss` and `train/images_per_second`. A training that resumes from a
    checkpoint hides what was written of later steps before.

    Args:
        folder: Holds the event files, also those from before the training was resumed.
    """

    def __init__(self, folder: Path, learning_rate: Schedule, steps_per_epoch: int) -> None:
        self._folder = folder
        self._learning_rate = learning_rate
        self._every = min(_EVERY, steps_per_epoch)
        self._file: IO[bytes] | None = None
        self._events, self._summaries, self._writer = import_tensorboard()

    def __enter__(self) -> Self:
        make_inner_folder(self._folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if self._file is not None:
            with suppress(CannotWriteError) if kind else nullcontext(), writing(self._folder):
                self._file.close()

    def on_step(self, step: int, loss: float) -> None:
        """Count the step, from 1, at which the mean loss of the epoch so far is `loss`."""
        self._begin(step)
        if step % self._every == 0:
            self._write(step, {"train/loss": loss, "train/lr": self._learning_rate(step - 1)})

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the figures of an epoch that ends."""
        self._begin(record.step + 1)
        self._write(record.step, record.figures())

    def _begin(self, step: int) -> None:
        """Begin a file, where there is none yet; `step` is the first that is not yet written for good."""
        if self._file is not None:
            return
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
        make_inner_folder(self._folder)  # it may be gone since
        paths = (self._folder / f"{name}.{number}" for number in itertools.count())
        with writing(self._folder):  # a file of its own for each run, though one may have begun in the same second
            self._file = open_append(next(path for path in paths if not os.path.lexists(path)))
        self._append(file_version="brain.Event:2")
        self._append(step=step, session_log=self._events.SessionLog(status=self._events.SessionLog.START))

    def _write(self, step: int, figures: dict[str, float]) -> None:
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._append(step=step, summary=self._summaries.Summary(value=values))

    def _append(self, **fields: object) -> None:
        """Write an event at once: what a checkpoint has is not written again after a kill."""
        assert self._file is not None
        with writing(self._folder):  # TensorBoard's own writer is a thread, which would end in a traceback
            event = self._events.Event(wall_time=time.time(), **fields)
            self._writer(self._file).write(event.SerializeToString())
            self._file.flush()
