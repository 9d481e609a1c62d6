"""`nascli status`: how far runs are, from their files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.errors import InputError
from nascli.progress import PROGRESS
from nascli.text import printable, quote_command
from nascli.units import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from nascli.report.run_status import RunStatus

RECENT = 5
"""Runs shown without RUN, besides those that are running."""

OLD_SIGN = 60.0
"""Seconds after which it is said when a run last wrote."""

RUN = Setting[Path | None](
    "run", "A run, a folder of runs, or latest; by default what is running, and what ended last.", metavar="RUN"
)
WATCH = Setting[bool]("--watch", "Show it anew every few seconds until the run ends, or Ctrl-C.", False)
INTERVAL = Setting[float]("--interval", "Seconds between two looks of --watch.", 2.0, min=0.1, metavar="X")

NO_RUNS = "Runs are made by nascli search, train and detect"
COLORS = {"running": "yellow", "complete": "green", "silent": "red", "failed": "red", "killed": "red", "damaged": "red"}
"""Those of the other states are yellow."""


@command(
    "status",
    [RUN, WATCH, INTERVAL, JSON],
    examples=[
        "nascli status",
        "nascli status runs/train/latest --watch",
        "nascli status latest --json",
    ],
)
def run(call: Call) -> None:
    """Show how far runs are: progress, speed, time left, the best so far.

    It reads the runs' files and writes none, so it works from another terminal, and on another machine with the same
    disk.
    """
    terminal, given = call.terminal(), call[RUN]
    if call[WATCH] and terminal.as_json:
        raise InputError("--watch is for a terminal, --json for one answer", "Leave one of them out", field="--watch")
    look = _choose(given)
    if call[WATCH]:
        _watch(terminal, look, call[INTERVAL])
        return
    found = look()
    for each in found:
        terminal.draw(_render(each, bar=terminal.results.is_terminal))
    terminal.result({"runs": [each.to_dict() for each in found]})


def _choose(given: Path | None) -> "Callable[[], list[RunStatus]]":
    """The function that reads the status of the runs that are asked for."""
    from nascli.report.run_list import find_runs
    from nascli.report.run_status import read_status

    folder = given or runs_folder()
    if given is not None and str(given) == "latest" and not given.exists():
        newest = max(find_runs(runs_folder()), key=lambda path: (path / "run.json").stat().st_mtime, default=None)
        if newest is None:
            raise InputError(f"{runs_folder()} holds no run", NO_RUNS, file=runs_folder())
        folder = newest
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", NO_RUNS, file=folder)
    if (folder / "run.json").is_file() or (folder / PROGRESS).is_file():
        return lambda: [read_status(folder)]
    if not any(find_runs(folder)):
        raise InputError(f"{folder} holds no run", NO_RUNS, file=folder)
    return lambda: _select(list(map(read_status, find_runs(folder))))


def _select(found: "Sequence[RunStatus]") -> "list[RunStatus]":
    """Those that are running, and the few that began last; the newest at the end."""
    ordered = sorted(found, key=lambda each: (each.lives, each.started))
    living = sum(each.lives for each in ordered)
    return ordered[-(living + RECENT) :]


def _watch(terminal: Terminal, look: "Callable[[], list[RunStatus]]", interval: float) -> None:
    """Show the runs anew until none of them is running, or Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    screen = terminal.results
    try:
        with Live(console=screen, auto_refresh=False, vertical_overflow="visible") as live:
            while True:
                found = look()
                live.update(Group(*(_render(each, bar=screen.is_terminal) for each in found)), refresh=True)
                if not any(each.lives for each in found):
                    return
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def _render(status: "RunStatus", *, bar: bool) -> "RenderableType":
    """A run in a few lines."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from nascli.report.run_status import STOPPED

    lines: list[RenderableType] = [_head(status)]
    if status.lives and status.done is not None and status.total:
        row = Table.grid(padding=(0, 2))
        drawn = [ProgressBar(total=status.total, completed=status.done, width=20)] if bar else []
        row.add_row(" " * 6, *drawn, Text(_describe_progress(status)))
        lines.append(row)
    elif status.done is not None and status.state in STOPPED:
        lines.append(Text(f"        {_describe_progress(status)}"))
    for text, style in _details(status):
        lines.append(Text(f"        {printable(text)}", style))
    return Group(*lines)


def _head(status: "RunStatus") -> "Text":
    from rich.text import Text

    seconds = "" if status.seconds is None else f", {format_duration(status.seconds)}"
    sign = status.last_sign or 0.0
    quiet = f", no sign for {format_duration(sign)}" if status.lives and sign > OLD_SIGN else ""
    where = f" on {printable(status.host)}" if status.state == "silent" else ""
    state = (f"{status.state}{where}", COLORS.get(status.state, "yellow"))
    return Text.assemble((f"{status.command:7}", "bold"), f" {printable(status.path)}  ", state, f"{seconds}{quiet}")


def _describe_progress(status: "RunStatus") -> str:
    """Counts, speed and time left in words."""
    done, total = status.done or 0, status.total
    parts = [f"{done / total:.0%}"] if total else []
    parts.append(f"{status.unit[:-1]} {done:,}" + (f"/{total:,}" if total else ""))
    parts += [f"epoch {status.epoch}/{status.epochs}"] if status.epochs else []
    if not status.lives:
        return "  ".join(parts)
    parts += [f"about {format_duration(status.seconds_left)} left"] if status.seconds_left else []
    parts += [status.phase] if status.phase not in ("training", "searching", "") else []
    parts += [f"{status.images_per_second:,.0f} images/s"] if status.images_per_second else []
    if status.pace and status.unit != "steps":
        per_second = status.pace >= 1
        parts.append(
            f"{status.pace if per_second else status.pace * 60:,.1f} {status.unit}/{'s' if per_second else 'min'}"
        )
    parts += [f"loss {status.loss:.4f}"] if status.loss else []
    return "  ".join(parts)


def _details(status: "RunStatus") -> list[tuple[str, str]]:
    """The results so far or in the end, the trials that run, and the reason why it stopped."""
    lines = []
    if status.trials:
        counts = [f"{number} {word}" for word, number in status.trials.items() if word != "running" and number]
        lines.append((", ".join(counts), "dim"))
        running = [f"trial {number} ({format_duration(since)})" for number, since in status.trials["running"].items()]
        lines.append(("training " + ", ".join(running) if running and status.lives else "", "dim"))
    if status.reached:
        lines.append((status.reached, "bold cyan"))
    elif status.best is not None:
        percent = "top-1" in status.best_is or "accuracy" in status.best_is
        value = f"{status.best:.2%}" if percent else f"{status.best:.4g}"
        at = f"{'trial' if status.command == 'search' else 'epoch'} {status.best_at}"
        lines.append((f"best {status.best_is} so far {value} ({at})", "bold cyan"))
    if status.error:
        lines.append((status.error, "red"))
    if status.state == "killed":
        command = quote_command(status.resume) or "the command that began it"
        lines.append((f"it ended without a word; {command} resumes it", ""))
    return [(text, style) for text, style in lines if text]
