"""Seconds to resume a search of 20,000 trials to its next proposal: its journal is read, its strategy made anew.

    python benchmarks/replay.py --json replay.json
    python benchmarks/replay.py --strategy bayesian --strategy evolution --trials 600

First a search with the paper's numbers and an instant evaluator writes the journal, without flushing it to disk, which
is not what is measured here. Then fresh processes resume a copy of it with one trial more, until that is proposed: with
the snapshot of the strategy that a search keeps beside its journal, and from the journal alone. `--keep FOLDER` keeps
the journals and uses those that are there already.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from common import (
    Column,
    Figures,
    InstantEvaluator,
    Silent,
    Task,
    arguments,
    compare,
    fresh,
    paper_search,
    progress,
    serve,
)

SEED = 0
SOURCES = {"snapshot": True, "journal alone": False}
PARTS = {
    "import": "loading torch and nascli",
    "read": "reading the journal",
    "ask": "asking the strategy",
    "tell": "telling the strategy",
    "loop": "the loop",
}


class Clock:
    """The seconds that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, timed from now on."""

        def timed(*given: object) -> object:
            since = time.perf_counter()
            try:
                return call(*given)
            finally:
                self.seconds += time.perf_counter() - since

        return timed


def resume(task: Task) -> Figures:
    """Resume from a copy of a journal to a proposal more: seconds of each part, and trials that were there before."""
    kept = Path(task["journal"])
    path = Path(task["scratch"]) / kept.name
    for file in (path, path.with_suffix(".pt")):
        if kept.with_suffix(file.suffix).exists():
            shutil.copy(kept.with_suffix(file.suffix), file)
    return search(task, path, task["trials"] + 1)


def search(task: Task, path: Path, trials: int) -> Figures:
    """Search from wherever a journal stands to so many trials: seconds of each part, and trials that were there."""
    since = time.perf_counter()
    from nascli.search.executors.executor import InProcessExecutor
    from nascli.search.journal import Journal
    from nascli.search.loop import SearchLoop
    from nascli.search.snapshot import SnapshotFile
    from nascli.signals import StopRequest

    strategy, plan = paper_search(task["strategy"], trials, SEED, asynchronous=task["asynchronous"])
    asking, telling = Clock(), Clock()
    timed = {"ask": asking.time(strategy.ask), "tell": telling.time(strategy.tell)}
    vars(strategy).update(timed)
    imported = time.perf_counter()
    snapshots = SnapshotFile(path.with_suffix(".pt"), path.stem) if task["snapshot"] else None
    with Journal(path) as journal, InProcessExecutor(InstantEvaluator()) as executor:
        restored = len(journal.trials)
        opened = time.perf_counter()
        SearchLoop(strategy, executor, journal, plan, Silent(), snapshots).run(StopRequest())
    ended = time.perf_counter()
    seconds = {
        "import": imported - since,
        "read": opened - imported,
        "ask": asking.seconds,
        "tell": telling.seconds,
        "loop": ended - opened - asking.seconds - telling.seconds,
    }
    return {**seconds, "total": sum(seconds.values()), "cpu": time.process_time(), "restored": restored}


def make(task: Task) -> Figures:
    """Write the journal, unflushed: its content is the same."""
    with mock.patch("nascli.search.journal.os.fsync"):
        return search(task, Path(task["journal"]), task["trials"])


MEASURES = {"make": make, "resume": resume}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument(
        "--strategy",
        action="append",
        choices=["ppo", "reinforce", "random", "evolution", "bayesian", "exhaustive"],
        help="default: ppo",
    )
    parser.add_argument("--asynchronous", action="store_true", help="a search that tells each result when it comes")
    parser.add_argument("--keep", type=Path, help="folder for the journals")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nascli-replay-") as temporary:
        folder = (asked.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        cases = {name: make_journal(name, asked, folder) for name in asked.strategy or ["ppo"]}
        columns = [
            Column("total", "all"),
            Column("cpu", "CPU, with Python's start"),
            *(Column(part, heading) for part, heading in PARTS.items()),
        ]
        variants: dict[str, Task] = {
            source: {"measure": "resume", "snapshot": snapshot} for source, snapshot in SOURCES.items()
        }
        title = f"Resuming {asked.trials} trials, seconds"
        compare(
            __file__,
            asked,
            title,
            variants,
            columns,
            cases=cases,
            check=refuse_another_search,
            about=lambda _: {"cases": cases},
        )


def make_journal(strategy: str, asked: argparse.Namespace, folder: Path) -> Task:
    """The settings of a case, its journal written."""
    journal = folder / f"{strategy}-{'asynchronous' if asked.asynchronous else 'synchronous'}-{asked.trials}.jsonl"
    case = {"journal": str(journal), "strategy": strategy, "trials": asked.trials, "asynchronous": asked.asynchronous}
    made = fresh(__file__, {**case, "snapshot": True, "measure": "make"})
    progress(f"{strategy}: the search itself took {made['total']:.1f} s, {made['restored']} trials were there already")
    return {**case, "restored": made["restored"], "journal_bytes": journal.stat().st_size}


def refuse_another_search(measurements: Sequence[Figures]) -> None:
    if len({each["restored"] for each in measurements}) > 1:
        raise SystemExit("the resumed search is not that of the journal")


if __name__ == "__main__" and not serve(MEASURES):
    main()
