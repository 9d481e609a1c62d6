"""Snapshots of a strategy, beside the journal: a long search then resumes without learning everything again.

The journal alone says what a search is, and replaying it makes any strategy anew. For a controller that takes minutes
after some thousand trials. So its state is saved now and then, with the length and the hash of the journal at that
moment: it counts only for a journal that begins so, and else it is as if it were not there.
"""

import hashlib
import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nascli.files import write_bytes
from nascli.search.journal import Journal

SNAPSHOT = "strategy.pt"
_FORMAT = 1
"""To be raised whenever a strategy would continue differently from the same state."""

UpdateRecord = tuple[int, dict[str, float]]
"""Trials told in all, and the strategy's diagnostics then."""


@dataclass(frozen=True)
class Snapshot:
    """A strategy at one moment of a search.

    Args:
        asked: Proposals it had been asked for.
        told: Rewards it had been told.
        updates: Its diagnostics after each update, from the beginning.
        strategy: Its state.
    """

    asked: int
    told: int
    updates: list[UpdateRecord]
    strategy: dict[str, Any]


class SnapshotFile:
    """The snapshot of one search.

    Args:
        path: Overwritten by each snapshot.
        identity: The settings that the strategy is made from; a snapshot with others does not count.
        every: Seconds between two snapshots.
    """

    def __init__(self, path: Path, identity: str, every: float = 60.0) -> None:
        self._path, self._every = path, every
        self._identity = hashlib.sha256(f"{_FORMAT} {torch.__version__} {identity}".encode()).hexdigest()
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last snapshot is old enough for another."""
        return time.monotonic() - self._saved >= self._every

    def save(self, snapshot: Snapshot, journal: Journal) -> None:
        """Write a snapshot of this moment, whole or not at all; NascliError where the file cannot be written."""
        bound = {"identity": self._identity, "size": journal.size, "digest": journal.digest()}
        buffer = io.BytesIO()
        torch.save({**bound, "snapshot": asdict(snapshot)}, buffer)
        content = buffer.getvalue()
        write_bytes(self._path, hashlib.sha256(content).digest() + content)
        self._saved = time.monotonic()

    def load(self, journal: Journal) -> Snapshot | None:
        """The snapshot, if it is whole and was taken of this search; None only costs time."""
        try:
            content = self._path.read_bytes()
            checksum, content = content[:32], content[32:]
            if hashlib.sha256(content).digest() != checksum:
                return None
            held = torch.load(io.BytesIO(content), weights_only=True)
            if held["identity"] != self._identity or held["digest"] != journal.digest(held["size"]):
                return None
            return Snapshot(**held["snapshot"])
        except Exception:  # not there, or whatever torch makes of a file that is not what it expects
            return None
