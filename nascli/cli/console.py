"""The terminal: results on stdout, progress and notes on stderr.

With `--json` the result is one JSON object on stdout and nothing else is there.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status


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
            self.results.print(renderable, markup=False)

    def show_table(self, title: str, rows: Iterable[Sequence[str]], columns: Sequence[str] = ("", "")) -> None:
        """A plain table on stdout, its first column left, the others right; its texts are shown as they are."""
        from rich.table import Table
        from rich.text import Text

        made = Table(title=Text(title, "bold"), title_justify="left", header_style="bold", box=None, pad_edge=False)
        for position, column in enumerate(columns):
            made.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
        for row in rows:
            made.add_row(*map(Text, row))
        self.show(made)

    def note(self, text: str) -> None:
        """A line about progress, on stderr."""
        self.notes.print(text, soft_wrap=True, markup=False)

    def status(self, text: str) -> "Status":
        """A line on a terminal while something is being done; a context manager."""
        from rich.markup import escape

        return self.notes.status(escape(text))

    def result(self, values: Mapping[str, object]) -> None:
        """The command's result as JSON on stdout; nothing without `--json`."""
        if self.as_json and not self.results.quiet:
            sys.stdout.write(json.dumps(values, indent=2, default=str) + "\n")

    def next(self, *commands: str) -> None:
        """The next command, ready to paste, on stderr."""
        from rich.markup import escape

        for command in commands:
            self.notes.print(f"[dim]next:[/] [bold cyan]{escape(command)}[/]", soft_wrap=True)
