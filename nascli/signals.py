"""Stopping on request: the first Ctrl-C or SIGTERM asks, the second ends the process at once; and with the parent.

A terminal that is closed asks, too, as often as it likes: shell and kernel may both send SIGHUP. Under nohup it is
ignored.
"""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""


class StopRequest:
    """Whether to stop. Loops look at `requested` where their state is complete, save it, and leave."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals(*, second_ends: bool = True) -> Iterator[StopRequest]:
    """A `StopRequest` that SIGINT, SIGTERM and SIGHUP set while the context lasts.

    Args:
        second_ends: Whether a second SIGINT or SIGTERM ends the process as if uncaught. False under a launcher, which
            passes on signals that its processes may have received already.
    """
    stop = StopRequest()
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        for each in _SIGNALS if second_ends and number != signal.SIGHUP else ():
            signal.signal(each, signal.SIG_DFL)

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(*_: object) -> None:
    """Have the kernel end this process at once when the one that started it ends, whatever ended that.

    So nothing trains on, or holds a folder, after a launcher that was killed. It has to be called in the process that
    shall end; where the kernel is not Linux nothing happens. Arguments are ignored.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
