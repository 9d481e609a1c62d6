"""The cost of a search's journal: appending events, each flushed to disk, and reading a long one back.

    python benchmarks/journal.py --folder . --json journal.json

The events are those of random cells of the paper's space, two a trial. Beside each stands the least that the job can
cost in Python: the same bytes written and flushed to the same disk, line by line; the same lines through json.loads.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from common import Column, Figures, InstantEvaluator, Task, arguments, compare, serve

from nascli.genotype.cells.space import NASNET
from nascli.search.journal import Event, Finished, Journal, Proposed, read_trials
from nascli.search.trial import Trial


def events(trials: int) -> Iterator[Event]:
    """Proposals and results of random cells."""
    draw = random.Random(0)
    for number in range(trials):
        tokens = tuple(draw.randrange(size) for size in NASNET.decision_sizes)
        genotype = NASNET.decode(tokens, name=f"cifar10-paper-trial-{number}")
        seed = draw.getrandbits(63)
        trial = Trial(id=number, tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=seed)
        yield Proposed.of(trial)
        yield Finished(trial=number, **vars(InstantEvaluator().evaluate(genotype, seed)))


def append(task: Task) -> Figures:
    """Appending and flushing the events of some trials."""
    made = list(events(task["appends"]))
    with Journal(Path(task["scratch"]) / "trials.jsonl") as journal:
        since = time.perf_counter()
        for event in made:
            journal.append(event)
        return append_figures(time.perf_counter() - since, len(made))


def bare_append(task: Task) -> Figures:
    """A bare write and flush of the same lines."""
    lines = [event.line() for event in events(task["appends"])]
    with Path(task["scratch"], "trials.jsonl").open("ab", buffering=0) as file:
        since = time.perf_counter()
        for line in lines:
            file.write(line)
            os.fsync(file.fileno())
        return append_figures(time.perf_counter() - since, len(lines))


def append_figures(seconds: float, count: int) -> Figures:
    return {"append_seconds": seconds, "events": count, "events_per_second": count / seconds}


def read(task: Task) -> Figures:
    """Seconds to read a journal; it was just written, so the disk is not waited for."""
    path = write_journal(task)
    since = time.perf_counter()
    trials = read_trials(path)
    seconds = time.perf_counter() - since
    assert len(trials) == task["trials"]
    return {"read_seconds": seconds, "bytes": path.stat().st_size}


def bare_read(task: Task) -> Figures:
    """Bare `json.loads` of the same lines."""
    path = write_journal(task)
    since = time.perf_counter()
    with path.open("rb") as file:
        count = sum("event" in json.loads(line) for line in file)
    seconds = time.perf_counter() - since
    assert count == 2 * task["trials"]
    return {"read_seconds": seconds, "bytes": path.stat().st_size}


def write_journal(task: Task) -> Path:
    path = Path(task["scratch"], "trials.jsonl")
    with path.open("wb") as file:
        file.writelines(event.line() for event in events(task["trials"]))
    return path


MEASURES = {"append": append, "bare append": bare_append, "read": read, "bare read": bare_read}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--appends", type=int, default=2000, help="trials whose events are appended")
    parser.add_argument("--trials", type=int, default=20_000, help="trials in the journal that is read")
    parser.add_argument("--folder", type=Path, help="where to write: on the disk that is to be measured")
    columns = [
        Column("events_per_second", "events per second", ".0f"),
        Column("append_ratio", "append, x bare", figure="append_seconds", under="bare append"),
        Column("read_seconds", "read, seconds"),
        Column("read_ratio", "read, x bare", figure="read_seconds", under="bare read"),
    ]
    compare(__file__, parser.parse_args(), "A search's journal", {name: {} for name in MEASURES}, columns)


if __name__ == "__main__" and not serve(MEASURES):
    main()
