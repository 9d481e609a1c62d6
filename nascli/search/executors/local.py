"""The executor of worker processes on this machine.

Rules for worker processes:

- A worker is started when a job needs it and keeps its evaluator: torch and the data are loaded once, tensors lie in
  shared memory. It has one pipe, and one thread of computation, so that a result does not depend on its neighbors.
- A worker has a slot, a number below the number of workers, which decides the GPU that it sees. The replacement
  of a lost worker gets its slot.
- A job is in exactly one place: with one worker, or back with the caller as an outcome. A worker that dies leaves its
  job to a new worker; a job that loses its worker more often than `retries` comes back as failed. A worker whose GPU
  answers no more (an illegal access, say) ends, since only a new process can use the GPU again.
- Workers ignore Ctrl-C: the parent decides. They end when the parent does, whatever ended it, and each with all the
  processes that its evaluator may have started: a worker leads a process group of its own.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Self

from nascli.errors import NascliError
from nascli.search.evaluators.evaluator import Evaluator
from nascli.search.executors.executor import Job, JobOutcome, evaluate_job, find_loss, lost_worker, set_environment
from nascli.search.trial import Failure, Score

_PATIENCE = 5.0
"""Seconds that a worker which was asked to end gets before it is killed."""


_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Where torch's allocator looks for a user's settings. By default workers ask for blocks that grow: each child has
tensors of other sizes, and the gaps that they leave in one worker's memory are missing in the others'."""


@dataclass
class _Worker:
    slot: int
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class LocalExecutor:
    """Runs jobs in persistent worker processes on this machine, each with one thread.

    Args:
        workers: Processes at most; they start as jobs come.
        retries: Times that a job is run again, with the same seed, after its worker was lost.
        gpus: GPUs that are assigned to workers, of those that this process sees: the worker in slot i sees only number
            i % gpus, as its device 0. With 0 every worker sees all that this process does.

    Raises:
        ValueError: CUDA_VISIBLE_DEVICES names fewer GPUs than that.
    """

    def __init__(self, evaluator: Evaluator, *, workers: int, retries: int, gpus: int = 0) -> None:
        self._evaluator, self._capacity, self._retries = evaluator, workers, retries
        self._gpus = _visible_gpus(gpus)
        self._workers: list[_Worker] = []
        self._losses: dict[Job, int] = {}
        self._context = get_context("spawn")

    @property
    def free(self) -> int:
        """Workers without a job, those not started yet included."""
        return self._capacity - self.busy

    @property
    def busy(self) -> int:
        """Workers with a job."""
        return sum(worker.job is not None for worker in self._workers)

    @property
    def processes(self) -> tuple[int, ...]:
        """The process ids of the workers there are."""
        return tuple(worker.process.pid or 0 for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Give the job to a worker that is free, or to a new one."""
        while True:
            worker = next((w for w in self._workers if w.job is None), None) or self._start()
            worker.job = job
            try:
                worker.pipe.send(job)
                return
            except OSError:  # it died while it had nothing to do
                worker.job = None
                self._remove(worker)

    def collect(self, timeout: float) -> list[JobOutcome]:
        """The outcomes so far; a lost worker's job is run again by another, or comes back as failed."""
        busy = [worker for worker in self._workers if worker.job is not None]
        if not busy:
            return []
        connection.wait([worker.pipe for worker in busy] + [worker.process.sentinel for worker in busy], timeout)
        outcomes = (self._collect(worker) for worker in busy)
        return [outcome for outcome in outcomes if outcome is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.process.terminate()  # all at once; the groups follow one by one
        for worker in list(self._workers):
            self._remove(worker)

    def _collect(self, worker: _Worker) -> JobOutcome | None:
        job = worker.job
        assert job is not None
        ended = not worker.process.is_alive()  # asked before the pipe: a last result may have been sent until then
        try:
            if worker.pipe.poll():
                result: Score | Failure = worker.pipe.recv()
                if cause := find_loss(result):
                    return self._run_again(worker, job, cause)
                worker.job = None
                return JobOutcome(job, result)
        except (EOFError, OSError):
            ended = True
        return self._run_again(worker, job) if ended else None

    def _run_again(self, worker: _Worker, job: Job, cause: str | None = None) -> JobOutcome | None:
        code = self._remove(worker)
        losses = self._losses[job] = self._losses.get(job, 0) + 1
        if losses <= self._retries:
            self.submit(job)
            return None
        return JobOutcome(job, lost_worker(losses, cause or _cause(code)))

    def _start(self) -> _Worker:
        taken = {worker.slot for worker in self._workers}
        slot = next(number for number in range(self._capacity) if number not in taken)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._evaluator), name="nascli-worker"
        )  # no daemon: an evaluator may start processes of its own to read images
        try:
            with set_environment(self._worker_environment(slot)), _block_interrupts():
                process.start()
        except RuntimeError as error:  # how torch says that shared memory is short
            raise NascliError(
                f"the data cannot be shared with a worker process: {error}",
                "Shared memory may be too small: in a container raise it (docker run --shm-size=4g)",
            ) from error
        finally:
            theirs.close()
        worker = _Worker(slot, process, ours)
        self._workers.append(worker)
        return worker

    def _worker_environment(self, slot: int) -> dict[str, str]:
        """The environment variables that a worker needs before it loads torch."""
        variables = {"OMP_NUM_THREADS": "1"}
        if not any(name in os.environ for name in _ALLOCATOR):
            variables[_ALLOCATOR[0]] = "expandable_segments:True"
        if self._gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return variables

    def _remove(self, worker: _Worker) -> int | None:
        """Forget a worker, which must end now; its exit code."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(_PATIENCE)
        if group := worker.process.pid:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        code = worker.process.exitcode
        worker.process.close()
        return code


def _work(pipe: Connection, evaluator: Evaluator) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "torch" in sys.modules:  # the evaluator brought it
        sys.modules["torch"].set_num_threads(1)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        result = evaluate_job(evaluator, job).result
        pipe.send(result)
        if find_loss(result):
            return
        _return_gpu_memory()


def _return_gpu_memory() -> None:
    """Give back the memory that torch keeps for further tensors: the other workers of the GPU may need it now."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGTERM)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return "killed, perhaps for lack of memory" if -code == signal.SIGKILL else f"killed by signal {-code}"


def _visible_gpus(count: int) -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES may name the first GPUs that this process sees."""
    own = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in own.split(",")] if own is not None else [str(each) for each in range(count)]
    if len(names) < count:
        raise ValueError(f"{count} GPUs, but CUDA_VISIBLE_DEVICES is {own!r}")
    return names[:count]


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C; one pressed meanwhile reaches this process afterwards."""
    resource_tracker.ensure_running()  # it starts a process of its own and would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
