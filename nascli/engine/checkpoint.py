"""Checkpoints: the state of a training on disk, such that a kill at any moment loses at most what came after the last.

`checkpoint.pt` is written whole or not at all and the one before it is kept as `checkpoint.previous.pt`. What is read
is checked byte for byte (the file is a zip archive with checksums) and loaded as tensors and plain values only.
"""

import errno
import io
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nascli.config import OptimConfig
from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.files import cannot_write, keep_copy, open_append, open_whole, sync_folder, write_bytes, writing
from nascli.records import format_line

NEWEST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
METRICS = "metrics.jsonl"
_FORMAT = 2


class CheckpointStore:
    """The checkpoints and the metrics of one run folder.

    Args:
        folder: The run folder; one process at a time writes it.
        identity: A hash of what determines the weights (recipe, network, data); a checkpoint of another is refused.
        log: Called with the checkpoint that training resumes from, and why not the newest if that is damaged.
        command: The nascli command that resumes the run.
    """

    def __init__(
        self, folder: Path, identity: str, log: Callable[[str], None] | None = None, command: str = "train"
    ) -> None:
        self.folder = folder
        self.command = command
        self._identity = identity
        self._log = log or (lambda text: None)
        self._saved = time.monotonic()
        self._saved_step = 0
        self._newest_is_whole = True
        self._has_metrics = False

    @property
    def age(self) -> float:
        """Seconds since the last save, or since this store was made."""
        return time.monotonic() - self._saved

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; the newest becomes the previous, unless it was found damaged.

        Args:
            state: Tensors and plain values; its `step` says how far it is.

        Raises:
            NascliError: The folder cannot be written (for instance, the disk is full).
        """
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, "identity": self._identity, "state": dict(state)}, buffer)
        newest = self.folder / NEWEST
        self._check_folder()
        if newest.exists() and self._newest_is_whole:
            keep_copy(newest, self.folder / PREVIOUS)
        with open_whole(newest) as file:
            file.write(buffer.getbuffer())
        self._saved, self._saved_step, self._newest_is_whole = time.monotonic(), state["step"], True

    def is_due(self, step: int, config: OptimConfig) -> bool:
        """Whether `checkpoint_minutes` have passed since the last save, or `checkpoint_steps` divides `step`."""
        steps = config.checkpoint_steps
        due = steps > 0 and step % steps == 0 and step != self._saved_step
        return due or self.age > config.checkpoint_minutes * 60

    def load(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint that is whole; None where there is no checkpoint.

        Raises:
            CorruptFileError: There are checkpoints, but each is damaged.
            InputError: The checkpoint is of another recipe or network.
        """
        damage: CorruptFileError | None = None
        for name in (NEWEST, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state = self._read(path)
            except CorruptFileError as error:
                damage = damage or error
                self._newest_is_whole &= name != NEWEST
                continue
            self._saved_step = state["step"]
            self._log(f"{f'{damage.message}; ' if damage else ''}resuming from {path.name}, step {state['step']}")
            return state
        if damage is not None:
            raise damage
        return None

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a record as a line to `metrics.jsonl`, on disk when this returns."""
        path = self.folder / METRICS
        self._check_folder()
        with writing(path):
            new = not path.exists()
            with open_append(path) as file:
                file.write(format_line(record))
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self.folder)

    def restore_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Make `metrics.jsonl` hold these epochs and no others: what a checkpoint does not know is done again."""
        write_bytes(self.folder / METRICS, b"".join(map(format_line, records)))
        self._has_metrics = True

    def _check_folder(self) -> None:
        """CannotWriteError where the files of the run were removed: a folder with the last of them alone is no run."""
        metrics = self.folder / METRICS
        if self._has_metrics and not metrics.is_file():
            raise cannot_write(metrics, FileNotFoundError(errno.ENOENT, "the file was removed"))

    def _read(self, path: Path) -> dict[str, Any]:
        remedy = "Start the run again, with --out and --overwrite"
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise CorruptFileError(f"{path} is damaged (wrong checksum of {damaged})", remedy)
            payload = torch.load(path, map_location="cpu", weights_only=True)
            written, identity, state = payload["format"], payload["identity"], payload["state"]
        except OSError as error:
            raise NascliError(f"{path} cannot be read: {error.strerror or error}") from error
        except CorruptFileError:
            raise
        except Exception as error:  # whatever torch and zipfile make of a file that is not what they expect
            raise CorruptFileError(f"{path} is damaged and cannot be read", remedy) from error
        if written != _FORMAT:
            raise InputError(
                f"{path}: checkpoint format {written!r} is not the one this nascli reads ({_FORMAT})",
                "End the run with the nascli that began it, or start it again, with --out and --overwrite",
            )
        if identity != self._identity:
            raise InputError(
                f"{path} belongs to another recipe, network or data than the run folder now holds",
                "Restore recipe.toml, network.json and the data, or start it again, with --out and --overwrite",
            )
        return dict(state)
