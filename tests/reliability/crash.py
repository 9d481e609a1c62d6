"""Commands that die before their n-th change of a folder, as by SIGKILL: a server that forks a process for each.

Run as a program it reads requests as lines of JSON and answers each with one. A process of its own is quicker than an
interpreter per command, and forks safely: it computes with one thread.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import ENVIRONMENT, ROOT

KILLED = 137

_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate")
_END = "changes: "
_PRELOADED = ("nascli", "torch", "torchvision", "numpy", "PIL", "pydantic", "rich", "h5py")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ended:
    """A command that ended, or died: its exit code, its output, the number of changes it made or tried."""

    code: int
    output: str
    changes: int


class Crasher:
    """Runs commands of nascli; a context manager that ends its process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.crash"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, line: str, cwd: Path, *, at: int = 0, until: str = "") -> Ended:
        """Run a command in a folder.

        Args:
            at: The change of the folder before which it dies, counted from 1.
            until: It dies before the change after the first of a file of this name.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"argv": line.split(), "cwd": str(cwd), "at": at, "until": until}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _run(request, writing)
        os.close(writing)
        with open(reading, "rb") as pipe:
            output = pipe.read().decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text, _, end = output.rpartition(_END)
        changes, *modules = end.split() or ["0"]
        print(json.dumps({"code": code, "output": text, "changes": int(changes)}), flush=True)
        for name in modules:  # so that the next process has them already
            with suppress(Exception):
                importlib.import_module(name)


def _run(request: dict[str, Any], output: int) -> None:
    """The process of one command; does not return."""
    from nascli.cli.app import main

    sys.stdin = open(os.devnull)  # noqa: SIM115 - until the process ends
    sys.stdout = sys.stderr = open(output, "w", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    below, changes, last = request["cwd"], 0, 0
    known = set(sys.modules)

    def leave(code: int) -> None:
        sys.stdout.flush()
        own = [name for name in sys.modules if name not in known and name.partition(".")[0] in _PRELOADED]
        os.write(output, f"{_END}{changes} {' '.join(own)}".encode())
        os._exit(code)

    def count(event: str, values: tuple[Any, ...]) -> None:
        nonlocal changes, last
        if event == "open":
            changed = isinstance(values[0], str | os.PathLike | bytes) and bool(values[2] & _WRITES)
        else:
            changed = event in _CHANGES
        if not changed or not os.path.abspath(os.fsdecode(values[0])).startswith(below):
            return
        changes += 1
        if changes == request["at"] or changes == last:
            leave(KILLED)
        written = values[{"open": 0, "os.rename": 1}[event]] if event in ("open", "os.rename") else ""
        if request["until"] and not last and os.path.basename(os.fsdecode(written)) == request["until"]:
            last = changes + 1

    sys.addaudithook(count)
    try:
        main(request["argv"])
    except SystemExit as left:
        leave(int(left.code or 0))
    except BaseException:
        traceback.print_exc()
        leave(99)


if __name__ == "__main__":
    _serve()
