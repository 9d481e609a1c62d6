"""What a person sees: results on stdout, progress and notes on stderr.

With `--json` the result is one JSON object on stdout and nothing else is there.
"""

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table


class Terminal:
    """Where a command prints.

    Args:
        as_json: Print results as one JSON object, and no tables.
        quiet: Print nothing: another process does.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.results = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.notes = Console(stderr=True, highlight=False, quiet=quiet)

    def show(self, renderable: RenderableType) -> None:
        """A table or text for a person, on stdout; nothing with `--json`."""
        if not self.as_json:
            self.results.print(renderable)

    def note(self, text: str) -> None:
        """A line about what is going on, on stderr."""
        self.notes.print(text, soft_wrap=True, markup=False)

    def result(self, values: Mapping[str, object]) -> None:
        """The command's result as JSON on stdout; nothing without `--json`."""
        if self.as_json and not self.results.quiet:
            sys.stdout.write(json.dumps(values, indent=2, default=str) + "\n")

    def next(self, *commands: str) -> None:
        """The next command, ready to paste, on stderr."""
        for command in commands:
            self.notes.print(f"[dim]next:[/] [bold cyan]{escape(command)}[/]", soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table: the first column left, the others right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        made.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def count(number: float) -> str:
    """A large number in three digits with its SI letter: 563.6M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
