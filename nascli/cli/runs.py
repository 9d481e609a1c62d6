"""`nascli runs`: the runs in a folder."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from nascli.cli.console import Terminal
from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.config import find_evaluator
from nascli.errors import InputError, NascliError
from nascli.files import read_json
from nascli.units import format_duration

DEEPEST = 4
"""Folders below the given one in which runs are found."""

FILES = {
    "search": ("best.json", "trials.jsonl"),
    "train": ("weights.safetensors", "metrics.jsonl", "evaluation.json"),
    "detect": ("weights.safetensors", "detection.json", "detections", "predictions"),
}
"""The files of a run of each command to open next."""

FOLDER = Setting[Path | None]("folder", "A folder of runs; by default $NASCLI_RUNS or runs.", metavar="DIR")


@command("runs", [FOLDER, JSON], examples=["nascli runs", "nascli runs demo --json"])
def run(call: Call) -> None:
    """List runs: what each reached, how long it took, and where its files are."""
    terminal, folder = call.terminal(), call[FOLDER] or runs_folder()
    hint = "Runs are made by nascli search, train and detect"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", hint)
    found = sorted(map(_summarize, _find_runs(folder, DEEPEST)), key=lambda each: str(each["started"]))
    if not found:
        raise InputError(f"{folder} holds no run", hint)
    for each in found:
        _show(terminal, each)
    terminal.result({"runs": found})


def _find_runs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "run.json").is_file():
        yield folder
    elif depth:
        for inside in sorted(folder.iterdir()):
            if inside.is_dir() and not inside.is_symlink():
                yield from _find_runs(inside, depth - 1)


def _summarize(path: Path) -> dict[str, Any]:
    """The facts of one run as `--json` has them.

    `status` is `run.json`'s: running, complete, failed or interrupted; damaged where it cannot be read. `seconds` lie
    between the start (the last one, if it was resumed) and the end; None while it runs.
    """
    try:
        record = read_json(path / "run.json")
    except NascliError as error:
        record = {"command": "?", "status": "damaged"}
        reached = str(error)
    else:
        reached = _describe_results(str(record.get("command")), record)
    command_name = str(record.get("command"))
    files = [path / name for name in FILES.get(command_name, ())]
    return {
        "command": command_name,
        "path": path,
        "status": str(record.get("status")),
        "started": str(record.get("started", "")),
        "seconds": _duration(record),
        "reached": reached,
        "files": [str(file) for file in files if file.exists()],
    }


def _duration(record: Mapping[str, Any]) -> float | None:
    try:
        return (datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _describe_results(command_name: str, record: Mapping[str, Any]) -> str:
    """The results in words, each called proxy or final (the two are never comparable); empty where there are none."""
    results = record.get("results") or {}
    if command_name == "search" and results.get("best"):
        reward = results["best"]["reward"]
        evaluator = record.get("recipe", {}).get("search", {}).get("evaluator", "proxy")
        if find_evaluator(evaluator).is_accuracy:
            return f"best proxy accuracy {reward:.2%} of {results['trained']} trained cells"
        return f"best {evaluator} {reward:.5g} of {results['trained']} scored cells"
    if command_name == "train" and "top1" in results:
        return f"final top-1 {results['top1']:.2%} on {results['dataset']}, {results['params']:,} params"
    if command_name == "detect" and results.get("ap50") is not None:
        return f"AP {results['ap']:.3f}, AP at IoU 0.5 {results['ap50']:.3f} on {results['dataset']}"
    return ""


def _show(terminal: Terminal, summary: Mapping[str, Any]) -> None:
    from rich.text import Text

    status, seconds = summary["status"], summary["seconds"]
    color = {"complete": "green", "failed": "red", "damaged": "red"}.get(status, "yellow")
    time = "" if seconds is None else f", {format_duration(seconds)}"
    terminal.show(Text.assemble((f"{summary['command']:7}", "bold"), f" {summary['path']}  ", (status, color), time))
    if summary["reached"]:
        terminal.show(Text(f"        {summary['reached']}", "bold cyan"))
    for file in summary["files"]:
        terminal.show(f"        {file}")
