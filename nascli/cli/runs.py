"""`nascli runs`: what lies in the folder of runs."""

from pathlib import Path
from typing import Annotated

import typer

from nascli.cli.console import Terminal, duration
from nascli.cli.options import JsonOption, runs_folder
from nascli.report.runs_list import RunSummary, list_runs

NAME = "runs"


def run(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A folder of runs; by default $NASCLI_RUNS or runs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List runs: what each reached, how long it took, and where its files lie.

    Examples:

      nascli runs

      nascli runs demo --json
    """
    terminal = Terminal(as_json=as_json)
    found = list_runs(folder or runs_folder())
    for each in found:
        terminal.show(_describe(each))
    terminal.result({"runs": [vars(each) | {"files": [str(file) for file in each.files]} for each in found]})


def _describe(run: RunSummary) -> str:
    colour = {"complete": "green", "failed": "red", "damaged": "red"}.get(run.status, "yellow")
    time = "" if run.seconds is None else f", {duration(run.seconds)}"
    lines = [f"[bold]{run.command:7}[/] {run.path}  [{colour}]{run.status}[/]{time}"]
    lines += [f"        [bold cyan]{run.reached}[/]"] if run.reached else []
    lines += [f"        {file}" for file in run.files]
    return "\n".join(lines)
