"""`nascli runs`: the runs in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nascli.cli.console import Terminal
from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.cli.status import COLORS, NO_RUNS
from nascli.errors import InputError
from nascli.report.run_list import find_runs, summarize_run
from nascli.units import format_duration

FOLDER = Setting[Path | None]("folder", "A folder of runs; by default $NASCLI_RUNS or runs.", metavar="DIR")


@command("runs", [FOLDER, JSON], examples=["nascli runs", "nascli runs demo --json"])
def run(call: Call) -> None:
    """List runs: what each reached, how long it took, and where its files are."""
    terminal, folder = call.terminal(), call[FOLDER] or runs_folder()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", NO_RUNS)
    found = sorted(map(summarize_run, find_runs(folder)), key=lambda each: str(each["started"]))
    if not found:
        raise InputError(f"{folder} holds no run", NO_RUNS)
    for each in found:
        _show(terminal, each)
    terminal.result({"runs": found})


def _show(terminal: Terminal, summary: Mapping[str, Any]) -> None:
    from rich.text import Text

    status, seconds = summary["status"], summary["seconds"]
    color = COLORS.get(status, "yellow")
    time = "" if seconds is None else f", {format_duration(seconds)}"
    terminal.show(Text.assemble((f"{summary['command']:7}", "bold"), f" {summary['path']}  ", (status, color), time))
    if summary["reached"]:
        terminal.show(Text(f"        {summary['reached']}", "bold cyan"))
    for file in summary["files"]:
        terminal.show(f"        {file}")
