"""What lies in a folder of runs: each run's command, state, figures and the files worth opening."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nascli.errors import InputError, NascliError
from nascli.files import read_json

_WORTH_OPENING = {
    "search": ("best.json", "trials.jsonl"),
    "train": ("weights.safetensors", "metrics.jsonl", "evaluation.json"),
    "detect": ("weights.safetensors", "detection.json", "detections", "predictions"),
}


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Args:
        command: The command that made it.
        path: Its folder.
        status: `running`, `complete`, `failed` or `interrupted`, as its `run.json` says.
        started: When, in ISO 8601.
        seconds: Wall-clock time between its start (its last one, if it was resumed) and its end; None while it runs.
        reached: Its figures in words; empty where there are none yet.
        files: What a person would open next.
    """

    command: str
    path: Path
    status: str
    started: str
    seconds: float | None
    reached: str
    files: tuple[Path, ...]


def list_runs(folder: Path) -> list[RunSummary]:
    """Every run under a folder, oldest first.

    Args:
        folder: A folder of runs, at any depth up to four; or one run.

    Raises:
        InputError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "Runs are made by nascli search, train and detect")
    found = sorted((_summarise(path) for path in _run_folders(folder, 4)), key=lambda run: run.started)
    if not found:
        raise InputError(f"{folder} holds no run", "Runs are made by nascli search, train and detect")
    return found


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "run.json").is_file():
        yield folder
    elif depth:
        for inside in sorted(folder.iterdir()):
            if inside.is_dir() and not inside.is_symlink():
                yield from _run_folders(inside, depth - 1)


def _summarise(path: Path) -> RunSummary:
    try:
        record = read_json(path / "run.json")
    except NascliError as error:
        return RunSummary("?", path, "damaged", "", None, str(error), ())
    command = str(record.get("command"))
    files = (path / name for name in _WORTH_OPENING.get(command, ()))
    return RunSummary(
        command,
        path,
        str(record.get("status")),
        str(record.get("started", "")),
        _seconds(record),
        _reached(command, record.get("results") or {}),
        tuple(file for file in files if file.exists()),
    )


def _seconds(record: dict[str, Any]) -> float | None:
    try:
        return (datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _reached(command: str, results: dict[str, Any]) -> str:
    """The figures in words, each said to be proxy or final (the two are never comparable)."""
    if command == "search" and results.get("best"):
        reward = results["best"]["reward"]
        return f"best proxy accuracy {reward:.2%} of {results['trained']} trained cells"
    if command == "train" and "top1" in results:
        return f"final top-1 {results['top1']:.2%} on {results['dataset']}, {results['params']:,} params"
    if command == "detect" and results.get("ap50") is not None:
        return f"AP {results['ap']:.3f}, AP at IoU 0.5 {results['ap50']:.3f} on {results['dataset']}"
    return ""
