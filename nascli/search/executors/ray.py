"""The executor on a Ray cluster: jobs run on as many machines as it has.

Rules, beside those of local workers (one job at a time, one thread, a lost worker's job is run again):

- A worker is a Ray actor with one CPU, and a GPU or a share of one. It gets a job only when it has been placed on a
  node and holds its evaluator, so a cluster that has room for fewer workers runs the jobs with fewer.
- The evaluator, with its data, goes into Ray's object store once; every worker takes a copy of its own.
- Ray overwrites this process's handler of SIGTERM and prints to its standard output. Here it does neither.

Every node needs the same Python, Ray and nascli as this process. A data set that is read from a folder image by image
needs that folder on every node.
"""

import importlib
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Self

from nascli.errors import InputError, NascliError
from nascli.search.evaluators.evaluator import Evaluator
from nascli.search.executors.executor import Job, JobOutcome, evaluate_job, find_loss, lost_worker, set_environment
from nascli.search.trial import Failure, Score

_PATIENCE = 10.0
"""Seconds in which a cluster must answer."""


class RayExecutor:
    """Runs jobs in the actors of a Ray cluster.

    Joins the cluster at the address, or at RAY_ADDRESS, or the one that `ray start` started on this machine; where
    there is none, starts a local Ray and ends it on leaving. In a process that uses Ray already it uses that.

    Args:
        workers: Actors at most; they start as jobs come.
        retries: Times that a job is run again, with the same seed, after its worker was lost.
        gpus_per_worker: Share of a GPU per worker; 0.5 lets two share one.
        address: `host:port` of the cluster to join.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        workers: int,
        retries: int,
        gpus_per_worker: float = 0.0,
        address: str | None = None,
    ) -> None:
        self._ray = _load_ray()
        self._evaluator, self._capacity, self._retries = evaluator, workers, retries
        self._share, self._address = gpus_per_worker, address
        self._connected = False
        self._new_worker: Any = None
        self._waiting: deque[Job] = deque()
        self._running: dict[Any, tuple[Any, Job | None]] = {}  # by what is awaited: the worker, and its job once ready
        self._idle: list[Any] = []
        self._losses: dict[Job, int] = {}

    @property
    def free(self) -> int:
        """Jobs that may be submitted now."""
        return self._capacity - self.busy

    @property
    def busy(self) -> int:
        """Jobs with a worker, and those that wait for one to be ready."""
        return len(self._waiting) + sum(job is not None for _, job in self._running.values())

    def submit(self, job: Job) -> None:
        """Give the job to a worker that is free, or to the first of the others that will be."""
        self._waiting.append(job)
        self._dispatch()

    def collect(self, timeout: float) -> list[JobOutcome]:
        """The outcomes so far; a lost worker's job is run again by another, or comes back as failed.

        Raises:
            NascliError: A worker cannot be started at all.
        """
        if not self.busy:
            return []
        ready, _ = self._ray.wait(list(self._running), timeout=timeout)
        if ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        outcomes = [self._collect(awaited) for awaited in ready]
        self._dispatch()
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        """End all workers, and Ray if it was started here; jobs that they have are dropped."""
        for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
            self._end(worker)
        for held in (self._idle, self._running, self._waiting):
            held.clear()
        self._new_worker = None
        if self._connected:
            self._connected = False
            self._ray.shutdown()  # only leaves a cluster that it joined

    def __enter__(self) -> Self:
        """Join the cluster, or start a local Ray.

        Raises:
            InputError: The cluster cannot be joined, or no node has what a worker needs.
        """
        if not self._ray.is_initialized():
            self._connect()
            self._connected = True
        try:
            self._check_nodes()
            stored = self._ray.put(self._evaluator)
        except BaseException:
            self.close()
            raise
        actor = self._ray.remote(num_cpus=1, num_gpus=self._share)(_RayWorker)
        self._new_worker = lambda: actor.remote([stored])
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _dispatch(self) -> None:
        """Leave no job waiting while a worker is idle, and start a worker for each that still waits."""
        while self._waiting and self._idle:
            worker, job = self._idle.pop(), self._waiting.popleft()
            self._running[worker.run.remote(job)] = worker, job
        starting = sum(job is None for _, job in self._running.values())
        for _ in range(len(self._waiting) - starting):
            worker = self._new_worker()
            self._running[worker.ready.remote()] = worker, None

    def _collect(self, awaited: object) -> JobOutcome | None:
        worker, job = self._running.pop(awaited)
        try:
            result: Score | Failure = self._ray.get(awaited)
        except self._ray.exceptions.RayError as error:
            self._end(worker)
            if getattr(error, "actor_init_failed", False):
                raise NascliError(
                    f"a Ray worker cannot start: {_last_line(error)}",
                    "Every node of the cluster needs the same Python, Ray and nascli as this machine",
                ) from error
            return self._run_again(job, f"Ray says {type(error).__name__}")
        if job is not None and (cause := find_loss(result)):
            self._end(worker)
            return self._run_again(job, cause)
        self._idle.append(worker)
        return None if job is None else JobOutcome(job, result)

    def _run_again(self, job: Job | None, cause: str) -> JobOutcome | None:
        if job is None:  # lost while it started: that counts for a job that waits, or it might go on for ever
            if not self._waiting:
                return None
            job = self._waiting.popleft()
        losses = self._losses[job] = self._losses.get(job, 0) + 1
        if losses <= self._retries:
            self._waiting.appendleft(job)
            return None
        return JobOutcome(job, lost_worker(losses, cause))

    def _end(self, worker: object) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        place = self._address or os.environ.get("RAY_ADDRESS") or ""
        with _keep_signal_handlers():
            try:
                _check_reachable(place)
                try:
                    with set_environment({"RAY_USAGE_STATS_ENABLED": "0"}):
                        self._ray.init(self._address, num_cpus=self._capacity, include_dashboard=False, **quiet)
                except ValueError:  # these settings are not for a cluster that runs already: there is one
                    self._ray.init(self._address, **quiet)
            except (ValueError, OSError, RuntimeError) as error:
                raise InputError(
                    f"the Ray cluster {place or 'on this machine'} cannot be joined: {_last_line(error)}",
                    "Start one with ray start --head, and give its address as RAY_ADDRESS=host:port",
                ) from error

    def _check_nodes(self) -> None:
        """Refuse a cluster without a node that can take a worker: the search would wait without a word."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= self._share for node in nodes):
            need = "a CPU and a GPU" if self._share else "a CPU"
            raise InputError(
                f"none of the {len(nodes)} nodes of the Ray cluster has {need} for a worker",
                "Add one that has before the search starts",
            )


class _RayWorker:
    """The worker in a Ray actor.

    Args:
        stored: The reference of the evaluator, in a list, so that Ray does not load it (and torch) too early.
    """

    def __init__(self, stored: list[Any]) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self._evaluator: Evaluator = _load_ray().get(stored[0])
        if "torch" in sys.modules:  # the evaluator brought it
            sys.modules["torch"].set_num_threads(1)

    def ready(self) -> None:
        """Return once the evaluator is loaded."""

    def run(self, job: Job) -> Score | Failure:
        """Run a job; an error is returned as a failure."""
        return evaluate_job(self._evaluator, job).result


def _load_ray() -> ModuleType:
    """The package, which neither type checks nor other executors need."""
    try:
        with set_environment({"RAY_DEDUP_LOGS_SKIP_REGEX": "."}):  # read on import: nothing of the cluster is printed
            return importlib.import_module("ray")
    except ImportError as error:
        raise InputError("ray is not installed", 'pip install "nascli[ray]"') from error


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray overwrites."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_reachable(address: str) -> None:
    """Raise OSError at once where nothing listens at host:port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
