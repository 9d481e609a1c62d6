"""Run folders: where a command puts its files, written so that a kill never leaves half a file.

A run folder is `<runs>/<command>/<time>-<name>/`; `<runs>/<command>/latest` points to the newest. It holds `run.json`
(what was asked, the resolved recipe, versions, device, SHA-256 of every input file, status, times) and `recipe.toml`.
One process at a time writes a run folder: the lock is the kernel's, so it ends with its process however that ends.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nascli.config import Section, to_toml
from nascli.errors import CannotWriteError, CorruptFileError, InputError
from nascli.files import read_record, remove_partial, sha256_file, write_record, write_text, writing
from nascli.locks import LOCK_FILE, lock_folder
from nascli.text import quote
from nascli.units import count_of

RUN_FILE = "run.json"
"""The record of a run, in its folder."""

DETECTOR_FILE = "detector.json"
"""The numbers and classes of a detector, beside its network.json."""

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

    def file(self, name: str) -> Path:
        """The path of a file in this folder, or in one in it, which is made; CannotWriteError where that fails."""
        path = self.path / name
        with writing(path):
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
        return path

    def update(self, **fields: object) -> None:
        """Set fields of `run.json` (for instance `results={...}`) and write it; CannotWriteError where that fails."""
        self._record |= fields
        if not self._is_there():
            raise CannotWriteError(f"{self.path / RUN_FILE} cannot be written: the folder of the run {_GONE}")
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
        write_text(self.path / "recipe.toml", to_toml(recipe))
        identity = {} if data is None else {"data": dict(data)}
        self.update(recipe=begun | {"data": moved}, **identity)

    def __enter__(self) -> "RunFolder":
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

    def _is_there(self) -> bool:
        """Whether the folder is still this run's: its record is there, and its lock is none of another process."""
        with suppress(FileNotFoundError):
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
    **facts: object,
) -> RunFolder:
    """A new run folder, locked, with `run.json` and `recipe.toml` in it.

    Args:
        name: Ends the folder's name; for instance data set and strategy.
        out: The folder to use instead of `<runs>/<command>/<time>-<name>`.
        overwrite: Empty the folder first if it holds an earlier run.
        inputs: Files whose SHA-256 goes into `run.json`.
        facts: Further fields of `run.json`: `asked`, the user's options beyond the recipe; `data`, the identity of the
            data, by which a resumed run recognizes them.

    Raises:
        InputError: The folder is not empty, or another process writes it.
        NascliError: The folder cannot be written.
    """
    path = out or _choose_folder(runs / command, name)
    with ExitStack() as on_failure:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = on_failure.enter_context(lock_folder(path, remedy=_IN_USE))
            _make_room(path, overwrite)
            record = {
                "command": command,
                "recipe": recipe.model_dump(mode="json", exclude_none=True),
                **facts,
                "inputs": {str(p): sha256_file(p) for p in inputs},
                "versions": versions(),
                "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
                "argv": sys.argv[1:],
            }
            run = RunFolder(path, lock, record)
            write_text(path / "recipe.toml", to_toml(recipe))
            run.update(status="running", started=_now(), resumed=0)
            if out is None:
                _point_latest(path)
        on_failure.pop_all()
    return run


def resume_run(path: Path, command: str) -> RunFolder:
    """The run folder of an earlier run of the same command, locked.

    Raises:
        InputError: There is no run of that command, or another process writes it.
        CorruptFileError: Its `run.json` is damaged.
        NascliError: The folder cannot be written.
    """
    record = read_run(path, command)
    with ExitStack() as on_failure:
        lock = on_failure.enter_context(lock_folder(path, remedy=_IN_USE))
        remove_partial(path, deep=True)
        run = RunFolder(path, lock, record)
        run.update(status="running", resumed=int(record.get("resumed", 0)) + 1, error=None, finished=None)
        on_failure.pop_all()
    return run


def read_run(path: Path, command: str | None = None) -> dict[str, Any]:
    """The content of `run.json`; InputError if the folder is no run folder, or of another command."""
    if not (path / RUN_FILE).is_file():
        raise InputError(f"{path}: not a run folder (there is no {RUN_FILE} in it)", advise_folder(path), file=path)
    record = read_record(path / RUN_FILE)
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


def find_run(spec: str, command: str, runs: Path) -> Path:
    """The folder that a path, or `latest`, stands for: a run of the command, or a network of `nascli build`.

    Raises:
        InputError: There is none, or it is a run of another command; the message names the newest there is, or says
            which command makes one, or what takes the run.
    """
    path = runs / command / "latest" if spec == "latest" else Path(spec)
    if path.is_dir():
        if (path / RUN_FILE).is_file():
            with suppress(CorruptFileError):  # a run without its record can still be used
                read_run(path, command)
        return path.resolve() if path.is_symlink() else path
    made = f"nascli {command} makes one"
    if path.exists():
        hint = f"Give the folder that it is in: {quote(path.parent)}" if is_run(path.parent) else made
        raise InputError(f"run {path} is a file, not a folder", hint, file=path)
    others = [each.parent for each in path.parent.glob(f"*/{RUN_FILE}")] if path.name == "latest" else []
    newest = max(others, key=lambda each: (each / RUN_FILE).stat().st_mtime, default=None)
    hint = f"The newest run there is {newest}" if newest else made
    gone = f"{os.readlink(path)}, to which it points, is gone" if path.is_symlink() else "no such folder"
    raise InputError(f"run {path}: {gone}", hint, file=path)


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


def _choose_folder(folder: Path, name: str) -> Path:
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, 1000))
    return next(folder / n for n in names if not (folder / n).exists())


def _make_room(path: Path, overwrite: bool) -> None:
    inside = [entry for entry in path.iterdir() if entry.name != LOCK_FILE]
    if inside and not overwrite:
        raise InputError(
            f"{path} is not empty", "Resume it with --resume, replace it with --overwrite, or choose another --out"
        )
    if inside and not (path / RUN_FILE).is_file():
        raise InputError(f"{path} is not a run folder, so --overwrite does not empty it")
    for entry in inside:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _point_latest(path: Path) -> None:
    link = path.parent / "latest"
    temporary = path.parent / f".latest-{os.getpid()}"
    temporary.symlink_to(path.name)
    temporary.replace(link)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "complete"
    return "interrupted" if getattr(error, "exit_code", 1) == 130 or isinstance(error, KeyboardInterrupt) else "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
