"""The progress of a command as a file in its folder, for other terminals and machines: `progress.json`, now and then.

It decides nothing: a run resumes without it, and a disk that cannot take it stops nothing.
"""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nascli.errors import NascliError
from nascli.partial import temporary_beside
from nascli.records import format_record, read_record

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """The content of the file.

    Args:
        unit: The things that are counted: `steps`, `trials` or `images`.
        done: Their number so far, of `total`.
        phase: The present work, in a word or two.
        begun: When this session began, in seconds since 1970; `begun_at` is `done` then.
        written: When this was written, by the same clock.
        host: The machine.
        facts: What else is known: `epoch`, `epochs`, `loss`, `images_per_second`, `running`.
    """

    unit: str
    done: int
    total: int
    phase: str
    begun: float
    begun_at: int
    written: float
    host: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pace(self) -> float | None:
        """Units per second of this session; None before the first."""
        made, seconds = self.done - self.begun_at, self.written - self.begun
        return made / seconds if made > 0 and seconds > 0 else None


class ProgressFile:
    """The file of one folder, which one process at a time writes.

    Args:
        every: Seconds between two writings; between them a call costs a look at the clock.
    """

    def __init__(self, folder: Path, unit: str, every: float = 3.0) -> None:
        self._path, self._unit, self._every = folder / PROGRESS, unit, every
        self._begun, self._begun_at = time.time(), 0
        self._next = 0.0

    def begin(self, done: int, total: int, phase: str, **facts: object) -> None:
        """Start counting this session from `done`, and write."""
        self._begun, self._begun_at = time.time(), done
        self.write(done, total, phase, **facts)

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() >= self._next

    def write(self, done: int, total: int, phase: str, **facts: object) -> None:
        """Write the file, whole or not at all; it is not flushed to the disk, and no error of the disk is raised."""
        now = time.time()
        place = (self._unit, done, total, phase, self._begun, self._begun_at, now, socket.gethostname())
        content = format_record(vars(Progress(*place, facts)))
        temporary = temporary_beside(self._path)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(content)
            temporary.replace(self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
        self._next = time.monotonic() + self._every


def read_progress(folder: Path) -> Progress | None:
    """The progress of a folder; None where there is none that can be read, or it is damaged."""
    try:
        found = Progress(**read_record(folder / PROGRESS))
    except (NascliError, TypeError):
        return None
    numbers = (found.done, found.total, found.begun, found.begun_at, found.written)
    is_own = all(isinstance(each, int | float) for each in numbers) and isinstance(found.facts, dict)
    return found if is_own else None
