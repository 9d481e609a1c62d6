"""Executors: jobs are run once, never lost, and nothing is left running behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nascli.config import SearchRecipe, load_recipe
from nascli.errors import DivergedError, NascliError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.executors.local import LocalExecutor
from nascli.search.trial import Failure, FailureKind, Score
from tests.fakes import FakeEvaluator, KillingEvaluator, SlowEvaluator
from tests.search.executor_helpers import (
    ROOT,
    EpochsEvaluator,
    RaisingEvaluator,
    alive,
    drain,
    job,
    scores,
    wait_until,
)


@dataclass(frozen=True)
class ThreadsEvaluator:
    """Says how many threads its process computes with, and how many it was told to before torch came."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        told = int(os.environ.get("OMP_NUM_THREADS", "0"))
        import torch

        return Score(reward=0.0, accuracy=0.0, params=torch.get_num_threads(), mult_adds=told, seconds=0.0)


@dataclass(frozen=True)
class GpuEvaluator:
    """Says which GPU its process sees, and which process that is."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        gpu = int(os.environ.get("CUDA_VISIBLE_DEVICES", "-1"))
        return Score(reward=gpu, accuracy=None, params=os.getpid(), mult_adds=0, seconds=0.0)


@dataclass(frozen=True)
class SecondKilledEvaluator:
    """Kills the process that is asked for seed 1001 first; whoever is asked for another is busy until the second."""

    notes: Path

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        count = self.notes / "1001"
        if seed == 1001:
            KillingEvaluator(times=1, seeds=frozenset({1001}), notes=self.notes).evaluate(genotype, seed)
        else:
            wait_until(lambda: count.exists() and count.read_text() == "2")
        return GpuEvaluator().evaluate(genotype, seed)


def every_error() -> RaisingEvaluator:
    import torch  # not above: a worker that is to have another evaluator would load it, too

    return RaisingEvaluator(
        (
            DivergedError("the loss became nan at step 3"),
            RejectedError("params 7.3M violates params<6M"),
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
            MemoryError(),
            ZeroDivisionError("division by zero"),
        )
    )


EVERY_FAILURE = [
    Failure(FailureKind.DIVERGED, "the loss became nan at step 3"),
    Failure(FailureKind.REJECTED, "params 7.3M violates params<6M"),
    Failure(FailureKind.OUT_OF_MEMORY, "OutOfMemoryError: CUDA out of memory. Tried to allocate"),
    Failure(FailureKind.OUT_OF_MEMORY, "MemoryError:"),
    Failure(FailureKind.CRASHED, "ZeroDivisionError: division by zero"),
]


def test_workers_and_this_process_give_the_same_outcomes() -> None:
    jobs = [job(number) for number in range(12)]
    evaluator = FakeEvaluator(failing=0.3)
    with InProcessExecutor(evaluator) as here:
        expected = drain(here, jobs)
    assert {type(outcome.result) for outcome in expected} == {Score, Failure}
    with LocalExecutor(evaluator, workers=2, retries=0) as workers:
        assert (workers.free, workers.busy, workers.processes) == (2, 0, ())
        workers.submit(jobs[0])
        assert (workers.free, workers.busy, len(workers.processes)) == (1, 1, 1)  # started when needed
        assert drain(workers, jobs[1:]) == expected
        assert len(workers.processes) == 2  # and kept
        processes = workers.processes
    assert not any(map(alive, processes))


def test_a_worker_computes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with LocalExecutor(ThreadsEvaluator(), workers=1, retries=0) as workers:
        (outcome,) = drain(workers, [job(0)])
    assert isinstance(outcome.result, Score)
    assert (outcome.result.params, outcome.result.mult_adds) == (1, 1)
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("own", "names"), [(None, {0, 1}), ("7, 5,3", {7, 5})])
def test_workers_share_the_gpus_out(monkeypatch: pytest.MonkeyPatch, own: str | None, names: set[int]) -> None:
    """Those that this process sees, by the names that it has for them; its own environment stays as it was."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if own is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own)
    with LocalExecutor(GpuEvaluator(), workers=3, retries=0, gpus=2) as workers:
        for number in range(3):
            workers.submit(job(number))
        gpu_of = {score.params: score.reward for score in scores(drain(workers, []))}
        first, second, third = workers.processes
    assert gpu_of[first] == gpu_of[third] != gpu_of[second]
    assert set(gpu_of.values()) == names
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == own


@dataclass(frozen=True)
class AllocatorEvaluator:
    """Says whether torch's allocator is asked for blocks that grow."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        grows = os.environ.get("PYTORCH_ALLOC_CONF") == "expandable_segments:True"
        return Score(reward=float(grows), accuracy=None, params=0, mult_adds=0, seconds=0.0)


@pytest.mark.parametrize(
    ("name", "grows"), [(None, 1.0), ("PYTORCH_ALLOC_CONF", 0.0), ("PYTORCH_CUDA_ALLOC_CONF", 0.0)]
)
def test_workers_allocate_blocks_that_grow_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch, name: str | None, grows: float
) -> None:
    for each in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(each, raising=False)
    if name is not None:
        monkeypatch.setenv(name, "max_split_size_mb:64")
    with LocalExecutor(AllocatorEvaluator(), workers=1, retries=0) as workers:
        assert [score.reward for score in scores(drain(workers, [job(0)]))] == [grows]


def test_who_replaces_a_lost_worker_sees_its_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    with LocalExecutor(SecondKilledEvaluator(tmp_path), workers=2, retries=1, gpus=2) as workers:
        assert [score.reward for score in scores(drain(workers, [job(0), job(1)]))] == [4, 6]


def test_without_gpus_to_share_a_worker_sees_what_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    with LocalExecutor(GpuEvaluator(), workers=1, retries=0) as workers:
        assert [score.reward for score in scores(drain(workers, [job(0)]))] == [9]
    with pytest.raises(ValueError, match="2 GPUs, but CUDA_VISIBLE_DEVICES is '9'"):
        LocalExecutor(GpuEvaluator(), workers=1, retries=0, gpus=2)


@pytest.mark.parametrize(("device", "free", "gpu"), [("cuda", 6, 4), ("cuda:1", 2, 9)])
def test_a_gpu_that_is_named_is_not_shared_out(
    monkeypatch: pytest.MonkeyPatch, device: str, free: int, gpu: int
) -> None:
    """Its number holds only where every GPU is seen; GPU 9 stands for an environment that is as it was."""
    import torch  # not above: worker processes import this module, and do without

    from nascli.search.builders import build_executor

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,8" if device == "cuda" else "9")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    recipe = load_recipe(SearchRecipe, None, {"search.workers_per_gpu": 2})
    with build_executor(GpuEvaluator(), recipe.search, torch.device(device)) as executor:
        assert executor.free == free
        assert [score.reward for score in scores(drain(executor, [job(0)]))] == [gpu]


def test_the_epochs_of_a_job_reach_the_evaluator() -> None:
    jobs = [job(0), job(0, epochs=1), job(0, epochs=3)]
    for executor in (InProcessExecutor(EpochsEvaluator()), LocalExecutor(EpochsEvaluator(), workers=1, retries=0)):
        with executor:
            outcomes = drain(executor, jobs)
        assert [(outcome.job, score.reward) for outcome, score in zip(outcomes, scores(outcomes), strict=True)] == [
            (jobs[0], -1),
            (jobs[1], 1),
            (jobs[2], 3),
        ]


def test_every_error_is_a_failure_of_its_kind() -> None:
    for executor in (InProcessExecutor(every_error()), LocalExecutor(every_error(), workers=1, retries=0)):
        with executor:
            outcomes = drain(executor, [job(number) for number in range(5)])
        assert [outcome.result for outcome in outcomes] == EVERY_FAILURE


def test_a_long_error_is_cut() -> None:
    with InProcessExecutor(RaisingEvaluator((ValueError("x" * 10_000),))) as here:
        (outcome,) = drain(here, [job(0)])
    assert isinstance(outcome.result, Failure)
    assert 100 < len(outcome.result.error) < 1000


def test_losses_are_counted_for_each_job(tmp_path: Path) -> None:
    """Not for a trial: the same one with other epochs is another job."""
    evaluator = KillingEvaluator(times=2, seeds=frozenset({job(0).seed}), notes=tmp_path)
    with LocalExecutor(evaluator, workers=1, retries=0) as workers:
        outcomes = drain(workers, [job(0, epochs=1), job(0, epochs=2), job(0, epochs=3)])
    assert [type(outcome.result) for outcome in outcomes] == [Failure, Failure, Score]
    assert all("lost once" in str(outcome.result) for outcome in outcomes[:2])


def test_a_lost_worker_is_replaced_and_its_job_run_again(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(6)]
    evaluator = KillingEvaluator(times=2, seeds=frozenset({jobs[1].seed}), notes=tmp_path)
    with InProcessExecutor(FakeEvaluator()) as here:
        expected = drain(here, jobs)
    with LocalExecutor(evaluator, workers=2, retries=2) as workers:
        assert drain(workers, jobs) == expected
    assert (tmp_path / str(jobs[1].seed)).read_text() == "3"


def test_a_job_that_loses_every_worker_fails_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(3)]
    evaluator = KillingEvaluator(times=99, seeds=frozenset({jobs[0].seed}), notes=tmp_path)
    with LocalExecutor(evaluator, workers=1, retries=1) as workers:
        outcomes = drain(workers, jobs)
    text = "its worker process was lost 2 times (killed, perhaps for lack of memory)"
    assert outcomes[0].result == Failure(FailureKind.WORKER_LOST, text)
    assert all(isinstance(outcome.result, Score) for outcome in outcomes[1:])


def test_an_idle_worker_that_died_is_replaced_and_ctrl_c_is_not_for_workers() -> None:
    # one retry: while a killed process's last threads still end, its pipe may take a job that nobody will answer
    with LocalExecutor(FakeEvaluator(), workers=1, retries=1) as workers:
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
    with LocalExecutor(SlowEvaluator(600, notes), workers=1, retries=0) as workers:
        workers.submit(job(0))
        wait_until(lambda: notes.exists() and len(notes.read_text().split()) == 2)
        assert workers.collect(0.0) == []
        started, pids = time.monotonic(), [int(pid) for pid in notes.read_text().split()]
        assert workers.processes[0] in pids
    assert time.monotonic() - started < 4
    wait_until(lambda: not any(map(alive, pids)))


@dataclass
class SickEvaluator:
    """Loses the GPU of its process at the first call of all for the seed 1001, and can do nothing there afterwards."""

    notes: Path
    is_lost: bool = False

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        if seed == 1001 and not self.notes.exists():
            self.notes.touch()
            self.is_lost = True
        if self.is_lost:
            import torch

            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors")
        return FakeEvaluator().evaluate(genotype, seed, epochs)


def test_a_worker_whose_gpu_answers_no_more_is_replaced_and_its_job_run_again(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(4)]
    with InProcessExecutor(FakeEvaluator()) as here:
        expected = drain(here, jobs)
    with LocalExecutor(SickEvaluator(tmp_path / "notes"), workers=1, retries=1) as workers:
        assert drain(workers, jobs) == expected


def test_a_job_that_may_not_be_tried_again_says_what_its_gpu_said(tmp_path: Path) -> None:
    with LocalExecutor(SickEvaluator(tmp_path / "notes"), workers=1, retries=0) as workers:
        lost, *others = drain(workers, [job(1), job(2)])
    assert isinstance(lost.result, Failure)
    assert lost.result.kind is FailureKind.WORKER_LOST
    assert "illegal memory access" in lost.result.error
    assert len(scores(others)) == 1


class TooLarge(FakeEvaluator):
    def __reduce__(self) -> str:
        raise RuntimeError("unable to allocate shared memory")


def test_data_that_cannot_be_shared_are_an_error_that_says_what_to_do() -> None:
    with (
        LocalExecutor(TooLarge(), workers=1, retries=0) as workers,
        pytest.raises(NascliError, match=r"unable to allocate shared memory.*--shm-size"),
    ):
        workers.submit(job(0))


PARENT = """
import sys
from pathlib import Path
from nascli.search.executors.local import LocalExecutor
from tests.fakes import SlowEvaluator
from tests.search.executor_helpers import job

if __name__ == "__main__":
    with LocalExecutor(SlowEvaluator(600, Path(sys.argv[1])), workers=2, retries=0) as workers:
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
