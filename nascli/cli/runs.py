"""`nascli runs`: the runs in a folder."""

from pathlib import Path

from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.runs import RunSummary, list_runs
from nascli.units import format_duration

FOLDER = Setting[Path | None]("folder", "A folder of runs; by default $NASCLI_RUNS or runs.", metavar="DIR")


@command("runs", FOLDER, JSON, examples=["nascli runs", "nascli runs demo --json"])
def run(call: Call) -> None:
    """List runs: what each reached, how long it took, and where its files are."""
    terminal = call.terminal()
    found = list_runs(call[FOLDER] or runs_folder())
    for each in found:
        terminal.show(_describe(each))
    terminal.result({"runs": [vars(each) | {"files": [str(file) for file in each.files]} for each in found]})


def _describe(run: RunSummary) -> str:
    color = {"complete": "green", "failed": "red", "damaged": "red"}.get(run.status, "yellow")
    time = "" if run.seconds is None else f", {format_duration(run.seconds)}"
    lines = [f"[bold]{run.command:7}[/] {run.path}  [{color}]{run.status}[/]{time}"]
    lines += [f"        [bold cyan]{run.reached}[/]"] if run.reached else []
    lines += [f"        {file}" for file in run.files]
    return "\n".join(lines)
