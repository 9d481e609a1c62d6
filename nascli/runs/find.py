"""Run folders that are there already: found, told from other folders, and read."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.locks import LOCK_FILE
from nascli.partial import is_temporary
from nascli.records import read_record
from nascli.references import is_reference, locate
from nascli.runs.folder import FIRST_FILES
from nascli.runs.record import DETECTOR_FILE, RECIPE_FILE, RUN_FILE, read_run_record
from nascli.text import quote
from nascli.units import count_of

USES = {
    "search": "nascli report {0} and nascli train --cell {0} take it",
    "train": "nascli evaluate {0} and nascli detect --backbone {0} take it; nascli train --resume {0} resumes it",
    "detect": "nascli detect predict --run {0} and nascli detect export FILE --run {0} take it; "
    "nascli detect --resume {0} resumes it",
}
"""The commands for a run of each command."""

_DATA_FOLDERS = ("train", "val", "valid", "test", "annotations", "images", "labels", "train2017")


def read_run(path: Path, command: str | None = None) -> dict[str, Any]:
    """The content of `run.json`; InputError if the folder is no run folder, or of another command."""
    if not (path / RUN_FILE).is_file():
        raise InputError(f"{path}: not a run folder (there is no {RUN_FILE} in it)", advise_folder(path), file=path)
    record = read_run_record(path)
    found = str(record.get("command"))
    if command is not None and found != command:
        use = USES.get(found, "").format(quote(path))
        if not use:
            raise CorruptFileError(f"{path / RUN_FILE}: command is {found!r}, which makes no run", file=path / RUN_FILE)
        raise InputError(f"{path} is a run of nascli {found}, not of nascli {command}", use, file=path)
    return record


def find_run(spec: str, command: str, runs: Path, note: Callable[[str], None] = lambda text: None) -> Path:
    """The folder that a path, or `latest`, stands for: a run of the command, or a network of `nascli build`.

    For `hf:ORG/NAME` it is the folder that the hub's cache has of that network, for `zoo:NAME` that of the zoo.

    Args:
        note: Called where `latest` is no link (it could not be made), so that the run that began last is found by its
            record.

    Raises:
        InputError: There is none, or it is a run of another command; the message names the newest there is, or says
            which command makes one, or what takes the run.
    """
    if is_reference(spec):
        return _fetch(spec, note)
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


def _fetch(reference: str, note: Callable[[str], None]) -> Path:
    path = locate(reference, note)
    if path.is_file():
        raise InputError(
            f"{reference} holds weights of another tool, {path.name}",
            f"nascli build --cell CELL --preset PRESET --import-weights {reference} --out DIR makes a network of them",
        )
    return path


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


def has_only_begun(path: Path) -> bool:
    """Whether a folder is one of a run that lost its `run.json`, and holds no more than a run begins with."""
    if not ((path / RECIPE_FILE).is_file() and (path / LOCK_FILE).is_file()):
        return False
    return all(each.name in (LOCK_FILE, *FIRST_FILES) or is_temporary(each.name) for each in path.iterdir())


def advise_folder(path: Path) -> str:
    """The kind of a folder that was taken for another run, and the one to give; empty where it shows nothing."""
    if has_only_begun(path):
        return "A run began there, and nothing of it was recorded: give its command again, with --overwrite"
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


def refuse_detector(path: Path) -> None:
    """InputError where a folder holds a detector, and the network of a train run is wanted."""
    if (path / DETECTOR_FILE).is_file():
        use = USES["detect"].format(quote(path))
        raise InputError(f"{path} holds a detector of nascli detect, not a network of nascli train", use)


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
