"""Stopping on request: the first Ctrl-C or SIGTERM asks, the second ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether to stop. Loops look at `requested` where their state is complete, save it, and leave."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals(*, second_ends: bool = True) -> Iterator[StopRequest]:
    """A `StopRequest` that SIGINT and SIGTERM set while the context lasts.

    Args:
        second_ends: Whether a second signal ends the process as if uncaught. False under a launcher, which passes on
            signals that its processes may have received already.
    """
    stop = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        for each in _SIGNALS if second_ends else ():
            signal.signal(each, signal.SIG_DFL)

    for number in _SIGNALS:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
