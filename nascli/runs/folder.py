"""A run folder in use: locked, and written so that a kill never leaves half a file.

`run.json` is a run's first file, but for the weights that it may begin with. In its key `start` stands what is to be
done before the run begins: which files are written, and whether the folder is emptied. A kill in the middle leaves that
there, and `resume_run` does the rest.
So a folder that is being overwritten is the old run up to one rename, and the new run from then on.
"""

import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nascli.config import Section, to_toml
from nascli.errors import CannotWriteError
from nascli.files import make_inner_folder, write_text, writing
from nascli.locks import LOCK_FILE
from nascli.records import write_record
from nascli.runs.record import DETECTOR_FILE, RECIPE_FILE, RUN_FILE, START, START_FILE
from nascli.text import quote

_GONE = "was removed, renamed or replaced while the run went on"

FIRST_FILES = (RECIPE_FILE, "network.json", DETECTOR_FILE, START_FILE)
"""The files that may be written with `run.json` when a run starts."""


class RunFolder:
    """A locked run folder.

    Made by `create_run` or `resume_run` (`nascli.runs.start`), and used as a context manager. On leaving, `run.json`
    gets its final status: `complete`, `failed` with the error, or `interrupted`; the lock is released.
    """

    def __init__(self, path: Path, lock: IO[bytes], record: dict[str, Any]) -> None:
        self.path = path
        self._lock = lock
        self._record = record
        self._is_written = (path / RUN_FILE).is_file()
        self._runs = False

    def begin(self, **fields: object) -> None:
        """Set the status `running`, and fields of `run.json`; entering the context does so, too."""
        self._runs = True
        self.update(status="running", host=socket.gethostname(), error=None, finished=None, **fields)

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the lock where the block raises, and leave everything as it is."""
        try:
            yield
        except BaseException:
            self._lock.close()
            raise

    def file(self, name: str) -> Path:
        """The path of a file in this folder, or in one in it, which is made; CannotWriteError where that fails."""
        path = self.path / name
        self._check_there(path)
        if path.parent != self.path:
            make_inner_folder(path.parent)
        return path

    def update(self, **fields: object) -> None:
        """Set fields of `run.json` (for instance `results={...}`) and write it; CannotWriteError where that fails."""
        self._record |= fields
        self._check_there(self.path / RUN_FILE)
        write_record(self.path / RUN_FILE, self._record)
        self._is_written = True

    def move_inputs(
        self, recipe: Section, keys: Mapping[str, Iterable[str]], data: Mapping[str, object] | None = None
    ) -> None:
        """Record that the same inputs have another place now.

        Args:
            recipe: The recipe that the run resumes with; `recipe.toml` becomes it.
            keys: Keys of the recipe by section that may differ; everything else in `run.json` stays as it was.
            data: The identity of the data, where the run records it.
        """
        now = recipe.model_dump(mode="json", exclude_none=True)
        moved = dict(self._record["recipe"])
        for section, names in keys.items():
            moved[section] = moved[section] | {key: now[section][key] for key in names if key in now[section]}
        identity: dict[str, Any] = {} if data is None else {"data": dict(data)}
        self.start({RECIPE_FILE: to_toml(recipe)}, recipe=moved, **identity)

    def start(self, files: Mapping[str, str], *, empty: bool = False, **fields: object) -> None:
        """Set fields of `run.json` and write files, so that a kill in between leaves nothing half done.

        Args:
            files: Texts by name, of `FIRST_FILES`.
            empty: Remove everything else before.
        """
        self.update(**fields, **{START: {"empty": empty, "files": dict(files)}})
        self.finish_start()

    def finish_start(self) -> None:
        """Do what `start` in `run.json` says, if it is there, from wherever a kill left it."""
        work = self._record.get(START)
        if not isinstance(work, dict):
            return
        with writing(self.path):
            if work.get("empty") is True:
                kept = (LOCK_FILE, RUN_FILE, *work.get("kept", ()))
                remove_entries(each for each in self.path.iterdir() if each.name not in kept)
        for name, text in dict(work.get("files", ())).items():
            if name in FIRST_FILES:
                write_text(self.path / name, str(text))
        del self._record[START]
        self.update()

    def __enter__(self) -> "RunFolder":
        if not self._runs:
            self.begin(resumed=self._record.get("resumed", 0) + 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._explain(error)
        try:
            self.update(status=_status(error), error=None if error is None else str(error), finished=now())
        except CannotWriteError as unwritten:  # a full disk must not hide the error that is on its way
            if error is None:
                self._explain(unwritten)
                raise
        finally:
            self._lock.close()

    def _check_there(self, path: Path) -> None:
        if not self._is_there():
            raise CannotWriteError(f"{path} cannot be written: the folder of the run {_GONE}", file=path)

    def _is_there(self) -> bool:
        """Whether the folder is still this run's: its record is there, and its lock is none of another process."""
        with suppress(OSError):
            if not os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self.path / LOCK_FILE)):
                return False
        return not self._is_written or (self.path / RUN_FILE).is_file()

    def _explain(self, error: BaseException | None) -> None:
        """Say of a write that failed how the run goes on once there is room: what was finished is safe."""
        if not isinstance(error, CannotWriteError):
            return
        if not self._is_there():
            error.hint = f"The folder {self.path} {_GONE}: nothing more is written"
        else:
            resume = f"nascli {self._record['command']} --resume {quote(self.path)}"
            error.hint = f"{error.hint}; nothing that was finished is lost, and this resumes the run: {resume}"


def remove_entries(entries: Iterable[Path]) -> None:
    """Remove files, and folders with what is in them."""
    for entry in list(entries):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "complete"
    return "interrupted" if getattr(error, "exit_code", 1) == 130 or isinstance(error, KeyboardInterrupt) else "failed"


def now() -> str:
    """The time as it stands in `run.json`."""
    return datetime.now(UTC).isoformat(timespec="seconds")
