"""The progress, speed, time left and best result so far of a run, from its files alone.

Nothing is written and no process is asked, so it works from another terminal, and from another machine on the same
disk. Whether a run lives is told by `find_state`.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nascli.config import find_evaluator
from nascli.errors import NascliError
from nascli.progress import Progress, read_progress
from nascli.records import read_lines
from nascli.report.run_list import find_state, last_sign, read_record, summarize_run, weighs_cost
from nascli.search.journal import read_trials
from nascli.search.trial import Trial

LIVING = ("running", "silent")
STOPPED = ("killed", "interrupted", "failed")
"""States of a run that may still go on, and of one that can be resumed."""

_METRICS = {"train": ("top1", "top-1"), "detect": ("ap", "AP")}
"""The metric that is the best result of a training: its key and its name."""


@dataclass(frozen=True)
class RunStatus:
    """One run at this moment.

    Args:
        state: running; silent (on another machine, without a sign for `SILENT` seconds); killed (it ended without a
            word); complete, failed, interrupted; damaged where `run.json` cannot be read, or is another program's.
        phase: The present work in a word; empty where nothing is being done.
        done: How many of `total` `unit`s (steps, trials, images) are made; None where it is not known.
        epoch: The one under way, of `epochs`.
        pace: Units per second of this session.
        images_per_second: While training.
        loss: Mean of the epoch so far.
        best: The best value so far, and `best_is`, what it is; `best_at`, its epoch or trial.
        trials: Of a search: finished trials by state, and those that run, with their seconds.
        seconds: Since this session began; of a run that has ended, between start and end.
        seconds_left: An estimate by the pace of this session.
        last_sign: Seconds since the run last wrote.
        reached: The results of a run that has ended, in words.
        resume: The command's words that resume a run that stopped.
    """

    command: str
    path: str
    state: str
    phase: str = ""
    unit: str = ""
    done: int | None = None
    total: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    pace: float | None = None
    images_per_second: float | None = None
    loss: float | None = None
    best: float | None = None
    best_is: str = ""
    best_at: int | None = None
    trials: Mapping[str, Any] | None = None
    started: str = ""
    seconds: float | None = None
    seconds_left: float | None = None
    last_sign: float | None = None
    host: str = ""
    reached: str = ""
    error: str = ""
    resume: Sequence[str] = ()

    @property
    def lives(self) -> bool:
        """Whether it may still go on."""
        return self.state in LIVING

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def read_status(path: Path) -> RunStatus:
    """The status of a run folder, or of the folder `FILE.h5.partial` of a pack that is being made."""
    progress, now = read_progress(path), time.time()
    if not (path / "run.json").is_file():
        return _describe(path, {"command": "pack", "status": "running"}, progress, now)
    try:
        record = read_record(path)
    except NascliError as error:
        return RunStatus("?", str(path), "damaged", error=str(error))
    return _describe(path, record, progress, now)


def _describe(path: Path, record: Mapping[str, Any], progress: Progress | None, now: float) -> RunStatus:
    command, state, sign = str(record.get("command")), find_state(path, record), last_sign(path)
    lives = state in LIVING
    facts = {"error": str(record.get("error") or "")} | dict(_count(path, command, record, progress))
    if progress is not None and lives:
        facts |= _measure_pace(progress, facts, now)
    summary = summarize_run(path) if command != "pack" else {}
    return RunStatus(
        command,
        str(path),
        state,
        **facts,
        started=str(record.get("started") or ""),
        seconds=now - (progress.begun if progress else _seconds(record)) if lives else summary.get("seconds"),
        last_sign=sign if lives else None,
        host=progress.host if progress else "",
        reached=str(summary.get("reached", "")),
        resume=["nascli", command, "--resume", str(path)] if command != "pack" and state in STOPPED else (),
    )


def _count(path: Path, command: str, record: Mapping[str, Any], progress: Progress | None) -> Iterator[tuple[str, Any]]:
    """The amounts that are done and to do, and the best so far."""
    if progress is not None:
        yield from {name: getattr(progress, name) for name in ("unit", "done", "total", "phase")}.items()
        for name in ("epoch", "epochs", "loss", "images_per_second"):
            yield name, progress.facts.get(name)
    try:
        if command in _METRICS:
            yield from _read_metrics(path, command, progress)
        if command == "search":
            yield from _read_search(path, record, progress)
    except NascliError as error:
        yield "error", error.message


def _read_metrics(path: Path, command: str, progress: Progress | None) -> Iterator[tuple[str, Any]]:
    key, name = _METRICS[command]
    metrics = path / "metrics.jsonl"
    epochs = read_lines(metrics) if metrics.is_file() else []
    scored = [each for each in epochs if isinstance(each.get(key), int | float) and math.isfinite(each[key])]
    if scored:
        best = max(scored, key=lambda each: each[key])
        yield from {"best": best[key], "best_is": name, "best_at": best.get("epoch")}.items()
    if epochs and progress is None:
        yield from {"unit": "steps", "done": epochs[-1].get("step"), "epoch": epochs[-1].get("epoch")}.items()


def _read_search(path: Path, record: Mapping[str, Any], progress: Progress | None) -> Iterator[tuple[str, Any]]:
    search = record["recipe"].get("search", {})
    journal = path / "trials.jsonl"
    trials = read_trials(journal) if journal.is_file() else []
    finished = [trial for trial in trials if trial.finished]
    if progress is None or progress.unit == "trials":  # else the supernet is trained, which counts steps
        yield from {"unit": "trials", "done": len(finished), "total": search.get("trials")}.items()
    if scored := [trial for trial in trials if trial.scored]:
        best = min(scored, key=lambda trial: trial.sort_key)
        evaluator = str(search.get("evaluator", "proxy"))
        name = "proxy accuracy" if find_evaluator(evaluator).is_accuracy else evaluator
        name = "reward" if weighs_cost(record) else name
        yield from {"best": best.reward, "best_is": name, "best_at": best.id}.items()
    yield "trials", _count_trials(trials, progress)


def _count_trials(trials: Sequence[Trial], progress: Progress | None) -> dict[str, Any]:
    states = [str(trial.state) for trial in trials if trial.finished and trial.duplicate_of is None]
    counts: dict[str, Any] = {state: states.count(state) for state in sorted(set(states))}
    counts["duplicates"] = sum(trial.duplicate_of is not None for trial in trials)
    running = progress.facts.get("running", {}) if progress else {}
    return counts | {
        "running": {number: progress.written - since for number, since in running.items()} if progress else {}
    }


def _measure_pace(progress: Progress, facts: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The pace of this session, and the time left at it since the last writing."""
    total, pace = facts["total"], progress.pace
    if pace is None or not total:
        return {}
    return {"pace": pace, "seconds_left": max(0.0, (total - progress.done) / pace - (now - progress.written))}


def _seconds(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record["started"])).timestamp()
    except (KeyError, ValueError):
        return time.time()
