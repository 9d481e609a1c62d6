"""Executors: jobs are run once, never lost, and nothing is left running behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nascli.errors import NascliError
from nascli.genotype.encoding import decode_tokens
from nascli.genotype.schema import Genotype
from nascli.search.executors import Executor, InProcess, Job, LocalWorkers, Outcome
from nascli.search.trial import Score
from tests.fakes import TINY, FakeEvaluator, KillingEvaluator, SlowEvaluator

ROOT = Path(__file__).parents[2]


def job(number: int) -> Job:
    return Job(number, decode_tokens(tuple(number % size for size in TINY.decision_sizes), TINY), seed=1000 + number)


def drain(executor: Executor, jobs: list[Job]) -> list[Outcome]:
    """Run all jobs; outcomes by trial."""
    waiting, outcomes = list(jobs), []
    deadline = time.monotonic() + 60
    while waiting or executor.busy:
        assert time.monotonic() < deadline, "jobs were lost"
        while waiting and executor.free:
            executor.submit(waiting.pop(0))
        outcomes += executor.collect(0.5)
    return sorted(outcomes, key=lambda outcome: outcome.trial)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@dataclass(frozen=True)
class ThreadsEvaluator:
    """Says how many threads its process computes with, and how many it was told to before torch came."""

    def evaluate(self, genotype: Genotype, seed: int) -> Score:
        told = int(os.environ.get("OMP_NUM_THREADS", "0"))
        import torch

        return Score(reward=0.0, accuracy=0.0, params=torch.get_num_threads(), mult_adds=told, seconds=0.0)


def test_workers_and_this_process_give_the_same_outcomes() -> None:
    jobs = [job(number) for number in range(12)]
    evaluator = FakeEvaluator(failing=0.3)
    with InProcess(evaluator) as here:
        expected = drain(here, jobs)
    assert {type(outcome.result) for outcome in expected} == {Score, str}
    with LocalWorkers(evaluator, workers=2, retries=0) as workers:
        assert (workers.free, workers.busy, workers.processes) == (2, 0, ())
        workers.submit(jobs[0])
        assert (workers.free, workers.busy, len(workers.processes)) == (1, 1, 1)  # started when needed
        assert drain(workers, jobs[1:]) == expected
        assert len(workers.processes) == 2  # and kept
        processes = workers.processes
    assert not any(map(alive, processes))


def test_a_worker_computes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with LocalWorkers(ThreadsEvaluator(), workers=1, retries=0) as workers:
        (outcome,) = drain(workers, [job(0)])
    assert isinstance(outcome.result, Score)
    assert (outcome.result.params, outcome.result.mult_adds) == (1, 1)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_a_lost_worker_is_replaced_and_its_job_run_again(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(6)]
    evaluator = KillingEvaluator(times=2, seeds=frozenset({jobs[1].seed}), notes=tmp_path)
    with InProcess(FakeEvaluator()) as here:
        expected = drain(here, jobs)
    with LocalWorkers(evaluator, workers=2, retries=2) as workers:
        assert drain(workers, jobs) == expected
    assert (tmp_path / str(jobs[1].seed)).read_text() == "3"


def test_a_job_that_loses_every_worker_fails_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(3)]
    evaluator = KillingEvaluator(times=99, seeds=frozenset({jobs[0].seed}), notes=tmp_path)
    with LocalWorkers(evaluator, workers=1, retries=1) as workers:
        outcomes = drain(workers, jobs)
    assert outcomes[0].result == "its worker process was lost 2 times (killed, perhaps for lack of memory)"
    assert all(isinstance(outcome.result, Score) for outcome in outcomes[1:])


def test_an_idle_worker_that_died_is_replaced_and_ctrl_c_is_not_for_workers() -> None:
    # one retry: while a killed process's last threads still end, its pipe may take a job that nobody will answer
    with LocalWorkers(FakeEvaluator(), workers=1, retries=1) as workers:
        first = drain(workers, [job(0)])
        os.kill(workers.processes[0], signal.SIGINT)
        assert drain(workers, [job(0)]) == first
        (killed,) = workers.processes
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not alive(killed))
        assert drain(workers, [job(0)]) == first
        assert workers.processes != (killed,)


def test_leaving_ends_busy_workers_at_once(tmp_path: Path) -> None:
    notes = tmp_path / "pids"
    with LocalWorkers(SlowEvaluator(600, notes), workers=1, retries=0) as workers:
        workers.submit(job(0))
        wait_until(notes.exists)
        assert workers.collect(0.0) == []
        started, pids = time.monotonic(), [int(pid) for pid in notes.read_text().split()]
        assert workers.processes[0] in pids
    assert time.monotonic() - started < 4
    wait_until(lambda: not any(map(alive, pids)))


class TooLarge(FakeEvaluator):
    def __reduce__(self) -> str:
        raise RuntimeError("unable to allocate shared memory")


def test_data_that_cannot_be_shared_are_an_error_that_says_what_to_do() -> None:
    with (
        LocalWorkers(TooLarge(), workers=1, retries=0) as workers,
        pytest.raises(NascliError, match=r"unable to allocate shared memory.*--shm-size"),
    ):
        workers.submit(job(0))


PARENT = """
import sys
from pathlib import Path
from nascli.search.executors import LocalWorkers
from tests.fakes import SlowEvaluator
from tests.search.test_executors import job

if __name__ == "__main__":
    with LocalWorkers(SlowEvaluator(600, Path(sys.argv[1])), workers=2, retries=0) as workers:
        workers.submit(job(0))
        workers.submit(job(1))
        workers.collect(600)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Even in the middle of a long evaluation."""
    script, notes = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script, notes], env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: notes.exists() and len(notes.read_text().split()) == 4)
        pids = [int(pid) for pid in notes.read_text().split()]
        assert all(map(alive, pids))
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(map(alive, pids)))
