"""The Ray executor: the same outcomes as in this process, whatever happens to its workers."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nascli.config import SearchRecipe, load_recipe
from nascli.errors import DivergedError, InputError, NascliError, RejectedError
from nascli.genotype.genotype import Genotype
from nascli.search.executors.executor import InProcessExecutor
from nascli.search.executors.ray import RayExecutor
from nascli.search.trial import Failure, FailureKind, Score
from tests.fakes import FakeEvaluator, KillingEvaluator
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

if TYPE_CHECKING:  # it loads torch, which most workers here do without
    from nascli.search.evaluators.evaluator import Evaluator

ray = pytest.importorskip("ray")
pytestmark = [  # Ray leaves files and processes of its own open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STORE = 100 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray with two CPUs, which this process has joined."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray puts sockets there, whose paths must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "2")
        context = ray.init(
            "local",
            num_cpus=2,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def list_children(pid: int) -> set[int]:
    """All descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | list_children(child)
    return found


@pytest.mark.usefixtures("cluster")
def test_ray_and_this_process_give_the_same_outcomes() -> None:
    jobs = [job(number) for number in range(12)]
    evaluator = FakeEvaluator(failing=0.3)
    with InProcessExecutor(evaluator) as here:
        expected = drain(here, jobs)
    assert {type(outcome.result) for outcome in expected} == {Score, Failure}
    with RayExecutor(evaluator, workers=3, retries=0) as executor:  # one more than there is room for
        assert (executor.free, executor.busy) == (3, 0)
        executor.submit(jobs[0])
        assert (executor.free, executor.busy) == (2, 1)
        assert drain(executor, jobs[1:]) == expected
        assert executor.collect(0.0) == []
    assert ray.is_initialized()  # it was before


@pytest.mark.usefixtures("cluster")
def test_errors_are_failures_of_their_kinds_and_epochs_reach_the_evaluator() -> None:
    errors = (DivergedError("nan"), RejectedError("too large"), MemoryError(), ZeroDivisionError("x"))
    kinds = [FailureKind.DIVERGED, FailureKind.REJECTED, FailureKind.OUT_OF_MEMORY, FailureKind.CRASHED]
    with RayExecutor(RaisingEvaluator(errors), workers=1, retries=0) as executor:
        results = [outcome.result for outcome in drain(executor, [job(number) for number in range(4)])]
    assert [result.kind for result in results if isinstance(result, Failure)] == kinds
    with RayExecutor(EpochsEvaluator(), workers=1, retries=0) as executor:
        assert [score.reward for score in scores(drain(executor, [job(0), job(0, epochs=7)]))] == [-1, 7]


class AcceleratorError(RuntimeError):
    """As torch's, which each worker would take seconds to import."""


@dataclass
class SickEvaluator:
    """Loses the GPU of its process at the first call of all, and can do nothing there afterwards."""

    notes: Path
    is_lost: bool = False

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        if not self.notes.exists():
            self.notes.touch()
            self.is_lost = True
        if self.is_lost:
            raise AcceleratorError("CUDA error: device-side assert triggered")
        return FakeEvaluator().evaluate(genotype, seed, epochs)


@pytest.mark.usefixtures("cluster")
def test_a_worker_whose_gpu_answers_no_more_is_replaced_and_its_job_run_again(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(2)]
    with InProcessExecutor(FakeEvaluator()) as here:
        expected = drain(here, jobs)
    with RayExecutor(SickEvaluator(tmp_path / "notes"), workers=1, retries=1) as executor:
        assert drain(executor, jobs) == expected


@dataclass(frozen=True)
class NotedEvaluator:
    """Notes its process; never ends in the first that it is asked in."""

    notes: Path

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        first = not self.notes.exists()
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(600 if first else 0)
        return FakeEvaluator().evaluate(genotype, seed)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_job_of_a_worker_that_was_killed_is_run_again(tmp_path: Path) -> None:
    notes = tmp_path / "pids"
    with RayExecutor(NotedEvaluator(notes), workers=1, retries=1) as executor:
        executor.submit(job(0))
        wait_until(lambda: executor.collect(0.05) == [] and notes.exists() and notes.read_text().endswith("\n"))
        os.kill(int(notes.read_text()), signal.SIGKILL)
        outcomes = drain(executor, [])
        first, second = notes.read_text().split()
    with InProcessExecutor(FakeEvaluator()) as here:
        assert outcomes == drain(here, [job(0)])
    assert first != second


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_job_that_loses_every_worker_fails_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [job(number) for number in range(3)]
    evaluator = KillingEvaluator(times=99, seeds=frozenset({jobs[0].seed}), notes=tmp_path)
    with RayExecutor(evaluator, workers=1, retries=1) as executor:
        outcomes = drain(executor, jobs)
    assert isinstance(outcomes[0].result, Failure)
    assert outcomes[0].result.kind is FailureKind.WORKER_LOST
    assert "lost 2 times" in outcomes[0].result.error
    assert len(scores(outcomes[1:])) == 2
    assert (tmp_path / str(jobs[0].seed)).read_text() == "2"


@dataclass(frozen=True)
class ThreadsEvaluator:
    """Another evaluator's scores, with the threads that its process has and was told to have in place of seconds."""

    evaluator: "Evaluator"

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        import torch

        told = float(os.environ["OMP_NUM_THREADS"])
        return replace(self.evaluator.evaluate(genotype, seed), seconds=10 * told + torch.get_num_threads())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_proxy_training_gives_the_same_score_on_ray_with_one_thread() -> None:
    """Whatever the environment in which the cluster was started says, and with tensors in shared memory."""
    import torch

    from nascli.search.evaluators.proxy import ProxyTraining, load_child_setup

    flags = {"network.filters": 4, "network.cells_per_stage": 1, "network.image_size": 8, "train.epochs": 1}
    recipe = load_recipe(SearchRecipe, None, flags)
    proxy = ProxyTraining(load_child_setup(recipe, torch.device("cpu")), recipe.train)
    proxy.setup.data.train.labels.share_memory_()  # type: ignore[no-untyped-call]
    with InProcessExecutor(proxy) as here, RayExecutor(ThreadsEvaluator(proxy), workers=1, retries=0) as executor:
        (expected,), (score,) = scores(drain(here, [job(0)])), scores(drain(executor, [job(0)]))
    assert score == replace(expected, seconds=11.0)
    assert score.reward > 0.1


@dataclass(frozen=True)
class Unloadable:
    """An evaluator that a worker cannot have, as where the package is absent."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        raise NotImplementedError


@pytest.mark.usefixtures("cluster")
def test_workers_that_cannot_start_end_the_search() -> None:
    with (
        RayExecutor(Unloadable(), workers=1, retries=9) as executor,
        pytest.raises(NascliError, match=r"a Ray worker cannot start: .*no number.*the same Python, Ray and nascli"),
    ):
        drain(executor, [job(0)])


@pytest.mark.usefixtures("cluster")
def test_a_cluster_without_a_fitting_node_is_refused() -> None:
    """Its workers would wait for ever."""
    with (
        pytest.raises(InputError, match="none of the 1 nodes of the Ray cluster has a CPU and a GPU"),
        RayExecutor(FakeEvaluator(), workers=1, retries=0, gpus_per_worker=0.5),
    ):
        pass


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'ray is not installed. pip install "nascli\[ray\]"'):
        RayExecutor(FakeEvaluator(), workers=1, retries=0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    started = time.monotonic()
    with (
        pytest.raises(InputError, match=rf"the Ray cluster {address} cannot be joined: .*RAY_ADDRESS=host:port"),
        RayExecutor(FakeEvaluator(), workers=1, retries=0, address=address),
    ):
        pass
    assert time.monotonic() - started < 10


DRIVER = """
import os
import signal
import sys
from pathlib import Path
from nascli.search.executors.ray import RayExecutor
from tests.fakes import SlowEvaluator
from tests.search.executor_helpers import drain, job
from tests.search.test_ray_executor import list_children

if __name__ == "__main__":
    notes = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with RayExecutor(SlowEvaluator(0.0, notes), workers=2, retries=0) as executor:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        executor.submit(job(0))
        outcomes = drain(executor, [job(1)])
        assert [outcome.job for outcome in outcomes] == [job(0), job(1)]
        (notes.parent / "children").write_text(" ".join(map(str, list_children(os.getpid()))))
"""


def drive(folder: Path, **variables: str) -> tuple[set[int], set[int]]:
    """Run two jobs from a process of their own; who evaluated, and whom the process had started."""
    script, notes = folder / "driver.py", folder / "pids"
    script.write_text(DRIVER)
    ended = subprocess.run(
        [sys.executable, script, notes],
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return set(map(int, notes.read_text().split())), set(map(int, (folder / "children").read_text().split()))


@pytest.mark.slow
def test_a_local_ray_is_started_and_ended(tmp_path: Path) -> None:
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        workers, children = drive(tmp_path, RAY_TMPDIR=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert len(children) > 3
    wait_until(lambda: not any(map(alive, workers | children)))


def test_a_cluster_that_was_joined_goes_on(tmp_path: Path, cluster: str) -> None:
    workers, children = drive(tmp_path, RAY_ADDRESS=cluster)
    assert not children & workers
    wait_until(lambda: not any(map(alive, workers)))
    with RayExecutor(FakeEvaluator(), workers=1, retries=0) as executor:
        assert len(scores(drain(executor, [job(0)]))) == 1
