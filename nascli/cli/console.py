"""The terminal: results on stdout, progress and notes on stderr.

With `--json` the result is one JSON object on stdout and nothing else is there.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


class Terminal:
    """The output of a command.

    Args:
        as_json: Print results as one JSON object, and no tables.
        quiet: Print nothing: another process does.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        from rich.console import Console  # here, since a help page needs none of it

        self.as_json = as_json
        self.results = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.notes = Console(stderr=True, highlight=False, quiet=quiet)

    def show(self, renderable: "RenderableType") -> None:
        """A table or text on stdout; nothing with `--json`."""
        if not self.as_json:
            self.results.print(renderable)

    def note(self, text: str) -> None:
        """A line about progress, on stderr."""
        self.notes.print(text, soft_wrap=True, markup=False)

    def result(self, values: Mapping[str, object]) -> None:
        """The command's result as JSON on stdout; nothing without `--json`."""
        if self.as_json and not self.results.quiet:
            sys.stdout.write(json.dumps(values, indent=2, default=str) + "\n")

    def next(self, *commands: str) -> None:
        """The next command, ready to paste, on stderr."""
        from rich.markup import escape

        for command in commands:
            self.notes.print(f"[dim]next:[/] [bold cyan]{escape(command)}[/]", soft_wrap=True)


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """A plain table: the first column left, the others right."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        made.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
