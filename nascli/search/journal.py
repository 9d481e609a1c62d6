"""The journal of a search: `trials.jsonl`, one event a line, only ever appended to.

Rules, first because the worst bugs break them:

- One process writes at a time (the run folder's lock holds that); any number may read meanwhile.
- An event counts once its whole line, newline included, is flushed to disk; nobody acts on it before.
- So a kill at any moment leaves at most one unfinished last line. A reader drops that, and a writer cuts it off before
  it appends. Any other damage is not repaired but reported with file and line.
- Lines are strict JSON: no NaN, no infinity, no unknown fields.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nascli.artifacts import sync_folder
from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.genotype.schema import Genotype
from nascli.search.trial import Score, Trial


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Proposed(_Event):
    """The strategy proposed a genotype; its evaluation may begin."""

    event: Literal["proposed"] = "proposed"
    trial: int = Field(ge=0)
    tokens: tuple[int, ...]
    genotype: Genotype
    hash: str
    seed: int
    repeat_of: int | None


class Finished(_Event):
    """The trial has a score; a repeat took 0 seconds."""

    event: Literal["finished"] = "finished"
    trial: int = Field(ge=0)
    reward: float
    accuracy: float
    params: int
    mult_adds: int
    seconds: float


class Failed(_Event):
    """The trial has no score; the strategy is told `reward` all the same."""

    event: Literal["failed"] = "failed"
    trial: int = Field(ge=0)
    error: str
    reward: float


Event = Proposed | Finished | Failed
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class Journal:
    """A journal opened to go on in.

    `trials` are the trials of all events so far, by id. It belongs to the journal: read it, change it by `append`.

    Args:
        path: The file; made if it is not there, cut back to its last whole line if a kill left an unfinished one.

    Raises:
        CorruptFileError: A line is damaged, or says what cannot be (a result for a trial that was not proposed).
        NascliError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes() if path.exists() else b""
            self.trials, self._size = _read(content, path)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._size)
            os.fsync(self._file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, event: Event) -> Trial:
        """Write an event to disk, then apply it.

        Returns:
            The trial as it is now.

        Raises:
            NascliError: The disk is full or cannot be written; the journal is as before the call.
        """
        changed = _apply(self.trials, event)
        line = json.dumps(event.model_dump(mode="json", by_alias=True), allow_nan=False).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._size += len(line)
        self.trials[changed.id : changed.id + 1] = [changed]
        return changed

    def close(self) -> None:
        """Close the file; everything in it is on disk already."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)  # a part of the line may be there; making a file shorter needs no space
            raise


def read_trials(path: Path) -> list[Trial]:
    """The trials of a journal, which may be one that is being written now.

    Raises:
        InputError: There is no such file.
        CorruptFileError: A line other than an unfinished last one is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "nascli search makes a run with this file") from error
    return _read(content, path)[0]


def proposed(trial: Trial) -> Proposed:
    """The event that begins a trial."""
    return Proposed(
        trial=trial.id,
        tokens=trial.tokens,
        genotype=trial.genotype,
        hash=trial.hash,
        seed=trial.seed,
        repeat_of=trial.repeat_of,
    )


def _read(content: bytes, path: Path) -> tuple[list[Trial], int]:
    *lines, unfinished = content.split(b"\n")
    trials: list[Trial] = []
    for number, line in enumerate(lines, start=1):
        try:
            changed = _apply(trials, _EVENTS.validate_python(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(
                f"{path}, line {number}: {_reason(error)}",
                "The search cannot go on from a damaged journal; its whole lines before this one are still readable",
            ) from error
        trials[changed.id : changed.id + 1] = [changed]
    return trials, len(content) - len(unfinished)


def _apply(trials: list[Trial], event: Event) -> Trial:
    """The trial that `event` makes or finishes; ValueError where the event cannot follow those before it."""
    if isinstance(event, Proposed):
        if event.trial != len(trials):
            raise ValueError(f"trial {event.trial} is proposed where {len(trials)} is due")
        if event.repeat_of is not None and not 0 <= event.repeat_of < event.trial:
            raise ValueError(f"trial {event.trial} repeats trial {event.repeat_of}, which is not an earlier one")
        return Trial(
            id=event.trial,
            tokens=event.tokens,
            genotype=event.genotype,
            hash=event.hash,
            seed=event.seed,
            repeat_of=event.repeat_of,
        )
    if event.trial >= len(trials):
        raise ValueError(f"a result for trial {event.trial}, which was not proposed")
    if isinstance(event, Failed):
        return trials[event.trial].failed(event.error, event.reward)
    return trials[event.trial].completed(
        Score(
            reward=event.reward,
            accuracy=event.accuracy,
            params=event.params,
            mult_adds=event.mult_adds,
            seconds=event.seconds,
        )
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return f"not JSON ({error})" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)


def _unwritable(path: Path, error: OSError) -> NascliError:
    return NascliError(
        f"{path} cannot be written: {error.strerror or error}",
        "Finished trials are safe: make room, then go on with --resume",
    )
