"""`nascli report`: a search run as one page to read; the learning curves of trainings as a picture."""

from pathlib import Path

from nascli.cli.console import Terminal
from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.errors import InputError
from nascli.files import make_folder, write_bytes
from nascli.runs.find import find_run, read_run
from nascli.units import count_of

RUNS = Setting[list[str]](
    "runs", "A search run, latest by default; or runs of train, or of detect, to compare.", [], metavar="[RUN]..."
)
BASELINE = Setting[str | None](
    "--baseline", "Random search to compare with; by default the newest suitable one beside RUN.", metavar="RUN"
)
FOLDER = Setting[Path | None]("--out", "Write into this folder, not into the run's.", metavar="DIR")
TABLE = Setting[Path | None](
    "--table", "Write the scored cells as a table too, for search --evaluator table:FILE.", metavar="FILE.h5"
)


@command(
    "report",
    [RUNS, BASELINE, FOLDER, TABLE, JSON],
    examples=[
        "nascli report",
        "nascli report runs/search/latest --out page",
        "nascli report runs/search/mine --baseline runs/search/random",
        "nascli report runs/search/all --table cells.h5",
        "nascli report runs/train/latest",
        "nascli report runs/train/*nasnet* --out curves",
    ],
)
def run(call: Call) -> None:
    """Write a search run as one page: best cells, random baseline, front, what was learned and chosen.

    The page is report.html, needs no network, and contains its figures; they are also in report/ beside it, as PNG.
    Of trainings the learning curves are drawn, into learning-curves.png in the run's folder or, of several, in --out;
    runs that differ in their seed alone are one line, their mean. What is still running can be reported too.
    """
    terminal, runs = call.terminal(), [Path(each) for each in call[RUNS]]
    commands = [read_run(path)["command"] if path.is_dir() else "" for path in runs]
    if any(each in ("train", "detect") for each in commands):
        _draw_curves(call, terminal, runs)
        return
    if len(runs) > 1:
        raise InputError(f"a page is of one search, here are {len(runs)} runs", "Give one; --baseline names another")
    _write_page(call, terminal, str(runs[0]) if runs else "latest")


def _draw_curves(call: Call, terminal: Terminal, runs: list[Path]) -> None:
    """Draw the curves of trainings, and show the best epoch of each line."""
    from nascli.report.learning_curves import describe_lines, group_runs, plot_learning_curves, read_training

    call.refuse("learning curves have no", [BASELINE, TABLE])
    named: dict[Path, Path] = {}
    for path in runs:  # of which one may be the link latest, in runs/train/*
        named.setdefault(path.resolve(), path)
    distinct = list(named.values())
    folder = call[FOLDER] or (distinct[0] if len(distinct) == 1 else None)
    if folder is None:
        raise InputError(
            f"--out is missing: the curves of {len(distinct)} runs belong to none of them", "Give --out DIR"
        )
    lines = group_runs([read_training(path) for path in distinct])
    figure = plot_learning_curves(lines)
    file = folder / f"{figure.name}.png"
    make_folder(folder)
    write_bytes(file, figure.png)
    described = describe_lines(lines)
    rows = []
    for each in described:
        width = "" if each["half_width"] is None else f" ± {each['half_width']:.2%}"
        best = "-" if each["best"] is None else f"{each['best']:.2%}{width}"
        rows.append((each["name"], str(len(each["runs"])), best))
    terminal.show_table("the best epoch", rows, ("", "runs", str(described[0]["score"])))
    terminal.note(figure.caption)
    terminal.show(f"\nwritten: {file}")
    terminal.result({"figure": str(file), "lines": described})


def _write_page(call: Call, terminal: Terminal, search: str) -> None:
    from nascli.report.report import write_search_report
    from nascli.search.front import describe_member
    from nascli.search.study import tabulate_run

    path = find_run(search, "search", runs_folder(), terminal.note)
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
