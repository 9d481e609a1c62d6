"""Runs that begin or are resumed, each in a folder of its own.

A run folder is `<runs>/<command>/<time>-<name>/`; `<runs>/<command>/latest` points to the newest. It holds `run.json`
(what was asked, the resolved recipe, versions, device, SHA-256 of every input file, status, times) and `recipe.toml`.
One process at a time writes a run folder: the lock is the kernel's, so it ends with its process however that ends.
"""

import errno
import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from nascli.config import Section, to_toml
from nascli.errors import InputError, NascliError
from nascli.files import writing
from nascli.locks import LOCK_FILE, lock_folder, remove_lock
from nascli.partial import is_temporary, remove_partial, temporary_beside
from nascli.reading import sha256_file
from nascli.records import read_record
from nascli.runs.find import USES, has_only_begun, read_run
from nascli.runs.folder import FIRST_FILES, RunFolder, now, remove_entries
from nascli.runs.record import RECIPE_FILE, RUN_FILE, START, START_FILE, versions

_IN_USE = "Wait for it, stop it, or choose another --out"


def create_run(
    command: str,
    name: str,
    recipe: Section,
    *,
    runs: Path,
    out: Path | None = None,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
    files: Mapping[str, str] | None = None,
    device: Mapping[str, str | bool] | None = None,
    write_start: Callable[[Path], None] | None = None,
    note: Callable[[str], None] = lambda text: None,
    **facts: object,
) -> RunFolder:
    """A new run folder, locked, with `run.json` and `recipe.toml` in it.

    A folder that is refused stays as it was, and where the start fails no folder is left.

    Args:
        name: Ends the folder's name; for instance data set and strategy.
        out: The folder to use instead of `<runs>/<command>/<time>-<name>`.
        overwrite: Empty the folder first if it holds an earlier run.
        inputs: Files whose SHA-256 goes into `run.json`.
        files: Texts of further files to begin with, by name: `network.json`, `detector.json`.
        device: What the machine's entry has besides, of a run on a GPU.
        write_start: Writes the weights that the run begins with, `START_FILE`, into the folder it is called with.
        note: Called where `latest` cannot be made to point to the run.
        facts: Further fields of `run.json`: `asked`, the user's options beyond the recipe; `data`, the identity of the
            data, by which a resumed run recognizes them.

    Raises:
        InputError: The folder is not empty, or another process writes it.
        CannotWriteError: The folder cannot be written.
    """
    sources = list(inputs)
    record = {
        "command": command,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        **facts,
        "inputs": {str(p): sha256_file(p) for p in sources},
        "versions": versions(),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), **(device or {})},
        "argv": sys.argv[1:],
    }
    first = {RECIPE_FILE: to_toml(recipe), **(files or {})}
    with _open_new(runs / command, name, out, overwrite, sources) as (path, lock, is_empty):
        if write_start is not None:  # before run.json, with which the run is there and can be resumed
            write_start(path)
        run = RunFolder(path, lock, record)
        kept = [] if write_start is None else [START_FILE]
        run.begin(started=now(), resumed=0, **{START: {"empty": not is_empty, "kept": kept, "files": first}})
        run.finish_start()
    if out is None:
        _point_latest(path, note)
    return run


def resume_run(path: Path, command: str) -> RunFolder:
    """The run folder of an earlier run of the same command, locked, and with the files that it starts with.

    It counts as running when its context is entered.

    Raises:
        InputError: There is no run of that command, or another process writes it.
        CorruptFileError: Its `run.json` is damaged.
        CannotWriteError: The folder cannot be written.
    """
    read_run(path, command)  # what is no such run is not touched
    with ExitStack() as on_failure:
        lock = on_failure.enter_context(lock_folder(path, remedy=_IN_USE))
        run = RunFolder(path, lock, read_run(path, command))  # another process may have had it until now
        remove_partial(path, deep=True)
        run.finish_start()
        on_failure.pop_all()
    return run


@contextmanager
def _open_new(
    folder: Path, name: str, out: Path | None, overwrite: bool, inputs: Sequence[Path]
) -> Iterator[tuple[Path, IO[bytes], bool]]:
    """The folder of a new run, its lock, and whether the folder is empty; where the block fails, it is as it was.

    It is looked at before anything is written to it, and again under the lock: another process may have been quicker.
    """
    with writing(out or folder), ExitStack() as on_failure:
        path, is_new = (out, False) if out else (_make_folder(folder, name), True)
        if not is_new:
            _check_room(path, overwrite, inputs)
            is_new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
        if is_new:
            on_failure.callback(_remove_empty, path)
        is_lock_new = not (path / LOCK_FILE).exists()
        lock = on_failure.enter_context(lock_folder(path, remedy=_IN_USE))
        is_empty = _check_room(path, overwrite, inputs)
        if is_lock_new:
            on_failure.callback(remove_lock, path)
        if is_empty:
            on_failure.callback(remove_entries, [path / each for each in (RUN_FILE, *FIRST_FILES)])
            remove_partial(path)
        yield path, lock, is_empty
        on_failure.pop_all()


def _make_folder(folder: Path, name: str) -> Path:
    """A folder of this process alone, named by the time."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    for n in itertools.count(1):
        path = folder / (stem if n == 1 else f"{stem}-{n}")
        with suppress(FileExistsError):
            path.mkdir()
            break
    return path


def _check_room(path: Path, overwrite: bool, inputs: Sequence[Path]) -> bool:
    """Refuse a folder that a new run may not take, without a change to it; whether it is empty.

    Raises:
        InputError: It is no folder, or not empty and not to be overwritten, or not a run's.
    """
    if not path.is_dir():
        if path.exists() or path.is_symlink():
            raise InputError(f"{path} is no folder", "Choose another --out", file=path)
        return True
    names = {each.name for each in path.iterdir() if each.name != LOCK_FILE and not is_temporary(each.name)}
    if not names:
        return True
    is_run = _is_own(path, names)
    if not overwrite:
        ways = "Resume it with --resume, replace it with --overwrite, or choose" if is_run else "Choose"
        if is_run and has_only_begun(path):
            ways = "Replace it with --overwrite, or choose"
        raise InputError(f"{path} is not empty", f"{ways} another --out", file=path)
    if not is_run:
        raise InputError(
            f"{path} is not a run folder, so --overwrite does not empty it", "Choose another --out", file=path
        )
    for each in inputs:
        if each.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"{path} has {each} in it, from which the new run is made, so --overwrite does not empty it",
                "Choose another --out",
                file=path,
            )
    return False


def _is_own(path: Path, names: set[str]) -> bool:
    """Whether a folder is one of nascli's runs: by its `run.json`, or where that is damaged or lost, by its others."""
    record = path / RUN_FILE
    if record.is_symlink() or (record.exists() and not record.is_file()):
        return False
    with suppress(NascliError):
        return str(read_record(record).get("command")) in USES
    damaged = {RUN_FILE, RECIPE_FILE} <= names and (path / LOCK_FILE).is_file()
    return damaged or has_only_begun(path)


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


def _point_latest(path: Path, note: Callable[[str], None]) -> None:
    """Make `latest` point to a run; it is a comfort, so that one note is all where it cannot be made.

    What has that name and is no link to a neighbor is the user's.
    """
    link = path.parent / "latest"
    temporary = temporary_beside(link)
    try:
        if "/" in os.readlink(link) if link.is_symlink() else link.exists():
            raise FileExistsError(errno.EEXIST, "it is there already, and was not made by nascli")
        temporary.symlink_to(path.name)
        temporary.replace(link)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        note(f"{link} does not lead to this run ({error.strerror}); give its path instead: {path}")
