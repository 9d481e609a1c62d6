"""A command that several processes run together: started by torchrun, or by the command itself for `--gpus`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nascli.cli.console import Terminal
from nascli.cli.failures import DEBUG, report_failure
from nascli.cli.options import DEVICE, DRY_RUN, GPUS, JSON, Call
from nascli.errors import InputError, NascliError
from nascli.runs.folder import RunFolder
from nascli.runs.start import resume_run
from nascli.signals import end_with_parent

if TYPE_CHECKING:
    import torch

    from nascli.config import OptimConfig, Section
    from nascli.engine.dist import DistContext

_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""The environment variable of processes whose parent is torch's launcher."""


@contextmanager
def join_processes(call: Call) -> Iterator["DistContext"]:
    """This process among those that torchrun started, if it did; an error of all is reported by the main one alone.

    It does so before the others leave, since torchrun ends all as soon as one has left with an error.
    """
    if _LAUNCHED in os.environ:
        end_with_parent()
    from nascli.engine.dist import DistContext, process_group

    dist = DistContext.here()
    try:
        with process_group(dist):
            try:
                yield dist
            except NascliError as error:
                if dist.size > 1 and dist.is_main:
                    code = report_failure(error, call.output, as_json=call[JSON], debug=DEBUG in sys.argv)
                    raise typer.Exit(code) from error
                raise
    except NascliError as error:
        if dist.is_main or DEBUG in sys.argv:
            raise
        raise typer.Exit(error.exit_code) from error


def start_processes(call: Call) -> None:
    """With `--gpus` above 1, run the command in a process per GPU, and leave with their exit code.

    Raises:
        InputError: There are fewer GPUs, or --dry-run is given too.
    """
    gpus = call[GPUS]
    if gpus is None:
        return
    if call[DRY_RUN]:
        raise InputError("--dry-run measures one process", "Leave --gpus out")
    from nascli.engine.launch import check_gpus, launch

    check_gpus(gpus, call[DEVICE])
    if gpus > 1:
        call.output.elsewhere = True
        try:
            code = launch(gpus, [*call.words(GPUS), *([DEBUG] if DEBUG in sys.argv else [])])
        except NascliError as error:
            call.output.elsewhere = not error.message.startswith("process 0 ")  # which could say nothing itself
            raise
        raise typer.Exit(code)


def open_in_main(dist: "DistContext", open_folder: Callable[[], RunFolder]) -> RunFolder | None:
    """The run folder, which the main process alone has; its error is that of all."""
    return dist.raise_together(lambda: open_folder() if dist.is_main else None)


@contextmanager
def resume_in_main(dist: "DistContext", path: Path, command_name: str) -> Iterator[RunFolder | None]:
    """The folder of an earlier run, locked before it is read, which the main process alone has.

    Where the block fails, it is released as it was.
    """
    folder = open_in_main(dist, lambda: resume_run(path, command_name))
    with folder.released_on_error() if folder is not None else nullcontext():
        yield folder


def check_agreement(dist: "DistContext", config: "OptimConfig") -> None:
    """InputError on all processes where `precision = auto` came to another format on one: their GPUs differ."""
    first = dist.broadcast_from_main(lambda: config.precision)

    def compare() -> None:
        if config.precision != first:
            raise InputError(
                f"{config.section}.precision auto is {first} on the GPU of process 0, {config.precision} on that of "
                f"process {dist.rank}",
                f"Name one that both have: --set {config.section}.precision=float16 or float32",
            )

    dist.raise_together(compare)


def note_run(
    terminal: Terminal,
    folder: RunFolder,
    recipe: "Section",
    device: "torch.device",
    dist: "DistContext",
    batch_size: int,
) -> None:
    """Say where a run is, what its device is slow at, and how several processes share a batch."""
    from nascli.engine.device import find_emulated

    terminal.note(f"run {folder.path}")
    for sentence in find_emulated(recipe, device):
        terminal.note(sentence)
    if dist.size > 1:
        terminal.note(f"{dist.size} processes, each with {batch_size // dist.size} of {batch_size} images per step")


def require_one_process(command_name: str) -> None:
    """Refuse a command that torchrun started several times; the main process alone says so."""
    from nascli.engine.dist import DistContext

    dist = DistContext.here()
    if dist.size > 1 and not dist.is_main:
        raise typer.Exit(InputError.exit_code)
    refuse_several(dist, command_name)


def refuse_several(dist: "DistContext", name: str) -> None:
    """InputError where several processes are given what is for one."""
    if dist.size > 1:
        raise InputError(f"{name} is for one process, there are {dist.size}", "Start it without torchrun")
