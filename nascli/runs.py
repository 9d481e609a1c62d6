"""Run folders: where a command puts its files, written so that a kill never leaves half a file.

A run folder is `<runs>/<command>/<time>-<name>/`; `<runs>/<command>/latest` points to the newest. It holds `run.json`
(what was asked, the resolved recipe, versions, device, SHA-256 of every input file, status, times) and `recipe.toml`.
One process at a time writes a run folder: the lock is the kernel's, so it ends with its process however that ends.

`run.json` is a run's first file, and in its key `start` stands what is to be done before the run begins: which files
are written, and whether the folder is emptied. A kill in the middle leaves that there, and `resume_run` does the rest.
So a folder that is being overwritten is the old run up to one rename, and the new run from then on.
"""

import errno
import itertools
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nascli.config import Section, to_toml
from nascli.errors import CannotWriteError, CorruptFileError, InputError, NascliError
from nascli.files import (
    PARTIAL,
    read_record,
    remove_partial,
    sha256_file,
    temporary_beside,
    write_record,
    write_text,
    writing,
)
from nascli.locks import LOCK_FILE, lock_folder, remove_lock
from nascli.run_record import RECIPE_FILE, RUN_FILE, START, read_run_record
from nascli.text import quote
from nascli.units import count_of

DETECTOR_FILE = "detector.json"
"""The numbers and classes of a detector, beside its network.json."""

_FIRST_FILES = (RECIPE_FILE, "network.json", DETECTOR_FILE)
"""The files that may be written with `run.json` when a run starts."""

_USES = {
    "search": "nascli report {0} and nascli train --cell {0} take it",
    "train": "nascli evaluate {0} and nascli detect --backbone {0} take it; nascli train --resume {0} resumes it",
    "detect": "nascli detect predict --run {0} takes it; nascli detect --resume {0} resumes it",
}
"""The commands for a run of each command."""

_DATA_FOLDERS = ("train", "val", "valid", "test", "annotations", "images", "labels", "train2017")

_GONE = "was removed, renamed or replaced while the run went on"
_IN_USE = "Wait for it, stop it, or choose another --out"
_PACKAGES = ("nascli", "torch", "torchvision", "numpy")


class RunFolder:
    """A locked run folder.

    Made by `create_run` or `resume_run`, and used as a context manager. On leaving, `run.json` gets its final status:
    `complete`, `failed` with the error, or `interrupted`; the lock is released.
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
        with writing(path):
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
        return path

    def update(self, **fields: object) -> None:
        """Set fields of `run.json` (for instance `results={...}`) and write it; CannotWriteError where that fails."""
        self._record |= fields
        self._check_there(self.path / RUN_FILE)
        write_record(self.path / RUN_FILE, self._record)
        self._is_written = True

    def move_data(self, recipe: Section, keys: Iterable[str], data: Mapping[str, object] | None = None) -> None:
        """Record that the same data have another place now.

        Args:
            recipe: The recipe that the run resumes with; `recipe.toml` becomes it.
            keys: Keys of the recipe's section `data` that may differ; everything else in `run.json` stays as it was.
            data: The identity of the data, where the run records it.
        """
        now = recipe.model_dump(mode="json", exclude_none=True)["data"]
        begun = self._record["recipe"]
        moved = begun["data"] | {key: now[key] for key in keys if key in now}
        identity: dict[str, Any] = {} if data is None else {"data": dict(data)}
        self.start({RECIPE_FILE: to_toml(recipe)}, recipe=begun | {"data": moved}, **identity)

    def start(self, files: Mapping[str, str], *, empty: bool = False, **fields: object) -> None:
        """Set fields of `run.json` and write files, so that a kill in between leaves nothing half done.

        Args:
            files: Texts by name, of `_FIRST_FILES`.
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
                _remove(each for each in self.path.iterdir() if each.name not in (LOCK_FILE, RUN_FILE))
        for name, text in dict(work.get("files", ())).items():
            if name in _FIRST_FILES:
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
            self.update(status=_status(error), error=None if error is None else str(error), finished=_now())
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
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "argv": sys.argv[1:],
    }
    first = {RECIPE_FILE: to_toml(recipe), **(files or {})}
    with _open_new(runs / command, name, out, overwrite, sources) as (path, lock, is_empty):
        run = RunFolder(path, lock, record)
        run.begin(started=_now(), resumed=0, **{START: {"empty": not is_empty, "files": first}})
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


def read_run(path: Path, command: str | None = None) -> dict[str, Any]:
    """The content of `run.json`; InputError if the folder is no run folder, or of another command."""
    if not (path / RUN_FILE).is_file():
        raise InputError(f"{path}: not a run folder (there is no {RUN_FILE} in it)", advise_folder(path), file=path)
    record = read_run_record(path)
    found = str(record.get("command"))
    if command is not None and found != command:
        use = _USES.get(found, "").format(quote(path))
        raise InputError(f"{path} is a run of nascli {found}, not of nascli {command}", use, file=path)
    return record


def advise_folder(path: Path) -> str:
    """The kind of a folder that was taken for another run, and the one to give; empty where it shows nothing."""
    inside = sorted((each.parent for each in path.glob(f"*/{RUN_FILE}")), key=lambda run: run.stat().st_mtime)
    if inside:
        return f"It holds {count_of(len(inside), 'run')}: give {inside[-1]}" + (" or another" if inside[1:] else "")
    if any((path / name).is_dir() for name in _DATA_FOLDERS):
        return "It looks like a data set, which is for --dataset"
    if (path / DETECTOR_FILE).is_file():
        return "It is a detector that nascli detect wrote"
    if (path / "network.json").is_file():
        weights = (path / "weights.safetensors").is_file()
        return "It is a network that nascli build wrote" + ("" if weights else ", without weights")
    return ""


def check_same_data(
    folder: Path, now: Mapping[str, Any], describe: Callable[[Mapping[str, Any]], str], remedy: str
) -> None:
    """Refuse to resume a run with other data than those that its `run.json` records, if it records some.

    Args:
        now: The identity of the data: their `name`, counts, and a `sha256`, which alone is compared.
        describe: The counts in words.

    Raises:
        InputError: They differ; the message has both counts.
    """
    before = read_run(folder).get("data")
    if before is None or before["sha256"] == now["sha256"]:
        return
    counts = [describe(each) for each in (before, now)]
    difference = f"{counts[0]}, now there are {counts[1]}" if len(set(counts)) == 2 else f"other {counts[0]}"
    raise InputError(f"{folder} was begun with {difference} (data set {now['name']})", remedy)


def find_run(spec: str, command: str, runs: Path, note: Callable[[str], None] = lambda text: None) -> Path:
    """The folder that a path, or `latest`, stands for: a run of the command, or a network of `nascli build`.

    Args:
        note: Called where `latest` is no link (it could not be made), so that the run that began last is found by its
            record.

    Raises:
        InputError: There is none, or it is a run of another command; the message names the newest there is, or says
            which command makes one, or what takes the run.
    """
    path = runs / command / "latest" if spec == "latest" else Path(spec)
    if spec == "latest" and not path.is_symlink() and not is_run(path) and (newest := _find_newest(path.parent)):
        note(f"latest is {newest}, which began last: {path} is no link")
        return newest
    if path.is_dir():
        if (path / RUN_FILE).is_file():
            with suppress(CorruptFileError):  # a run without its record can still be used
                read_run(path, command)
        return path.resolve() if path.is_symlink() else path
    made = f"nascli {command} makes one"
    if path.exists():
        hint = f"Give the folder that it is in: {quote(path.parent)}" if is_run(path.parent) else made
        raise InputError(f"run {path} is a file, not a folder", hint, file=path)
    newest = _find_newest(path.parent) if path.name == "latest" else None
    hint = f"The newest run there is {newest}" if newest else made
    gone = f"{os.readlink(path)}, to which it points, is gone" if path.is_symlink() else "no such folder"
    raise InputError(f"run {path}: {gone}", hint, file=path)


def _find_newest(folder: Path) -> Path | None:
    """The run in a folder that began last."""
    began = {}
    for file in folder.glob(f"*/{RUN_FILE}"):
        with suppress(NascliError):
            began[file.parent] = (str(read_record(file).get("started")), file.stat().st_mtime_ns)
    return max(sorted(began), key=began.__getitem__, default=None)


def is_run(path: Path) -> bool:
    """Whether a folder is a run of nascli, or a network that it built."""
    return any((path / name).is_file() for name in (RUN_FILE, "network.json"))


def refuse_detector(path: Path) -> None:
    """InputError where a folder holds a detector, and the network of a train run is wanted."""
    if (path / DETECTOR_FILE).is_file():
        use = _USES["detect"].format(quote(path))
        raise InputError(f"{path} holds a detector of nascli detect, not a network of nascli train", use)


def versions() -> dict[str, str]:
    """The versions of Python and the packages that a result depends on."""
    from importlib import metadata  # here, since it searches every installed package

    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}


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
            on_failure.callback(_remove, [path / each for each in (RUN_FILE, *_FIRST_FILES)])
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
    names = {each.name for each in path.iterdir() if not _is_left_over(each.name)}
    if not names:
        return True
    is_run = _is_own(path, names)
    if not overwrite:
        ways = "Resume it with --resume, replace it with --overwrite, or choose" if is_run else "Choose"
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


def _is_left_over(name: str) -> bool:
    """Whether a kill before `run.json` was there leaves a file of this name."""
    return name == LOCK_FILE or (name.startswith(f".{RUN_FILE}.") and name.endswith(PARTIAL))


def _is_own(path: Path, names: set[str]) -> bool:
    """Whether a folder is one of nascli's runs: by its `run.json`, or where that is damaged or lost, by its others."""
    record = path / RUN_FILE
    if record.is_symlink() or (record.exists() and not record.is_file()):
        return False
    with suppress(NascliError):
        return str(read_record(record).get("command")) in _USES
    begun = RECIPE_FILE in names and (path / LOCK_FILE).is_file()
    return begun and (RUN_FILE in names or names <= set(_FIRST_FILES))


def _remove(entries: Iterable[Path]) -> None:
    for entry in list(entries):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)


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


def _status(error: BaseException | None) -> str:
    if error is None:
        return "complete"
    return "interrupted" if getattr(error, "exit_code", 1) == 130 or isinstance(error, KeyboardInterrupt) else "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
