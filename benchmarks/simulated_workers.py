"""Whether the search keeps 500 workers busy: simulated workers on a virtual clock, the real search in real time.

    python benchmarks/simulated_workers.py --json simulated_workers.json

Loop, journal and strategy are those of the recipe cifar10-paper. Only the workers are not there: a child's training is
a span of virtual time, while every second that the search itself takes passes on the same clock. The paper trained
20,000 children in 4 days on 500 GPUs (section 4), which is 500 * 4 * 24 h / 20,000 = 2.4 h per child, waiting included,
so that is the mean duration here. Nothing is known of how durations differ; here they are log-normal, their
logarithm with a standard deviation of 0.3, so that the slowest of 20 children takes 1.65 times the mean in the median.

Utilisation is busy time over 500 times the time that passed, from the first child's start to the last one's: the
trials then run out, and what the workers still wait for is no fault of the search (`to_the_end` counts that, too).
"""

import heapq
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from common import Column, Figures, InstantEvaluator, Silent, Task, arguments, compare, paper_search, serve

from nascli.search.executors.executor import Job, JobOutcome, evaluate_job

MODES = ("asynchronous", "synchronous")


@dataclass
class VirtualWorkers:
    """An executor whose children take virtual time; the clock also runs while the search does anything.

    Args:
        workers: Number of workers.
        mean: Mean duration of a child, in seconds.
        sigma: Standard deviation of the logarithm of the duration.
        spans: Start and end of every child, in virtual seconds.
    """

    workers: int
    mean: float
    sigma: float
    spans: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._running: list[tuple[float, int, Job]] = []  # a heap by end
        self._since = time.perf_counter()
        self._waited = 0.0

    @property
    def now(self) -> float:
        """Virtual seconds since the start: real ones, and those that were skipped."""
        return self._waited + time.perf_counter() - self._since

    @property
    def own(self) -> float:
        """Real seconds since the start: the search's own."""
        return time.perf_counter() - self._since

    @property
    def free(self) -> int:
        return self.workers - len(self._running)

    @property
    def busy(self) -> int:
        return len(self._running)

    def submit(self, job: Job) -> None:
        """Start a child; how long it takes follows from its seed."""
        normal = random.Random(job.seed).gauss(0.0, self.sigma)
        start = self.now
        end = start + self.mean * math.exp(normal - self.sigma**2 / 2)
        self.spans.append((start, end))
        heapq.heappush(self._running, (end, job.trial, job))

    def collect(self, timeout: float) -> list[JobOutcome]:
        """All children whose end has come; if there is none, the clock jumps to the next end."""
        if self._running:
            self._waited += max(0.0, self._running[0][0] - self.now)
        done = []
        while self._running and self._running[0][0] <= self.now:
            done.append(evaluate_job(InstantEvaluator(), heapq.heappop(self._running)[2]))
        return done

    def utilisation(self, until: float) -> float:
        """Busy time up to a moment over all workers' time up to it."""
        busy = sum(min(end, until) - start for start, end in self.spans if start < until)
        return busy / (self.workers * until)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._running.clear()


def search(task: Task) -> Figures:
    """A whole search with virtual workers."""
    from nascli.search.journal import Journal
    from nascli.search.loop import SearchLoop
    from nascli.signals import StopRequest

    asynchronous = task["variant"] == "asynchronous"
    strategy, plan = paper_search(task["strategy"], task["trials"], task["round"], asynchronous=asynchronous)
    workers = VirtualWorkers(task["workers"], task["mean_seconds"], task["sigma"])
    with Journal(Path(task["scratch"]) / "trials.jsonl") as journal, workers:
        SearchLoop(strategy, workers, journal, plan, Silent()).run(StopRequest())
        own, trials = workers.own, len(journal.trials)
    last_start = max(start for start, _ in workers.spans)
    end = max(end for _, end in workers.spans)
    return {
        "utilisation": workers.utilisation(last_start),
        "utilisation_to_the_end": workers.utilisation(end),
        "hours": end / 3600,
        "children": len(workers.spans),
        "trials": trials,
        "children_per_hour": len(workers.spans) / (end / 3600),
        "mean_child_seconds": sum(end - start for start, end in workers.spans) / len(workers.spans),
        "search_seconds": own,
        "search_ms_per_trial": 1000 * own / trials,
    }


MEASURES = {"search": search}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--strategy", choices=["ppo", "reinforce", "evolution"], default="ppo")
    parser.add_argument("--mean-seconds", type=float, default=4 * 86400 * 500 / 20_000, help="of a child: 2.4 h")
    parser.add_argument("--sigma", type=float, default=0.3, help="standard deviation of the logarithm of its duration")
    parser.add_argument("--folder", type=Path, help="where the journals are written, flushed to disk event by event")
    asked = parser.parse_args()
    size = f"{asked.strategy}, {asked.workers} workers, {asked.trials} trials"
    columns = [
        Column("utilisation", "busy", ".3%"),
        Column("utilisation_to_the_end", "busy to the end", ".3%"),
        Column("hours", "hours"),
        Column("children_per_hour", "children per hour"),
        Column("over_synchronous", "x synchronous", ".1f", figure="children_per_hour", under="synchronous"),
        Column("search_ms_per_trial", "ms of search per trial"),
    ]
    variants = {mode: {"measure": "search"} for mode in MODES}
    compare(__file__, asked, f"{size}, {asked.mean_seconds:g} s per child", variants, columns)


if __name__ == "__main__" and not serve(MEASURES):
    main()
