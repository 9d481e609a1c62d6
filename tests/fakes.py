"""Fakes that make a whole search run in milliseconds, and workers that die when told to."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from nascli.errors import DivergedError
from nascli.genotype.cells.space import CellSpace
from nascli.genotype.genotype import Genotype
from nascli.models.latency import Latency
from nascli.search.evaluators.evaluator import Evaluator
from nascli.search.executors.executor import InProcessExecutor, Job, JobOutcome
from nascli.search.trial import Score, Trial
from tests.published import as_cells

TINY = CellSpace(name="tiny", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=2)
"""Small enough for repeats to come by themselves."""


def make_latency(seconds: float = 1.0, **values: object) -> Latency:
    """A latency as if it had been measured."""
    usual = {"median": 1.1 * seconds, "upper": 1.2 * seconds, "reference": 0.001, "engine": "openvino"}
    where = {"precision": "float32", "device": "cpu", "threads": 1, "image_size": 8, "batch": 1, "repeats": 15}
    return Latency(seconds=seconds, **{**usual, **where, **values})


def hide_package(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let a package be as where it is not installed, though it may be loaded."""
    for inner in [each for each in sys.modules if each.startswith(f"{name}.")]:
        patch.delitem(sys.modules, inner)
    patch.setitem(sys.modules, name, None)


@dataclass(frozen=True)
class FakeEvaluator:
    """The reward is the part of the ops that are separable convolutions, plus a little noise from the seed.

    Args:
        failing: The part of the seeds for which the child diverges.
    """

    failing: float = 0.0

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        if random.Random(seed).random() < self.failing:
            raise DivergedError("the loss became nan at step 3")
        cells = as_cells(genotype)
        ops = [op for cell in (cells.normal, cells.reduction) for block in cell.blocks for op in block.ops]
        convolutions = sum(op.startswith("sep_conv") for op in ops)
        accuracy = 0.9 * convolutions / len(ops) + 0.1 * random.Random(seed + 1).random()
        return Score(
            reward=accuracy, accuracy=accuracy, params=1000 + convolutions, mult_adds=10_000 + convolutions, seconds=0.0
        )


@dataclass(frozen=True)
class SlowEvaluator:
    """Takes so many seconds; has a process of its own, as readers of images are, and notes that one and itself."""

    seconds: float
    notes: Path

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        helper = subprocess.Popen(["sleep", "600"])
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()}\n{helper.pid}\n")
        time.sleep(self.seconds)
        return FakeEvaluator().evaluate(genotype, seed)


@dataclass(frozen=True)
class KillingEvaluator:
    """Kills its own process the first so many times that it is asked for one of these seeds."""

    times: int
    seeds: frozenset[int]
    notes: Path

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        count = self.notes / str(seed)
        tries = int(count.read_text()) if count.exists() else 0
        count.write_text(str(tries + 1))
        if seed in self.seeds and tries < self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return FakeEvaluator().evaluate(genotype, seed)


class ChainStrategy:
    """Its proposals depend on every reward it was told, bit by bit, and on their order."""

    diagnostics: Mapping[str, float] = {}

    def __init__(self, space: CellSpace, seed: int, batch_size: int) -> None:
        self._sizes = space.decision_sizes
        self.batch_size = batch_size
        self.state = str(seed)
        self._asked = 0

    def ask(self) -> tuple[int, ...]:
        draw = random.Random(f"{self.state}/{self._asked}")
        self._asked += 1
        return tuple(draw.randrange(size) for size in self._sizes)

    def tell(self, tokens: tuple[int, ...], reward: float) -> None:
        self.state = hashlib.sha256(f"{self.state}/{tokens}/{reward!r}".encode()).hexdigest()


class ShuffledExecutor:
    """Holds several jobs at a time and gives back one of them, drawn at random: workers of any speed."""

    def __init__(self, evaluator: Evaluator, capacity: int, seed: int) -> None:
        self._one = InProcessExecutor(evaluator)
        self._capacity = capacity
        self._draw = random.Random(seed)
        self._jobs: list[Job] = []
        self.ran: list[int] = []

    @property
    def free(self) -> int:
        return self._capacity - len(self._jobs)

    @property
    def busy(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        assert self.free > 0
        self._jobs.append(job)

    def collect(self, timeout: float) -> list[JobOutcome]:
        job = self._jobs.pop(self._draw.randrange(len(self._jobs)))
        self.ran.append(job.trial)
        self._one.submit(job)
        return self._one.collect(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._jobs.clear()


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Trial] = []
        self.restored = 0
        self.updates: list[tuple[int, Mapping[str, float]]] = []
        self.notes: list[str] = []

    def on_start(self, trials: Sequence[Trial]) -> None:
        self.restored = len(trials)

    def on_trial(self, trial: Trial) -> None:
        self.changes.append(trial)

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        self.updates.append((told, diagnostics))

    def on_message(self, text: str) -> None:
        self.notes.append(text)
