"""The files of a run as values to compare: what two runs of the same command differ in is left out."""

import json
from pathlib import Path

_TIMES = {
    *("seconds", "child_seconds", "time", "age", "images_per_second", "started", "finished", "resumed", "argv"),
    *("checksum", "crc", "machine", "written", "begun", "begun_at", "created", "modified", "peak_memory"),
}
"""Keys whose values differ between two runs of the same command."""

_FACTS = ("command", "recipe", "data", "status", "error", "results")
"""What is compared of `run.json`."""

_UNCOMPARED = {".lock", "progress.json", "checkpoint.pt", "checkpoint.previous.pt", "strategy.pt", "report.html"}
"""Files of a process, and of what resumes (the runs that go on from them are compared)."""


def read_results(place: Path) -> dict[str, object]:
    """Every file that matters in a folder (or a file alone) by its path, without times."""
    place = place.resolve()
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    kept = (path for path in files if path.name not in _UNCOMPARED and not path.name.startswith("events.out."))
    return {str(path.relative_to(place)): _read(path) for path in kept}


def drop_times(values: object) -> object:
    """JSON values without what differs between two runs of the same command."""
    if isinstance(values, dict):
        return {key: drop_times(value) for key, value in values.items() if key not in _TIMES}
    return [drop_times(value) for value in values] if isinstance(values, list) else values


def _read(path: Path) -> object:
    content = path.read_bytes()
    try:
        if path.name == "run.json":
            values = json.loads(content)
            return {key: drop_times(values.get(key)) for key in _FACTS}
        if path.suffix == ".json":
            return drop_times(json.loads(content))
        if path.suffix == ".jsonl":
            lines = [drop_times(json.loads(line)) for line in content.splitlines()]
            return sorted(lines, key=_order) if path.name == "trials.jsonl" else lines
    except (ValueError, AttributeError, RecursionError):  # a damaged one
        pass
    return content


def _order(line: object) -> tuple[int, str, int]:
    """The place of an event among those of its trial: between trials it depends on which worker was sooner."""
    assert isinstance(line, dict)
    return int(line["trial"]), str(line["event"]), int(line.get("epochs", 0)) + int(line.get("index", 0))
