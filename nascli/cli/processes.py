"""A command that several processes run together: started by torchrun, or by the command itself for `--gpus`."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from nascli.cli.console import Terminal
from nascli.errors import InputError, NascliError

if TYPE_CHECKING:
    from nascli.engine.dist import DistContext

GpusOption = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="Train on so many GPUs of this machine, each with a part of every batch."),
]


@contextmanager
def together() -> Iterator["DistContext"]:
    """This process among those that torchrun started, if it did; of what they all fail with, the first speaks."""
    from nascli.engine.dist import DistContext, process_group

    dist = DistContext.here()
    try:
        with process_group(dist):
            yield dist
    except NascliError as error:
        if dist.is_main or "--debug" in sys.argv:
            raise
        raise typer.Exit(error.exit_code) from error


def use_gpus(gpus: int | None, device: str, words: list[str]) -> None:
    """Start a process for each GPU and leave with their exit code; of one or none this process is left to take care.

    Args:
        gpus: How many the person asked for.
        device: As the person named it.
        words: What stands after `nascli` in the command line of each process.

    Raises:
        InputError: They are not there.
    """
    if gpus is None:
        return
    from nascli.engine.launch import check_gpus, launch

    check_gpus(gpus, device)
    if gpus > 1:
        raise typer.Exit(launch(gpus, [*words, *(["--debug"] if "--debug" in sys.argv else [])]))


def words_of(command: str, options: Mapping[str, object]) -> list[str]:
    """The words after `nascli` with these options; None and False are left out, a list stands for several."""
    words = [command]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None and each is not False:
                words += [name] if each is True else [name, str(each)]
    return words


def note_shares(terminal: Terminal, dist: "DistContext", batch_size: int) -> None:
    """Say how several processes share a batch."""
    if dist.size > 1:
        each = batch_size // dist.size
        terminal.note(f"{dist.size} processes, each with {each} of {batch_size} images a step")


def refuse_several(dist: "DistContext", option: str) -> None:
    """InputError where several processes are given an option that is for one."""
    if dist.size > 1:
        raise InputError(f"{option} is for one process, there are {dist.size}", "Start it without torchrun")
