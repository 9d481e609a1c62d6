"""`nascli report`: a search run as one page to read."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nascli.cli.console import Terminal
from nascli.cli.options import JsonOption, runs_folder
from nascli.runs import find_run

NAME = "report"


def run(
    search: Annotated[str, typer.Argument(metavar="RUN", help="A search run's folder, or latest.")] = "latest",
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Random search to compare with; by default the newest that fits, beside RUN."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write into this folder, instead of the run's own.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.h5", help="Write the scored cells as a table too, for search --evaluator table:FILE."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a search run as one page: best cells, random baseline, what was learnt and chosen, cost, recipe.

    The page is report.html, needs no network, and has its figures inside; as PNG they are in report/ beside it.
    A search that is still running can be reported too.

    Examples:

      nascli report

      nascli report runs/search/latest --out page

      nascli report runs/search/mine --baseline runs/search/random

      nascli report runs/search/all --table cells.h5
    """
    from nascli.report.report import write_search_report
    from nascli.search.study import tabulate_run

    terminal = Terminal(as_json=as_json)
    path = find_run(search, "search", runs_folder())
    other = None if baseline is None else find_run(baseline, "search", runs_folder())
    made = write_search_report(path, baseline=other, out=out)
    for warning in made.warnings:
        terminal.note(f"warning: {warning}")
    terminal.note(made.verdict)
    terminal.show(f"report: {made.page}")
    if table is not None:
        cells = tabulate_run(path, table)
        terminal.show(f"table: {table}, {len(cells)} cells with {cells.trainings} trainings each")
    terminal.result(
        {
            "run": str(path),
            "report": str(made.page),
            "figures": [str(file) for file in made.figures],
            "baseline": None if made.baseline is None else str(made.baseline),
            "table": None if table is None else str(table),
            "verdict": made.verdict,
            "warnings": list(made.warnings),
        }
    )
    if (path / "best.json").is_file():
        terminal.next(f"nascli train --cell {shlex.quote(str(path))} --dataset {shlex.quote(made.dataset)}")
