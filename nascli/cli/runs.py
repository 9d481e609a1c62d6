"""`nascli runs`: the runs in a folder."""

from pathlib import Path

from nascli.cli.console import Terminal
from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.runs import RunSummary, list_runs
from nascli.units import format_duration

FOLDER = Setting[Path | None]("folder", "A folder of runs; by default $NASCLI_RUNS or runs.", metavar="DIR")


@command("runs", [FOLDER, JSON], examples=["nascli runs", "nascli runs demo --json"])
def run(call: Call) -> None:
    """List runs: what each reached, how long it took, and where its files are."""
    terminal = call.terminal()
    found = list_runs(call[FOLDER] or runs_folder())
    for each in found:
        _show(terminal, each)
    terminal.result({"runs": [vars(each) | {"files": [str(file) for file in each.files]} for each in found]})


def _show(terminal: Terminal, run: RunSummary) -> None:
    from rich.text import Text

    color = {"complete": "green", "failed": "red", "damaged": "red"}.get(run.status, "yellow")
    time = "" if run.seconds is None else f", {format_duration(run.seconds)}"
    terminal.show(Text.assemble((f"{run.command:7}", "bold"), f" {run.path}  ", (run.status, color), time))
    if run.reached:
        terminal.show(Text(f"        {run.reached}", "bold cyan"))
    for file in run.files:
        terminal.show(f"        {file}")
