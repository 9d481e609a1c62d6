"""Seconds to resume a search of 20,000 trials: its journal is read, its strategy asked and told all again.

    python benchmarks/replay.py --json replay.json
    python benchmarks/replay.py --strategy evolution

First a search with the paper's numbers and an instant evaluator writes the journal, without flushing it to disk, which
is not what is measured here. Then fresh processes resume it, in which nothing is left to train: with the snapshot of
the strategy that a search keeps beside its journal, and from the journal alone, in turn. `--keep FOLDER` keeps the
journals and uses those that are there already.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
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

from nascli.search.strategies.strategy import Strategy

if TYPE_CHECKING:
    from nascli.search.strategies.strategy import Stateful

SEED = 0
SOURCES = {"snapshot": True, "journal alone": False}
PARTS = {
    "import": "loading torch and nascli",
    "read": "reading the journal",
    "ask": "asking the strategy",
    "tell": "telling the strategy",
    "loop": "the loop",
}


class Timed:
    """A strategy whose asking and telling is timed."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.batch_size = strategy.batch_size
        self.asking = self.telling = 0.0

    @property
    def diagnostics(self) -> Mapping[str, float]:
        return self._strategy.diagnostics

    def ask(self) -> tuple[int, ...] | None:
        since = time.perf_counter()
        tokens = self._strategy.ask()
        self.asking += time.perf_counter() - since
        return tokens

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        since = time.perf_counter()
        self._strategy.tell(tokens, reward)
        self.telling += time.perf_counter() - since


class TimedLasting(Timed):
    """One whose state can be kept."""

    def __init__(self, strategy: "Stateful") -> None:
        super().__init__(strategy)
        self.state, self.load_state = strategy.state, strategy.load_state


def resume(task: Task) -> Figures:
    """Resume from a journal to the end of the plan: seconds of each part, and trials that were there before."""
    since = time.perf_counter()
    from nascli.search.executors.executor import InProcessExecutor
    from nascli.search.journal import Journal
    from nascli.search.loop import SearchLoop
    from nascli.search.snapshot import SnapshotFile
    from nascli.search.strategies.strategy import Stateful
    from nascli.signals import StopRequest

    strategy, plan = paper_search(task["strategy"], task["trials"], SEED, asynchronous=task["asynchronous"])
    timed = TimedLasting(strategy) if isinstance(strategy, Stateful) else Timed(strategy)
    imported = time.perf_counter()
    path = Path(task["journal"])
    snapshots = SnapshotFile(path.with_suffix(".pt"), path.stem) if task["snapshot"] else None
    with Journal(path) as journal, InProcessExecutor(InstantEvaluator()) as executor:
        restored = len(journal.trials)
        opened = time.perf_counter()
        SearchLoop(timed, executor, journal, plan, Silent(), snapshots).run(StopRequest())
        trials = len(journal.trials)
    ended = time.perf_counter()
    seconds = {
        "import": imported - since,
        "read": opened - imported,
        "ask": timed.asking,
        "tell": timed.telling,
        "loop": ended - opened - timed.asking - timed.telling,
    }
    return {**seconds, "total": sum(seconds.values()), "trials": trials, "restored": restored}


def make(task: Task) -> Figures:
    """Write the journal, unflushed: its content is the same."""
    with mock.patch("nascli.search.journal.os.fsync"):
        return resume(task)


MEASURES = {"make": make, "resume": resume}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument(
        "--strategy", action="append", choices=["ppo", "reinforce", "random", "evolution"], help="default: ppo"
    )
    parser.add_argument("--asynchronous", action="store_true", help="a search that tells each result when it comes")
    parser.add_argument("--keep", type=Path, help="folder for the journals")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nascli-replay-") as temporary:
        folder = (asked.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        cases = {name: make_journal(name, asked, folder) for name in asked.strategy or ["ppo"]}
        columns = [Column("total", "all"), *(Column(part, heading) for part, heading in PARTS.items())]
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
    if any(each["restored"] != each["trials"] for each in measurements):
        raise SystemExit("the resumed search is not that of the journal")


if __name__ == "__main__" and not serve(MEASURES):
    main()
