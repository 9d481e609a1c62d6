"""Calls of the program that may be killed, each in a process of its own which is there within milliseconds.

One process imports everything and forks itself for every call: so a call is the real program with a process id, a death
and an exit code of its own, without the two seconds of imports. Called as a program it takes calls as lines of JSON.
"""

import errno
import fcntl
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.processes import ENVIRONMENT

_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_OPENED_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PATIENCE = 120.0
"""Seconds after which a call hangs; far more than any takes, however loaded the machine is."""


@dataclass(frozen=True)
class Ended:
    """The end of a call.

    Attributes:
        code: The exit code; below 0 the signal that ended it, None if it hung.
        writes: The steps in the file system that it took, or began when it was killed.
        left: Its processes that were still there long after it had ended.
        cpu: Seconds of computation of the call and its children.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    cpu: float
    writes: int
    left: tuple[int, ...]

    @property
    def is_killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Zygote:
    """Runs calls one after the other; a context manager."""

    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.reliability.zygote"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.communicate()  # the end of its input ends it

    def call(
        self,
        *arguments: str,
        folder: Path,
        kill_after: float | None = None,
        kill_at: int | None = None,
        until: str = "",
        full_at: int | None = None,
        file_size: int = 0,
        streams: Sequence[str] = (),
        memory: int = 0,
    ) -> Ended:
        """Call the program in a folder.

        Args:
            kill_after: Kill it after these seconds, if it still runs.
            kill_at: Kill it before this step (from 1 on) in the file system of the folder, if it gets there.
            until: Kill it before the step after the first that writes a file of this name.
            full_at: The disk is full from this step on: no file and no folder is made any more.
            file_size: Bytes that a file may grow to; 0 sets no limit. Steps are not counted then.
            streams: What its stdin, stdout and stderr are: `closed`, `left` (a pipe without a reader), a path to write
                to, or empty for what they are without.
            memory: Bytes of address space that it may take beyond what it has at its start; 0 sets no limit.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        call = {
            "arguments": arguments,
            "folder": str(folder),
            "kill_after": kill_after,
            "kill_at": kill_at,
            "until": until,
            "full_at": full_at,
            "file_size": file_size,
            "streams": list(streams),
            "memory": memory,
        }
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(**{**answer, "left": tuple(answer["left"])})


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that an import prints gets among the answers
    _import_all()
    for line in sys.stdin:
        answers.write(json.dumps(_call(json.loads(line))) + "\n")
        answers.flush()


def _import_all() -> None:
    import nascli.cli

    for module in pkgutil.walk_packages(nascli.__path__, "nascli."):
        if module.name != "nascli.__main__":
            importlib.import_module(module.name)
    for name in ("h5py", "torchvision", "PIL.Image", "matplotlib.pyplot", "hotcoco", "safetensors.torch"):
        with suppress(ImportError):
            importlib.import_module(name)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    pipes = [os.pipe() for _ in range(2)]  # a limit of the size of files is none of a pipe
    for reader, writer in pipes:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(reader, False)
    outputs = [*(writer for _, writer in pipes), os.memfd_create("writes")]
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _run(call, *outputs)
    code, usage = _wait(pid, begun, call)
    seconds = time.monotonic() - begun
    left = _await_end(pid)
    writes = _read(outputs[2])
    for _, writer in pipes:
        os.close(writer)
    out, err = (_read(reader) for reader, _ in pipes)
    return {
        "code": code,
        "out": out,
        "err": err,
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "writes": len(writes),
        "left": left,
    }


def _run(call: dict[str, Any], out: int, err: int, writes: int) -> None:
    """Become the program; never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(call["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
        for number, kind in enumerate(call["streams"]):
            _replace(number, kind)
        sys.argv = ["nascli", *call["arguments"]]
        if call["memory"]:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + call["memory"],) * 2)
        if call["file_size"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (call["file_size"],) * 2)
        else:
            _count_writes(call, writes)
        from nascli.cli.app import main

        try:
            main(call["arguments"])
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        if not call["streams"]:
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _replace(number: int, kind: str) -> None:
    """Put another stream in place of stdin, stdout or stderr, as the program finds it when it is started so."""
    name = ("stdin", "stdout", "stderr")[number]
    if kind == "closed":
        os.close(number)
        vars(sys).update({name: None, f"__{name}__": None})
    elif kind == "left":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, number)
    elif kind:
        os.dup2(os.open(kind, os.O_WRONLY), number)


def _count_writes(call: dict[str, Any], writes: int) -> None:
    """Count the steps in the file system below a folder; the one to be killed at is never taken."""
    folder, kill_at, until, full_at = (call[name] for name in ("folder", "kill_at", "until", "full_at"))
    count = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count, kill_at
        if not (event in _WRITES or (event == "open" and _is_written(details))):
            return
        path = details[0]
        if not isinstance(path, str | bytes) or not os.path.abspath(os.fsdecode(path)).startswith(folder):
            return
        count += 1
        os.write(writes, b".")
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if full_at is not None and count >= full_at and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if until and kill_at is None and event in ("open", "os.rename"):
            written = path if event == "open" else details[1]
            kill_at = count + 1 if os.path.basename(os.fsdecode(written)) == until else None

    sys.addaudithook(watch)


def _is_written(details: Sequence[Any]) -> bool:
    _, mode, flags = details
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _OPENED_TO_WRITE)


def _wait(pid: int, begun: float, call: dict[str, Any]) -> tuple[int | None, resource.struct_rusage]:
    kill_after, hangs = call["kill_after"], False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return None if hangs else os.waitstatus_to_exitcode(status), usage
        passed = time.monotonic() - begun
        if kill_after is not None and passed >= kill_after:
            os.kill(pid, signal.SIGKILL)
            kill_after = None
        elif passed > _PATIENCE and not hangs:
            hangs = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _await_end(session: int, patience: float = 60) -> list[int]:
    """The processes of a call that do not end although it has ended; they are killed then."""
    deadline = time.monotonic() + patience
    while left := _members(session):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.01)
    return []


def _members(session: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, _, _, its_session = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(its_session) == session and state != "Z":
                found.append(int(entry))
    return found


def _read(file: int) -> str:
    with os.fdopen(file, "rb") as written:
        if written.seekable():
            written.seek(0)
        return (written.read() or b"").decode(errors="replace")


if __name__ == "__main__":
    _serve()
    os._exit(0)  # torch takes seconds to leave
