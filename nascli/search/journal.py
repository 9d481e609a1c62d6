"""The journal of a search: `trials.jsonl`, one event per line, only ever appended to.

Rules, first because the worst bugs break them:

- One process writes at a time (the run folder's lock holds that); any number may read meanwhile.
- An event counts once its whole line, newline included, is flushed to disk; nothing follows from it before.
- So a kill at any moment leaves at most one unfinished last line. A reader drops that, and a writer cuts it off before
  it appends. Any other damage is not repaired but reported with file and line.
- Lines are strict JSON: no NaN, no infinity, no unknown fields; each ends in its checksum, `crc`. Besides, what a line
  says is held against the lines before, as the result of a duplicate against that of its trial; and where the search
  space is known, hash and tokens against the genotype.
"""

import errno
import gc
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from nascli.config import Strict, describe_error
from nascli.errors import CorruptFileError, InputError
from nascli.files import open_append, sync_folder, writing
from nascli.genotype.genotype import AnyGenotype
from nascli.genotype.space import SearchSpace
from nascli.models.latency import Latency
from nascli.records import format_line, is_torn, parse_line
from nascli.search.trial import Failure, FailureKind, Rerank, Rung, Score, Trial
from nascli.text import quote

_BEGIN = ("tokens", "genotype", "hash", "seed", "duplicate_of", "diagnostics")  # what a trial begins with

_LINE_BEGIN = b'{"'


class _Event(Strict):
    model_config = ConfigDict(allow_inf_nan=False)

    def line(self) -> bytes:
        """The event as a line of JSON with its checksum, without fields at their defaults; floats come back exactly."""
        values = self.model_dump(mode="json", by_alias=True)
        optional = {
            name
            for name, field in type(self).model_fields.items()
            if getattr(self, name) == field.get_default(call_default_factory=True)
        }
        kept = {name: value for name, value in values.items() if name == "event" or name not in optional}
        return format_line(kept)


class Proposed(_Event):
    """The strategy proposed a genotype; its evaluation may begin."""

    event: Literal["proposed"] = "proposed"
    trial: int = Field(ge=0)
    tokens: tuple[int, ...]
    genotype: AnyGenotype
    hash: str
    seed: int
    duplicate_of: int | None
    diagnostics: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def of(cls, trial: Trial) -> Self:
        """The event that begins a trial."""
        return cls(trial=trial.id, **{name: getattr(trial, name) for name in _BEGIN})

    def begin(self) -> Trial:
        """The trial that begins."""
        return Trial(id=self.trial, **{name: getattr(self, name) for name in _BEGIN})


class _Scored(_Event):
    trial: int = Field(ge=0)
    reward: float
    accuracy: float | None
    params: int
    mult_adds: int
    seconds: float
    accuracies: tuple[float, ...] = ()
    latency: Latency | None = None

    @property
    def score(self) -> Score:
        """The fields that make a score."""
        return Score(**{field.name: getattr(self, field.name) for field in fields(Score)})


class Advanced(_Scored):
    """The trial was trained on a rung of `epochs` epochs; the others on that rung decide whether it is promoted."""

    event: Literal["advanced"] = "advanced"
    epochs: int = Field(ge=1)


class Finished(_Scored):
    """The trial has a score, that of its last rung if it was stopped there; a duplicate took 0 seconds."""

    event: Literal["finished"] = "finished"
    stopped: bool = False


class Failed(_Event):
    """The trial has no score; the strategy is told `reward` all the same."""

    event: Literal["failed"] = "failed"
    trial: int = Field(ge=0)
    kind: FailureKind
    error: str
    reward: float
    latency: Latency | None = None

    @property
    def failure(self) -> Failure:
        """The fields that make a failure."""
        return Failure(self.kind, self.error, self.latency)


class Reranked(_Event):
    """The finished trial was trained again, to rank the best."""

    event: Literal["reranked"] = "reranked"
    trial: int = Field(ge=0)
    index: int = Field(ge=0)
    epochs: int = Field(ge=1)
    accuracy: float
    seconds: float


Event = Proposed | Advanced | Finished | Failed | Reranked
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class Journal:
    """A journal that is open for appending.

    `trials` are the trials of all events so far, by id; `finishes` are the ids of the finished ones, in the order in
    which they finished, each with the number of trials that had been proposed by then; `size` is its length in bytes.
    They belong to the journal: read them, change them by `append`.

    Args:
        path: The file; created if missing, cut back to its last whole line if a kill left an unfinished one.
        space: The search space: each genotype is held against its hash and its tokens.

    Raises:
        CorruptFileError: A line is damaged, or impossible (a result for a trial that was not proposed).
        NascliError: The file cannot be written.
    """

    def __init__(self, path: Path, space: SearchSpace | None = None) -> None:
        self.path = path
        with writing(path):
            self._file = open_append(path, buffering=0)
            content = path.read_bytes()
            try:
                self.trials, self.finishes, self.size = _read(content, path, space)
            except CorruptFileError:
                self._file.close()
                raise
            self._hash = hashlib.sha256(content[: self.size])
            self._file.truncate(self.size)
            os.fsync(self._file.fileno())
            sync_folder(path.parent)

    def append(self, event: Event) -> Trial:
        """Write an event to disk, then apply it; returns the trial as it is now.

        Raises:
            NascliError: The disk is full or cannot be written; the journal is as before the call.
        """
        changed = _apply(self.trials, event)
        line = event.line()
        with writing(self.path):
            self._write(line)
        self.size += len(line)
        self._hash.update(line)
        _store(changed, event, self.trials, self.finishes)
        return changed

    def digest(self, size: int | None = None) -> str:
        """SHA-256 of the whole file, or of its first `size` bytes; "" where it is shorter."""
        if size is None or size == self.size:
            return self._hash.hexdigest()
        with self.path.open("rb") as file:
            begin = file.read(size)
        return hashlib.sha256(begin).hexdigest() if len(begin) == size else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
            os.fsync(self._file.fileno())
            self._check_name()
        except OSError:
            self._file.truncate(self.size)  # a part of the line may be there; making a file shorter needs no space
            raise

    def _check_name(self) -> None:
        """FileNotFoundError where the open file is not the one of this name any more: what it holds will be gone."""
        if not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
            raise FileNotFoundError(errno.ENOENT, "the file was removed or replaced", str(self.path))


def read_trials(path: Path, space: SearchSpace | None = None) -> list[Trial]:
    """The trials of a journal, which may be one that is being written now; with `space` as for `Journal`.

    Raises:
        InputError: There is no such file.
        CorruptFileError: A line other than an unfinished last one is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "nascli search makes a run with this file") from error
    return _read(content, path, space)[0]


def _read(content: bytes, path: Path, space: SearchSpace | None) -> tuple[list[Trial], list[tuple[int, int]], int]:
    *lines, unfinished = content.split(b"\n")
    trials: list[Trial] = []
    finishes: list[tuple[int, int]] = []
    with _pause_gc():
        for number, line in enumerate(lines, start=1):
            try:
                event = _EVENTS.validate_python(parse_line(line))
                if isinstance(event, Proposed) and space is not None:
                    _check_proposed(event, space)
                changed = _apply(trials, event)
            except (ValueError, RecursionError) as error:
                raise CorruptFileError(
                    f"{path}, line {number}: {_reason(error)}", _advise_cut(path, number - 1), file=path
                ) from error
            _store(changed, event, trials, finishes)
    if (
        not _LINE_BEGIN.startswith(unfinished[: len(_LINE_BEGIN)]) or b"\0" in unfinished or not is_torn(unfinished)
    ):  # which no kill leaves
        what = f"{path}, line {len(lines) + 1}: not the beginning of a line of a journal"
        raise CorruptFileError(what, _advise_cut(path, len(lines)), file=path)
    return trials, finishes, len(content) - len(unfinished)


@contextmanager
def _pause_gc() -> Iterator[None]:
    """No search for cycles meanwhile: none is made, and with ten thousand trials it takes longer than reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _advise_cut(path: Path, whole: int) -> str:
    """The way on from the lines before a damaged one."""
    if not whole:
        return "Copy it again from where it was written, or start a new search"
    kept = quote(f"{path}.whole")
    lines = "line, which is" if whole == 1 else f"{whole} lines, which are"
    return (
        f"Copy it again from where it was written; or go on from the first {lines} whole, and search the rest again: "
        f"head -n {whole} {quote(path)} > {kept} && mv {kept} {quote(path)}, then --resume"
    )


def _check_proposed(event: Proposed, space: SearchSpace) -> None:
    """Hold what a proposed line says of its genotype against the genotype; ValueError where it differs."""
    genotype, found = event.genotype, event.genotype.canonical_hash()
    if found != event.hash:
        raise ValueError(f"hash is {event.hash}, but that of its genotype is {found}")
    with suppress(InputError):  # quicker than decoding; where several sequences give one genotype, that decides
        if genotype.space == space.name and space.encode(genotype) == event.tokens:
            return
    try:
        decoded = space.decode(event.tokens, name=genotype.name)
    except InputError as error:
        raise ValueError(f"tokens cannot be decoded: {error.message}") from error
    if decoded != genotype:
        raise ValueError(f"tokens are those of another genotype ({decoded.canonical_hash()}) than the line has")


def _store(changed: Trial, event: Event, trials: list[Trial], finishes: list[tuple[int, int]]) -> None:
    trials[changed.id : changed.id + 1] = [changed]
    if isinstance(event, Finished | Failed):
        finishes.append((changed.id, len(trials)))


def _apply(trials: list[Trial], event: Event) -> Trial:
    """The trial that `event` makes or finishes; ValueError where the event cannot follow those before it."""
    if isinstance(event, Proposed):
        if event.trial != len(trials):
            raise ValueError(f"trial {event.trial} is proposed where {len(trials)} is due")
        if event.duplicate_of is not None and not 0 <= event.duplicate_of < event.trial:
            raise ValueError(f"trial {event.trial} duplicates trial {event.duplicate_of}, which is not an earlier one")
        if event.duplicate_of is not None and trials[event.duplicate_of].hash != event.hash:
            raise ValueError(f"trial {event.trial} duplicates trial {event.duplicate_of}, which has another hash")
        return event.begin()
    if event.trial >= len(trials):
        raise ValueError(f"a result for trial {event.trial}, which was not proposed")
    trial = trials[event.trial]
    match event:
        case Failed():
            _check_taken(trial, trials, event.failure)
            return trial.fail(event.failure, event.reward)
        case Advanced():
            return trial.advance(Rung(epochs=event.epochs, score=event.score))
        case Reranked():
            ranked = event.model_dump(exclude={"event", "trial"})
            return trial.add_rerank(Rerank(**ranked))
        case Finished():
            _check_taken(trial, trials, event.score)
            if event.stopped and trial.duplicate_of is None and not _is_same(event.score, trial.rungs[-1:]):
                raise ValueError(f"trial {trial.id} stopped with another score than that of its last rung")
            return trial.complete(event.score, stopped=event.stopped)


def _check_taken(trial: Trial, trials: list[Trial], result: Score | Failure) -> None:
    """Hold the result of a duplicate against that of its trial, but for the seconds (ValueError)."""
    if trial.duplicate_of is None or trial.finished:
        return
    first = trials[trial.duplicate_of]
    same = first.failure == result if isinstance(result, Failure) else _is_same(result, [first])
    if not same:
        raise ValueError(f"trial {trial.id} duplicates trial {first.id}, but has another result")


def _is_same(score: Score, others: Sequence[Trial | Rung]) -> bool:
    """Whether a score is that of the first of the others, but for its seconds."""
    return any(each.score and replace(each.score, seconds=score.seconds) == score for each in others)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return describe_error(error)
    return f"not JSON ({error})" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
