"""Standard streams that end no command: a terminal that was closed, a pipe whose reader has left, a full disk.

An output drops what it cannot print, and the command goes on to its end, so that no training is lost for a note. What
becomes of that is decided then: a result that was not printed is a failure with a line on stderr, but for a reader that
has left (`| head`), who wanted no more. What stderr cannot print changes nothing.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NAMES = ("stdin", "stdout", "stderr")
"""By their descriptors."""


class _Output(io.RawIOBase):
    """The bytes of stdout or stderr; after the first error, which is kept, all others are dropped."""

    mode = "wb"

    def __init__(self, descriptor: int, *, is_open: bool) -> None:
        self.error: OSError | None = None
        self.name = f"<{_NAMES[descriptor]}>"
        self._descriptor, self._is_open = descriptor, is_open

    def writable(self) -> bool:
        """Yes, whatever becomes of it."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_open and os.isatty(self._descriptor)

    def write(self, content: "ReadableBuffer") -> int:
        """Write or drop."""
        if self.error is None:
            try:
                return self._write(content)
            except OSError as error:
                self.error = error
        return memoryview(content).nbytes

    def _write(self, content: "ReadableBuffer") -> int:
        if not self._is_open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:  # another program made the terminal or pipe so
                select.select([], [self._descriptor], [])


class SafeStreams:
    """Puts outputs that raise nothing in place of stdout and stderr; a context manager.

    A descriptor that was closed before the program began is opened on /dev/null, or the next file that is opened would
    get its number, and what libraries print would go there. Streams that somebody else has replaced stay.
    """

    def __init__(self) -> None:
        self._before = sys.stdin, sys.stdout, sys.stderr
        self._stdout: _Output | None = None

    def __enter__(self) -> Self:
        was_open = [_open_null(descriptor) for descriptor in range(3)]
        if sys.stdin is None:
            sys.stdin = open(0, encoding="utf-8", closefd=False)
        if sys.stdout is sys.__stdout__:
            self._stdout = _Output(1, is_open=was_open[1])
            sys.stdout = _wrap(self._stdout, sys.stdout)
        if sys.stderr is sys.__stderr__:
            sys.stderr = _wrap(_Output(2, is_open=was_open[2]), sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdin, sys.stdout, sys.stderr = self._before

    def settle(self, code: int) -> int:
        """Print what is left; the exit code of a command that would have ended with this one."""
        sys.stdout.flush()
        error = self._stdout.error if self._stdout is not None else None
        if error is None or error.errno == errno.EPIPE:
            return code
        sys.stderr.write(f"error: the result cannot be printed: {error.strerror}. What was written to files is whole\n")
        return code or 1


def _open_null(descriptor: int) -> bool:
    """Open a closed descriptor on /dev/null; whether it was open."""
    try:
        os.fstat(descriptor)
    except OSError:
        with suppress(OSError):
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
        return False
    return True


def _wrap(output: _Output, before: TextIO | None) -> io.TextIOWrapper:
    encoding = before.encoding if before is not None else "utf-8"
    is_lines = output.fileno() == 2 or output.isatty()
    return io.TextIOWrapper(io.BufferedWriter(output), encoding, line_buffering=is_lines)
