"""What a search's journal costs: appending events, each flushed to disk, and reading a long one back.

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

from common import (
    Figures,
    InstantEvaluator,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)

from nascli.genotype.cells.space import NASNET
from nascli.search.journal import Event, Finished, Journal, proposed, read_trials
from nascli.search.trial import Trial

VARIANTS = {
    "append": "nascli, an event appended and flushed",
    "bare append": "bare write and flush of its line",
    "read": "nascli, a journal read back",
    "bare read": "bare json.loads of its lines",
}


def events(trials: int) -> Iterator[Event]:
    """Proposals and results of random cells."""
    draw = random.Random(0)
    for number in range(trials):
        tokens = tuple(draw.randrange(size) for size in NASNET.decision_sizes)
        genotype = NASNET.decode(tokens, name=f"cifar10-paper-trial-{number}")
        seed = draw.getrandbits(63)
        trial = Trial(id=number, tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=seed)
        yield proposed(trial)
        yield Finished(trial=number, **vars(InstantEvaluator().evaluate(genotype, seed)))


def append(task: Task) -> Figures:
    """Seconds for the events of so many trials."""
    made = list(events(task["trials"]))
    with Journal(Path(task["scratch"]) / "trials.jsonl") as journal:
        since = time.perf_counter()
        for event in made:
            journal.append(event)
        return {"seconds": time.perf_counter() - since, "events": len(made)}


def bare_append(task: Task) -> Figures:
    lines = [event.line() for event in events(task["trials"])]
    with Path(task["scratch"], "trials.jsonl").open("ab", buffering=0) as file:
        since = time.perf_counter()
        for line in lines:
            file.write(line)
            os.fsync(file.fileno())
        return {"seconds": time.perf_counter() - since, "events": len(lines)}


def read(task: Task) -> Figures:
    """Seconds to read a journal; it was just written, so the disk is not waited for."""
    path = _written(task)
    since = time.perf_counter()
    trials = read_trials(path)
    seconds = time.perf_counter() - since
    assert len(trials) == task["trials"]
    return {"seconds": seconds, "bytes": path.stat().st_size}


def bare_read(task: Task) -> Figures:
    path = _written(task)
    since = time.perf_counter()
    with path.open("rb") as file:
        count = sum("event" in json.loads(line) for line in file)
    seconds = time.perf_counter() - since
    assert count == 2 * task["trials"]
    return {"seconds": seconds, "bytes": path.stat().st_size}


def _written(task: Task) -> Path:
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
    asked = parser.parse_args()
    measurements = []
    for number, variant in in_turn(list(VARIANTS), asked.rounds):
        trials = asked.appends if "append" in variant else asked.trials
        figures = fresh(__file__, {"measure": variant, "trials": trials}, asked.folder)
        measurements.append({"round": number, "variant": variant, **figures})
        progress(f"round {number}, {variant}: {figures['seconds']:.2f} s")
    by_variant = {variant: [each for each in measurements if each["variant"] == variant] for variant in VARIANTS}
    seconds = {variant: [each["seconds"] for each in taken] for variant, taken in by_variant.items()}
    rates = {
        variant: spread([each["events"] / each["seconds"] for each in by_variant[variant]])
        for variant in ("append", "bare append")
    }
    reading = {variant: spread(seconds[variant]) for variant in ("read", "bare read")}
    results = {
        "events_per_second": rates,
        "read_seconds": reading,
        "ratios": {
            "append": ratios(seconds["append"], seconds["bare append"]),
            "read": ratios(seconds["read"], seconds["bare read"]),
        },
    }
    table = grid(f"{asked.rounds} rounds: median, least to greatest", "what", "events a second", "seconds", "x bare")
    for variant, words in VARIANTS.items():
        ratio = results["ratios"].get(variant)
        table.add_row(
            words,
            three(rates[variant], ".0f") if variant in rates else "",
            three(spread(seconds[variant])),
            three(ratio) if ratio else "",
        )
    console().print(table)
    write(asked, {**results, "measurements": measurements})


if __name__ == "__main__" and not serve(MEASURES):
    main()
