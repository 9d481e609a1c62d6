"""How a training is watched: a bar on a terminal, else a line an epoch; both on stderr."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nascli.cli.console import Terminal, duration

if TYPE_CHECKING:
    from nascli.engine.meters import EpochRecord


class Watcher(Protocol):
    """Told of a training, while it is entered as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def on_step(self, step: int, loss: float) -> None:
        """Steps made, from 1, and the mean loss in the epoch so far."""

    def on_epoch(self, record: "EpochRecord") -> None:
        """An epoch that ended."""


class Watchers:
    """Several that watch one training, as one; entered and left together."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        for each in self._watchers:
            self._entered.enter_context(each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, trace)

    def on_step(self, step: int, loss: float) -> None:
        """Tell each of a step."""
        for each in self._watchers:
            each.on_step(step, loss)

    def on_epoch(self, record: "EpochRecord") -> None:
        """Tell each of an epoch."""
        for each in self._watchers:
            each.on_epoch(record)


class TrainProgress:
    """Shows the steps and epochs of one training; a context manager.

    Args:
        terminal: Where it prints.
        epochs: Of the training.
        steps: Of the training.
        batch_size: Images a step.
    """

    def __init__(self, terminal: Terminal, *, epochs: int, steps: int, batch_size: int) -> None:
        self._terminal = terminal
        self._epochs = epochs
        self._steps_per_epoch = max(1, steps // epochs)
        self._batch_size = batch_size
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} images/s"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=terminal.notes,
            disable=not terminal.notes.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=steps, epoch=1, epochs=epochs, loss=0.0, rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_step(self, step: int, loss: float) -> None:
        """Move the bar to `step`, which is counted from 1."""
        speed = self._bar.tasks[self._task].speed or 0.0
        self._bar.update(
            self._task,
            completed=step,
            epoch=(step - 1) // self._steps_per_epoch + 1,
            loss=loss,
            rate=speed * self._batch_size,
        )

    def on_epoch(self, record: "EpochRecord") -> None:
        """A line that stays."""
        width = len(str(self._epochs))
        self._terminal.note(
            f"epoch {record.epoch:>{width}}/{self._epochs}  train loss {record.train_loss:.4f}  "
            f"test loss {record.metrics['loss']:.4f}  top-1 {record.metrics['top1']:.2%}  lr {record.lr:.4f}  "
            f"{record.images_per_second:.0f} images/s  {duration(record.seconds)}"
        )


@contextmanager
def steps_shown(terminal: Terminal, what: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar over the steps of a training without epochs to speak of; without a terminal a line every tenth of it.

    Yields:
        What is to be told after each step: steps made, steps in all, mean loss.
    """
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f} %  loss {task.fields[loss]:.3f}"))
    shown = terminal.notes.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=terminal.notes, disable=not shown, transient=True) as bar:
        task = bar.add_task(what, total=None, loss=0.0, visible=False)

        def on_step(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, loss=loss, visible=True)
            if not shown and step % max(1, steps // 10) == 0:
                terminal.note(f"{what}: step {step}/{steps}, loss {loss:.3f}")

        yield on_step


@contextmanager
def images_shown(terminal: Terminal, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over images that are gone through once; without a terminal a line every tenth of them.

    Yields:
        What is to be told after each image: how many are done, how many there are.
    """
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f} images"))
    rate = TextColumn("{task.fields[rate]:.0f} images/s")
    shown = terminal.notes.is_terminal
    with Progress(
        *columns, rate, TimeRemainingColumn(), console=terminal.notes, disable=not shown, transient=True
    ) as bar:
        task = bar.add_task(what, total=1, rate=0.0, visible=False)

        def on_image(done: int, images: int) -> None:
            bar.update(task, completed=done, total=images, rate=bar.tasks[task].speed or 0.0, visible=True)
            if not shown and done % max(1, images // 10) == 0:
                terminal.note(f"{what}: {done:,} of {images:,} images")

        yield on_image
