"""A call that failed: explained to people in one line, to programs as an object, with one exit code."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from traceback import format_exception, print_exception
from typing import Any

import typer

from nascli.cli.console import JsonOutput
from nascli.device_errors import is_device_lost, is_out_of_memory
from nascli.errors import CannotWriteError, CorruptFileError, DeviceMemoryError, InputError, Interrupted, NascliError
from nascli.memory import measure_free_memory
from nascli.text import SPELL_OUT, printable
from nascli.units import shorten

EXIT_CODES = {
    0: "done",
    1: "failed: a damaged file, a training that diverged, a full disk",
    2: "wrong usage, or an input that cannot be used",
    3: "of nascli data check: the data can be used, and there are remarks",
    130: "interrupted, with the state saved",
}
"""Every exit code of the commands."""

ERROR_CODES = {
    "usage": "the command line is wrong: an unknown option, a value of another type, a missing argument",
    InputError.code: "an input cannot be used: a value, a file that is absent, a field that is wrong",
    CorruptFileError.code: "a file is damaged: cut off, not the format it claims, a wrong checksum",
    CannotWriteError.code: "a file cannot be written: a full disk, a folder that is gone or may not be written to",
    "diverged": "the loss of a training is not finite",
    "out_of_memory": "the device's memory does not suffice",
    "rejected": "a cell violates a constraint",
    NascliError.code: "something else that nascli can explain",
    Interrupted.code: "a signal asked to stop; the state is saved",
    "unexpected": "a fault of nascli itself",
}
"""Every `code` of the error object."""

DEBUG = "--debug"
LONGEST_REASON = 300

_LONG_WORD = re.compile(r"(\S{300})\S{4000,}")
"""A word longer than the path of any file, and the part of it that is shown."""

_DISK = "The disk, or what gives it to this machine, has a fault: look at it (dmesg), then give the same command again"

_GPU = (
    "Give the same command again, or --resume RUN: nothing that was saved is lost. If it comes back, "
    "CUDA_LAUNCH_BLOCKING=1 with --debug shows where, and dmesg whether the GPU itself has a fault"
)

_REMEDIES = {
    errno.ENAMETOOLONG: "Is it the name of a file?",
    errno.ELOOP: "Its links lead to themselves: mend or remove them",
    errno.ENOTDIR: "A part of the path is a file",
    errno.EACCES: "Ask for the right to read it, or choose another place",
    errno.EPERM: "Ask for the right to read it, or choose another place",
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
}
"""What helps where the fault lies in the name or the rights of a file, wherever it is opened."""

_LIMITS = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Raise the system's limit of open files (fs.file-max)",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or start fewer workers",
    errno.ENOMEM: "There is no memory for another process: choose smaller sizes, or fewer workers",
}
"""What helps where the system refuses another file, pipe or process, whatever they were for."""

_UsageError: Any = typer.BadParameter.__mro__[2]
"""The class of all errors of the command line: typer names only its heir."""

_KIND = re.compile(
    "^(?:annotations|cell|COCO-format data|data set folder|data set|genotype|image|network|pack|recipe|results|run) "
)
"""A word that may stand before the name of a file."""

_FILE_ENDS = re.compile(r": |,? (?:line|trial|block) \d| (?:is|are|has|holds|was|does|cannot|belongs|exists)\b")
_MISSING = re.compile(r": (?:no such|No such)\b")
_FIELD = re.compile(r"\w*(?:\.[A-Za-z_]\w*|\[\d+\])+(?=[ :,]|$)|line \d+(?:, column \d+)?|--[a-z][\w-]*")
_ENTRY = re.compile(
    r"(?P<kind>image|annotation|category|entry) (?:id )?(?P<id>[^\s:,]+)(?:(?::| has no) (?P<key>[a-z_]+))?"
)
_LISTS = {"image": "images", "annotation": "annotations", "category": "categories"}


def is_main_process() -> bool:
    """Whether this is the process that prints, of those that torchrun started."""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def report_failure(error: BaseException, output: JsonOutput, *, as_json: bool, debug: bool) -> int:
    """Say what failed, on stderr and as JSON; the exit code."""
    explained = explain_failure(error)
    show_failure(error, explained, debug=debug)
    output.add({"error": explained})
    if as_json:
        output.write()
    output.is_closed = True
    return int(explained["exit_code"])


def explain_failure(error: BaseException) -> dict[str, Any]:
    """The error as the object that programs read (`docs/json.md`)."""
    if _lacks_temporary_folder(error):
        return InputError(
            "no folder for temporary files can be written to, and libraries need one", "Name one: TMPDIR=DIR nascli ..."
        ).to_dict()
    if isinstance(error, NascliError):
        return _locate(error.to_dict())
    if isinstance(error, _UsageError):
        return _explain_usage(error)
    if is_out_of_memory(error):
        free = f"{measure_free_memory():,} bytes are free"
        return DeviceMemoryError(f"the memory does not suffice: {free}", "Choose smaller sizes").to_dict()
    if is_device_lost(error):
        reason = shorten(" ".join(str(error).split("\n", 1)[0].split()), LONGEST_REASON)
        return NascliError(f"the GPU failed: {reason}", _GPU).to_dict()
    if isinstance(error, OSError) and error.errno in _LIMITS:
        return NascliError(f"the system refuses: {error.strerror}", _LIMITS[error.errno]).to_dict()
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | bytes | os.PathLike):
        file = os.fsdecode(error.filename)  # whatever was the matter with a file, the system has said it
        remedy = _REMEDIES.get(error.errno or 0, "")
        return InputError(f"{shorten(file, LONGEST_REASON)}: {error.strerror}", remedy, file=file).to_dict()
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        return NascliError(f"a file cannot be read: {error.strerror}", _DISK).to_dict()
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted("stopped by a signal").to_dict()
    reason = shorten(" ".join(str(error).split()), LONGEST_REASON)
    what = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    remedy = _keep_traceback(error)
    unexpected = NascliError(
        f"nascli met what it did not expect: {what}", remedy, file=getattr(error, "filename", None)
    )
    return {**unexpected.to_dict(), "code": "unexpected", "type": type(error).__name__}


def _lacks_temporary_folder(error: BaseException) -> bool:
    """Whether an error is one of a library that found no folder for temporary files, as in a container without any."""
    error = error.__cause__ or error
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    try:
        gettempdir()
    except FileNotFoundError:
        return True
    return False


def show_failure(error: BaseException, explained: dict[str, Any], *, debug: bool) -> None:
    """The error on stderr: one line, the usage below a wrong command line, a traceback with --debug."""
    if isinstance(error, _UsageError):
        if _is_plain(error):
            error.message = _one_line(error.message)
        error.show(sys.stderr)
    elif debug:
        print_exception(error)
    else:
        line = str(NascliError(explained["message"], explained["remedy"] or ""))
        title = "interrupted" if explained["exit_code"] == Interrupted.exit_code else "error"
        sys.stderr.write(f"{title}: {_one_line(line)}\n")


def _one_line(text: str) -> str:
    """A message fit for a terminal, in which no word is endless."""
    return printable(_LONG_WORD.sub(r"\1...", text))


def _keep_traceback(error: BaseException) -> str:
    """The remedy for a fault of the program; its traceback, which may not come again for hours, is kept in a file."""
    lines = "".join(format_exception(error))
    try:
        with NamedTemporaryFile("w", prefix="nascli-", suffix=".txt", delete=False, errors=SPELL_OUT) as file:
            file.write(lines)
    except OSError:
        return "Give the same command with --debug, and report what it prints"
    return f"Report it with the traceback in {file.name}"


def _explain_usage(error: Any) -> dict[str, Any]:  # noqa: ANN401 - types of typer's own copy of click
    """An error of the command line; its field is the option or argument."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "nascli"
    parameter = getattr(error, "param", None)
    option = getattr(error, "option_name", None) or (parameter.opts[0] if parameter else None)
    message = error.format_message() if _is_plain(error) else f"{path} needs a command or arguments"
    explained = InputError(message, f"{path} --help lists what there is", field=option).to_dict()
    return {**explained, "code": "usage", "exit_code": error.exit_code, "type": type(error).__name__}


def _is_plain(error: Any) -> bool:  # noqa: ANN401 - types of typer's own copy of click
    """Whether the message is a sentence; that of a command without arguments is its help page."""
    return type(error).__name__ != "NoArgsIsHelpError"


def _locate(explained: dict[str, Any]) -> dict[str, Any]:
    """File and field, where the error itself does not know them: messages begin with them."""
    text = _KIND.sub("", explained["message"])
    own = explained["file"] or next(_leading_files(text), None)
    rest = text.removeprefix(own or "").lstrip(":, ")
    inner = next(_leading_files(rest), None) if own and os.path.isdir(own) else None  # one file of a data set
    explained["file"] = inner or own
    if explained["field"] is None and (explained["file"] or text.startswith("--")):
        explained["field"] = _leading_field(rest.removeprefix(inner or "").lstrip(":, "))
    return explained


def _leading_files(text: str) -> Iterator[str]:
    """The file or folder that a text begins with, if it is there or is said to be missing."""
    for end in _FILE_ENDS.finditer(text):
        name = text[: end.start()]
        if _MISSING.match(text, end.start()) and " " not in name:
            yield name
        try:
            if os.path.exists(name) and (os.sep in name or Path(name).suffix or end[0] == ": "):
                yield name
        except ValueError:  # not a possible name
            return


def _leading_field(text: str) -> str | None:
    """The place that a text begins with: `train.lr`, `images[3]`, `annotations[id=7].bbox`, `line 3`."""
    if found := _FIELD.match(text):
        return found[0]
    if found := _ENTRY.match(text):
        key = f".{found['key']}" if found["key"] else ""
        where = f"{_LISTS[found['kind']]}[id={found['id']}]" if found["kind"] in _LISTS else f"[{found['id']}]"
        return where + key
    return None
