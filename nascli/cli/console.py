"""The terminal: results on stdout, progress and notes on stderr.

With `--json` the result is one JSON object on stdout and nothing else is there. Whatever stands in a text is shown: no
markup in it counts, and an escape stands for what a terminal would take for a command or has no letter for.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from nascli.text import SPELL_OUT, printable, quote_command

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status

_UNFOLDED = 100_000
"""Columns of an output that is no terminal: a table for a program has each row on one line."""


def spell_out_streams() -> None:
    """Let stdout and stderr write an escape for a letter that they cannot hold, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=SPELL_OUT)


def _read_environment() -> dict[str, str]:
    """The environment without a width or height that is none: with COLUMNS=0 rich prints nothing, without an error."""

    def is_size(text: str) -> bool:
        return re.fullmatch("0*[1-9][0-9]{0,4}", text) is not None

    return {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES") or is_size(text)}


class JsonOutput:
    """The one JSON object that a call with `--json` leaves on stdout.

    Attributes:
        elsewhere: Another process prints it.
        is_closed: It is complete, and nothing is printed any more.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.elsewhere = False
        self.is_closed = False

    def add(self, values: Mapping[str, object]) -> None:
        """Set keys of the object."""
        self._values |= values

    def write(self) -> None:
        """Print the object, if it has any key; what is not finite is null, since JSON has no NaN."""
        if self._values and not self.elsewhere and not self.is_closed:
            plain = json.loads(json.dumps(self._values, default=str), parse_constant=lambda _: None)
            sys.stdout.write(json.dumps(plain, indent=2) + "\n")
            sys.stdout.flush()


class Terminal:
    """The output of a command.

    Args:
        output: Takes the result with `--json`, in place of texts and tables; None without.
        quiet: Print nothing: another process does.
    """

    def __init__(self, output: JsonOutput | None = None, *, quiet: bool = False) -> None:
        from rich.console import Console  # here, since a help page needs none of it

        self.as_json = output is not None
        self._output = output
        environment = _read_environment()
        folds = sys.stdout.isatty() or "COLUMNS" in environment
        width = None if folds else _UNFOLDED
        self.results = Console(highlight=False, soft_wrap=True, quiet=quiet, width=width, _environ=environment)
        self.notes = Console(stderr=True, highlight=False, quiet=quiet, _environ=environment)

    def show(self, renderable: "RenderableType") -> None:
        """A line or a drawing on stdout; nothing with `--json`. A line may begin with empty ones."""
        if not self.as_json:
            self._print(self.results, renderable)

    def draw(self, renderable: "RenderableType") -> None:
        """Something of several lines on stdout, whose texts are `printable` already; nothing with `--json`."""
        if not self.as_json:
            self.results.print(renderable)

    def show_table(self, title: str, rows: Iterable[Sequence[str]], columns: Sequence[str] = ("", "")) -> None:
        """A plain table on stdout, its first column left, the others right; its texts are shown as they are."""
        from rich.table import Table
        from rich.text import Text

        def cell(text: str, style: str = "") -> Text:
            return Text(printable(text, self.results.encoding), style)

        made = Table(title=cell(title, "bold"), title_justify="left", header_style="bold", box=None, pad_edge=False)
        for position, column in enumerate(columns):
            made.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
        for row in rows:
            made.add_row(*map(cell, row))
        self.show(made)

    def note(self, text: str) -> None:
        """A line about progress, on stderr."""
        self._print(self.notes, text)

    def status(self, text: str) -> "Status":
        """A line on a terminal while something is being done; a context manager."""
        from rich.text import Text

        spinner = "dots" if self.notes.encoding.startswith("utf") else "line"
        return self.notes.status(Text(printable(text, self.notes.encoding)), spinner=spinner)

    def result(self, values: Mapping[str, object]) -> None:
        """The command's result as JSON on stdout, when the program ends; nothing without `--json`."""
        if self._output is not None and not self.results.quiet:
            self._output.add(values)

    def next(self, *commands: str | Sequence[object]) -> None:
        """The next command, ready to paste, on stderr: its words, or a line whose words are quoted already."""
        from rich.text import Text

        encoding = self.notes.encoding
        for command in commands:
            line = command if isinstance(command, str) else quote_command(command, encoding)
            shown = Text.assemble(("next:", "dim"), " ", (printable(line, encoding), "bold cyan"))
            self.notes.print(shown, soft_wrap=True)

    @staticmethod
    def _print(console: "Console", renderable: "RenderableType") -> None:
        from rich.text import Text

        if isinstance(renderable, str):
            text = renderable.lstrip("\n")
            blank = len(renderable) - len(text)
            renderable = Text("\n" * blank + printable(text, console.encoding))
        elif isinstance(renderable, Text):
            shown = printable(renderable.plain, console.encoding)
            renderable = renderable if shown == renderable.plain else Text(shown, renderable.style)
        console.print(renderable, soft_wrap=True)
