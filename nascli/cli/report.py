"""`nascli report`: a search run as one page to read."""

from pathlib import Path

from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.runs.find import find_run
from nascli.units import count_of

SEARCH = Setting[str]("search", "A search run's folder, or latest (the default).", "latest", metavar="RUN")
BASELINE = Setting[str | None](
    "--baseline", "Random search to compare with; by default the newest suitable one beside RUN.", metavar="RUN"
)
FOLDER = Setting[Path | None]("--out", "Write into this folder, not into the run's.", metavar="DIR")
TABLE = Setting[Path | None](
    "--table", "Write the scored cells as a table too, for search --evaluator table:FILE.", metavar="FILE.h5"
)


@command(
    "report",
    [SEARCH, BASELINE, FOLDER, TABLE, JSON],
    examples=[
        "nascli report",
        "nascli report runs/search/latest --out page",
        "nascli report runs/search/mine --baseline runs/search/random",
        "nascli report runs/search/all --table cells.h5",
    ],
)
def run(call: Call) -> None:
    """Write a search run as one page: best cells, random baseline, front, what was learned and chosen.

    The page is report.html, needs no network, and contains its figures; they are also in report/ beside it, as PNG.
    A search that is still running can be reported too.
    """
    from nascli.report.report import write_search_report
    from nascli.search.front import describe_member
    from nascli.search.study import tabulate_run

    terminal = call.terminal()
    path = find_run(call[SEARCH], "search", runs_folder(), terminal.note)
    baseline, table = call[BASELINE], call[TABLE]
    other = None if baseline is None else find_run(baseline, "search", runs_folder())
    made = write_search_report(path, baseline=other, out=call[FOLDER])
    for warning in made.warnings:
        terminal.note(f"warning: {warning}")
    terminal.note(made.verdict)
    terminal.show(f"report: {made.page}")
    if table is not None:
        cells = tabulate_run(path, table)
        terminal.show(
            f"table: {table}, {count_of(len(cells), 'cell')} with {count_of(cells.trainings, 'training')} each"
        )
    terminal.result(
        {
            "run": str(path),
            "report": str(made.page),
            "figures": [str(file) for file in made.figures],
            "baseline": None if made.baseline is None else str(made.baseline),
            "table": None if table is None else str(table),
            "verdict": made.verdict,
            "warnings": list(made.warnings),
            "cost_is": made.front.quantity,
            "front": [describe_member(member) for member in made.front.front],
            "hypervolume": made.front.hypervolume,
        }
    )
    if (path / "best.json").is_file():
        terminal.next(["nascli", "train", "--cell", path, "--dataset", made.dataset])
