"""The `nascli` program: its commands, and what happens when one fails.

A command's module is imported when the command is called; the list of commands is printed without any of them, which
keeps `nascli --help` quick.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nascli import __version__
from nascli.cli.console import JsonOutput, spell_out_streams
from nascli.cli.failures import DEBUG, explain_failure, is_main_process, report_failure, show_failure
from nascli.cli.options import SETTINGS
from nascli.cli.streams import SafeStreams
from nascli.errors import InputError, Interrupted

SUMMARIES = {
    "search": "Search for good architectures: propose, train small and short, learn from the result.",
    "decode": "Show an architecture, write it as genotype JSON, draw it.",
    "build": "Build a network from a genotype and show what it costs, part by part.",
    "train": "Train a network to the end and measure it.",
    "evaluate": "Measure trained networks on test images; or, with --predict, classify your own images.",
    "detect": "Train a Faster R-CNN on a network and score it, find boxes on your own images, check data.",
    "data": "Check, show, convert and divide a data set of images with classes or boxes.",
    "pack": "Pack an image folder into one file that is faster to train on: resized, encoded, with checksums.",
    "push": "Publish a trained network on the Hugging Face hub.",
    "latency": "Measure the layers of a search space, once: a table that searches for a latency sum up.",
    "table": "Import a public table of trained networks, NATS-Bench or NAS-Bench-201, for searches in seconds.",
    "report": "Write a search run as one page: best cells, random baseline, front, what was learned and chosen.",
    "runs": "List runs: what each reached, how long it took, and where its files are.",
    "status": "Show how far runs are: progress, speed, time left, the best so far.",
    "doctor": "Show versions, processor, GPUs, memory and disks, train for two seconds, and say what is short.",
}
"""Every command: the module of its name in `nascli.cli`, and the first sentence of its help."""


EVERYWHERE = {
    DEBUG: "Show the traceback of an error; anywhere on the command line.",
    "--help": "The help of the program, of a command or of a subcommand.",
    "--help-json": "All commands and options as JSON.",
    "--version": "Version.",
}
"""Options of the program itself."""

_NO_VALUE = re.compile(r"--[a-z-]+=")


class _Commands(TyperGroup):
    """Knows the commands by name and summary, and imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - types of typer's own copy of click
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and import_module(f"nascli.cli.{name}").run, rest


app = typer.Typer(
    name="nascli",
    cls=_Commands,
    no_args_is_help=True,
    epilog="To begin: nascli search, then nascli report, then nascli train --cell runs/search/latest. nascli COMMAND "
    "--help has options and examples. Every command: results on stdout, progress on stderr, exit 0 ok, 1 failed, 2 "
    "wrong input, 130 interrupted with the state saved. --debug anywhere shows the traceback of an error.",
    **SETTINGS,
)


def _stand_in() -> None:
    """Stand for a command in lists; `_Commands` calls the real one."""


for _name, _summary in SUMMARIES.items():
    app.command(_name, short_help=_summary)(_stand_in)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nascli {__version__}")
        raise typer.Exit


def _print_help_json(asked: bool) -> None:
    if asked:
        from nascli.cli.help_json import describe_program

        sys.stdout.write(json.dumps(describe_program(SUMMARIES, EVERYWHERE), indent=2) + "\n")
        raise typer.Exit


def _check_current_folder() -> None:
    """Refuse to work in a folder that was removed: no path in it leads anywhere, and torch ends the process there."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError("the current folder is gone", "Change to one that is there (cd), and try again") from error


def _refuse_empty(words: Sequence[str]) -> None:
    """InputError for an argument without a letter: as a path it would be this folder, as a run to resume none."""
    for before, word in pairwise(["nascli", *words]):
        if not word or _NO_VALUE.fullmatch(word):
            place = word.rstrip("=") or before
            raise InputError(
                f"the argument after {place} is empty",
                "Leave it out, or give a value; of a shell's variable: is it set?",
                field=place if place.startswith("-") else None,
            )


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
    help_json: Annotated[
        bool,
        typer.Option("--help-json", callback=_print_help_json, is_eager=True, help="All commands and options as JSON."),
    ] = False,
) -> None:
    """Search a convolutional cell, build networks of any size from it, train, evaluate, detect."""
    import logging  # here, since the list of commands needs none

    _check_current_folder()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that cannot be written to


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; errors become one line and an exit code, with --json an object on stdout besides."""
    os.environ.pop("MPLBACKEND", None)  # nothing opens a window, and with a wrong one matplotlib cannot be imported
    with SafeStreams() as streams:
        spell_out_streams()
        code = streams.settle(_run(list(sys.argv[1:] if arguments is None else arguments)))
    sys.exit(code)


def _run(given: Sequence[str]) -> int:
    words = [each for each in given if each != DEBUG]
    output = JsonOutput()
    as_json = "--json" in given
    try:
        _refuse_empty(words)
        left = app(args=words, prog_name="nascli", standalone_mode=False, obj=output)
        code = left if isinstance(left, int) else 0
        if code == Interrupted.exit_code and not (output.elsewhere or output.is_closed) and is_main_process():
            raise KeyboardInterrupt  # typer makes an exit code of it
    except (Exception, KeyboardInterrupt) as error:
        if is_main_process() or DEBUG in given:
            code = report_failure(error, output, as_json=as_json, debug=DEBUG in given)
        else:
            failure = explain_failure(error)
            code = failure["exit_code"]
            if failure["code"] == "unexpected":  # which the main process does not know of
                show_failure(error, failure, debug=False)
    if as_json:
        output.write()
    return int(code)
