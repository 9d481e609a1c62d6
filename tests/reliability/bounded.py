"""A limit of time and memory for what a test does, and files that are none."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest


@contextmanager
def bounded(seconds: float = 20, mebibytes: int = 2048) -> Iterator[None]:
    """Fail the test where the block takes longer; in it, MemoryError where this process takes so much memory more."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, _fail)
    resource.setrlimit(resource.RLIMIT_AS, (held + (mebibytes << 20), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def put_in_place(path: Path, kind: str) -> Path:
    """Something of this kind under the name of a file, in place of what has that name."""
    if os.path.lexists(path):
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to(kind)
    return path


def _fail(number: int, frame: FrameType | None) -> None:
    pytest.fail("it takes too long")
