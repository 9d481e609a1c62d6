"""The runs below a folder, each summed up from its files."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nascli.config import find_evaluator
from nascli.errors import CorruptFileError, NascliError
from nascli.locks import is_locked
from nascli.progress import PROGRESS, read_progress
from nascli.runs.record import RUN_FILE, read_run_record

DEEPEST = 4
"""Folders below the given one in which runs are found."""

FILES = {
    "search": ("best.json", "trials.jsonl"),
    "train": ("weights.safetensors", "metrics.jsonl", "evaluation.json"),
    "detect": ("weights.safetensors", "detection.json", "detections", "predictions"),
}
"""The files of a run of each command to open next."""


SILENT = 300.0
"""Seconds without a sign after which a run of another machine counts as silent."""

_SIGNS = ("run.json", PROGRESS, "metrics.jsonl", "trials.jsonl", "checkpoint.pt")


def find_runs(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """The run folders in a folder, or it itself."""
    if (folder / "run.json").is_file():
        yield folder
    elif depth:
        try:
            inner = sorted(folder.iterdir())
        except OSError:  # a folder that may not be looked into holds no run of this user
            return
        for inside in inner:
            if inside.is_dir() and not inside.is_symlink():
                yield from find_runs(inside, depth - 1)


def summarize_run(path: Path) -> dict[str, Any]:
    """The facts of one run as `--json` has them.

    `status` is complete, failed or interrupted; running, silent or killed (`find_state`); damaged where `run.json`
    cannot be read. `seconds` lie between the start (the last one, if it was resumed) and the end; None while it runs.
    """
    reached = ""
    try:
        record = read_record(path)
    except NascliError as error:
        record = {"command": "?", "status": "damaged"}
        reached = str(error)
    command_name = str(record["command"])
    with suppress(KeyError, TypeError, ValueError):  # results that somebody changed are not told
        reached = reached or _describe_results(command_name, record)
    files = [path / name for name in FILES.get(command_name, ())]
    return {
        "command": command_name,
        "path": path,
        "status": find_state(path, record),
        "started": str(record.get("started", "")),
        "seconds": _duration(record),
        "reached": reached,
        "files": [str(file) for file in files if file.exists()],
    }


def read_record(path: Path) -> dict[str, Any]:
    """The content of `run.json` in a run folder, with `command` and `status`; `recipe` and `results` may be empty.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is damaged, or no run of nascli.
    """
    record = read_run_record(path)
    if record.get("command") not in FILES or not record.get("status"):
        raise CorruptFileError(f"{path / RUN_FILE} is no record of a run of nascli", file=path / RUN_FILE)
    return record | {"results": record.get("results") or {}}


def find_state(path: Path, record: Mapping[str, Any]) -> str:
    """The state of a run with this `run.json`: its status, but where that is `running` and the run may not be.

    The kernel's lock says whether a run of this machine lives, else it was `killed`. What was begun or resumed on
    another machine, or has no lock that can be seen, is judged by its signs: without one for `SILENT` seconds it is
    `silent`, or `killed` if it ran here.
    """
    status = str(record.get("status"))
    locked = is_locked(path) if status == "running" else None
    if status != "running" or locked:
        return status
    progress, sign = read_progress(path), last_sign(path)
    hosts = {str(each) for each in (record.get("host"), progress and progress.host) if each is not None}
    is_here = hosts <= {socket.gethostname()}
    if is_here and locked is False:
        return "killed"
    if sign is not None and sign < SILENT:
        return "running"
    return "killed" if is_here else "silent"


def last_sign(path: Path) -> float | None:
    """Seconds since a run wrote one of the files that it writes as it goes; None where there is none."""
    times = []
    for name in _SIGNS:
        with suppress(OSError):
            times.append((path / name).stat().st_mtime)
    return max(0.0, time.time() - max(times)) if times else None


def weighs_cost(record: Mapping[str, Any]) -> bool:
    """Whether the rewards of a search are more than accuracies, by its `run.json`: they weigh a cost, too."""
    return bool(record["recipe"].get("objective", {}).get("quantity"))


def _duration(record: Mapping[str, Any]) -> float | None:
    try:
        return (datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _describe_results(command_name: str, record: Mapping[str, Any]) -> str:
    """The results in words, each called proxy or final (the two are never comparable); empty where there are none."""
    results = record["results"]
    if command_name == "search" and results.get("best"):
        reward = results["best"]["reward"]
        evaluator = record["recipe"].get("search", {}).get("evaluator", "proxy")
        if weighs_cost(record):
            return f"best reward {reward:.4f} of {results['trained']} trained cells ({results['reward_is']})"
        if find_evaluator(evaluator).is_accuracy:
            return f"best proxy accuracy {reward:.2%} of {results['trained']} trained cells"
        return f"best {evaluator} {reward:.5g} of {results['trained']} scored cells"
    if command_name == "train" and "top1" in results:
        return (
            f"final top-1 {results['top1']:.2%} on {results['dataset']}, {results['params']:,} params"
            f"{_describe_epoch(results)}"
        )
    if command_name == "detect" and results.get("ap50") is not None:
        scores = f"AP {results['ap']:.3f}, AP at IoU 0.5 {results['ap50']:.3f}"
        return f"{scores} on {results['dataset']}{_describe_epoch(results)}"
    return ""


def _describe_epoch(results: Mapping[str, Any]) -> str:
    """The epoch whose weights were kept, where it is not the last."""
    kept, epochs = results.get("kept_epoch"), results.get("epochs")
    return f", epoch {kept} of {epochs}" if kept != epochs else ""
