"""Event files of a training for TensorBoard."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nascli.engine.meters import EpochRecord
from nascli.engine.schedules import Schedule
from nascli.errors import CannotWriteError, InputError
from nascli.files import writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS_FOLDER = "tensorboard"
_EVERY = 20
"""Steps between two points of the curves inside an epoch, in which at least one is."""


def check_tensorboard() -> None:
    """InputError where the package that writes event files is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--tensorboard needs {error.name}, which is not installed", 'pip install "nascli[tensorboard]"'
        ) from error


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
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)  # by it a resumed run knows that event files were asked for
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if self._writer is None:
            return
        with suppress(CannotWriteError) if kind else nullcontext(), writing(self._folder):
            self._writer.close()

    def on_step(self, step: int, loss: float) -> None:
        """Count the step, from 1, at which the mean loss of the epoch so far is `loss`."""
        with writing(self._folder):
            writer = self._open(step)
            if step % self._every == 0:
                _add(writer, step, {"train/loss": loss, "train/lr": self._learning_rate(step - 1)})

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the figures of an epoch that ends."""
        figures = {f"val/{name}": value for name, value in record.metrics.items() if value is not None}
        figures |= {"train/epoch_loss": record.train_loss, "train/images_per_second": record.images_per_second}
        with writing(self._folder):
            writer = self._open(record.step + 1)
            _add(writer, record.step, figures)
            writer.flush()

    def _open(self, step: int) -> "SummaryWriter":
        """The writer; made by the first call, where `step` is the first that is not yet written for good."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._folder.mkdir(exist_ok=True)  # in the run's folder, which is not made anew
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer


def _add(writer: "SummaryWriter", step: int, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        writer.add_scalar(name, value, step)
