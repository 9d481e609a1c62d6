"""Progress of a training or of a pass over images: a bar on a terminal, else lines; both on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from nascli.cli.console import Terminal
from nascli.units import format_duration

if TYPE_CHECKING:
    from nascli.engine.meters import EpochRecord

P = ParamSpec("P")


def call_all(*functions: Callable[P, None]) -> Callable[P, None]:
    """A function that calls each of these with its arguments."""

    def call(*arguments: P.args, **named: P.kwargs) -> None:
        for each in functions:
            each(*arguments, **named)

    return call


class TrainProgress:
    """Shows the steps and epochs of one training; a context manager.

    Args:
        steps: Optimizer steps in all.
        batch_size: Images per step, of all processes together.
    """

    def __init__(self, terminal: Terminal, *, epochs: int, steps: int, batch_size: int) -> None:
        self._terminal = terminal
        self._epochs = epochs
        self._steps_per_epoch = max(1, steps // epochs)
        self._batch_size = batch_size
        self._bar = _make_bar(
            terminal,
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} images/s"),
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
        epoch = (step - 1) // self._steps_per_epoch + 1
        self._bar.update(self._task, completed=step, epoch=epoch, loss=loss, rate=speed * self._batch_size)

    def on_epoch(self, record: "EpochRecord") -> None:
        """A line that stays."""
        width = len(str(self._epochs))
        named = "" if record.train_top1 is None else f" ({record.train_top1:.2%})"
        self._terminal.note(
            f"epoch {record.epoch:>{width}}/{self._epochs}  train loss {record.train_loss:.4f}{named}  "
            f"val loss {record.metrics['loss']:.4f}  top-1 {record.metrics['top1']:.2%}  lr {record.lr:.4f}  "
            f"{record.images_per_second:.0f} images/s  {format_duration(record.seconds)}"
        )


@contextmanager
def show_steps(terminal: Terminal, label: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar over the steps of a training without epochs; without a terminal a line per tenth of it.

    Yields:
        The function to call after each step: steps made, steps in all, mean loss.
    """
    with _count_up(terminal, label, "{task.percentage:>3.0f} %  loss {task.fields[loss]:.3f}", loss=0.0) as advance:
        yield lambda step, steps, loss: advance(step, steps, f"step {step}/{steps}, loss {loss:.3f}", loss=loss)


@contextmanager
def show_images(terminal: Terminal, label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over images that are read once; without a terminal a line per tenth of them.

    Yields:
        The function to call after each image: images done, images in all.
    """
    counts = "{task.completed:,.0f} of {task.total:,.0f} images  {task.fields[rate]:.0f} images/s"
    with _count_up(terminal, label, counts) as advance:
        yield lambda done, images: advance(done, images, f"{done:,} of {images:,} images")


@contextmanager
def show_measuring(terminal: Terminal, total: int) -> Iterator[Callable[[], None]]:
    """A bar over layers that are measured; yields the function to call after each."""
    done = 0
    with _count_up(terminal, "measuring", "{task.completed:,.0f} of {task.total:,.0f} layers") as advance:

        def on_layer() -> None:
            nonlocal done
            done += 1
            advance(done, total, f"{done:,} of {total:,} layers")

        yield on_layer


@contextmanager
def _count_up(terminal: Terminal, label: str, counts: str, **fields: Any) -> Iterator[Callable[..., None]]:  # noqa: ANN401 - rich has any fields
    """A bar with counts; yields the function to call with what is done, the whole, and the line without a terminal."""
    with _make_bar(terminal, TextColumn(label), BarColumn(), TextColumn(counts)) as bar:
        task = bar.add_task(label, total=1, visible=False, rate=0.0, **fields)

        def advance(done: int, total: int, line: str, **fields: Any) -> None:  # noqa: ANN401
            rate = bar.tasks[task].speed or 0.0
            bar.update(task, total=total, completed=done, visible=True, rate=rate, **fields)
            if not terminal.notes.is_terminal and done % max(1, total // 10) == 0:
                terminal.note(f"{label}: {line}")

        yield advance


def _make_bar(terminal: Terminal, *columns: ProgressColumn) -> Progress:
    return Progress(
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True),
        console=terminal.notes,
        disable=not terminal.notes.is_terminal,
        transient=True,
    )
