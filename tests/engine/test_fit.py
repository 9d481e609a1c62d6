"""The engine's services to every task: here to one of its own, with batches that fail and memory that runs out."""

import itertools
from pathlib import Path

import pytest
import torch

from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.fit import fit
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState
from nascli.errors import CorruptFileError, DivergedError
from tests.classify.small_training import CPU, equal, weights
from tests.engine.line_task import CONFIG, LineTask


def train(task: LineTask, folder: Path | None = None, run: Run | None = None) -> TrainState:
    store = CheckpointStore(folder, "x", command="detect") if folder else None
    return fit(task, 1, run or Run(CPU), store)


def test_a_task_of_its_own_is_trained_averaged_and_measured() -> None:
    task = LineTask(CONFIG.model_copy(update={"epochs": 40}))
    state = train(task)
    assert state.ema is not None
    assert equal(weights(task.modules), weights(state.ema.module))
    assert state.records[-1].to_dict()["at_one"] == pytest.approx(4, abs=0.1)
    assert state.step == 160


def test_a_batch_that_cannot_be_read_costs_no_step(tmp_path: Path) -> None:
    def damage(step: int) -> None:
        if step == 6:
            raise CorruptFileError("image 6 cannot be read", "Replace it")

    expected, resumed = LineTask(), LineTask()
    train(expected)
    with pytest.raises(CorruptFileError, match=r"image 6 .* Replace it; the state is saved.*detect --resume"):
        train(LineTask(before_batch=damage), tmp_path)
    steps: list[int] = []
    train(resumed, tmp_path, Run(CPU, on_step=lambda step, loss: steps.append(step)))
    assert steps == [7, 8]
    assert equal(weights(resumed.modules), weights(expected.modules))


def test_a_state_is_saved_before_the_first_step(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(step: int) -> None:
        state = CheckpointStore(tmp_path, "x").load()
        assert state is not None
        seen.append(state["step"])

    train(LineTask(before_batch=look), tmp_path)
    assert seen == [0, 0, 0, 0, 4, 4, 4, 4]


def test_memory_that_runs_out_halves_the_micro_batches_of_any_task() -> None:
    calls, notes = itertools.count(), list[str]()

    def full(points: int) -> None:
        if next(calls) == 0:
            raise torch.OutOfMemoryError("no room")

    expected, found = LineTask(CONFIG.model_copy(update={"grad_accum_steps": 2})), LineTask(before_loss=full)
    train(expected)
    assert train(found, run=Run(CPU, log=notes.append)).micro_batches == 2
    assert len(notes) == 1
    assert "2 micro-batches" in notes[0]
    assert equal(weights(found.modules), weights(expected.modules))


@pytest.mark.parametrize(("value", "what"), [("nan", "loss is nan"), ("inf", "gradient is (inf|nan)")])
def test_a_training_that_diverges_names_step_and_images_and_saves_nothing(
    tmp_path: Path, value: str, what: str
) -> None:
    task, steps = LineTask(), itertools.count(1)

    def poison(gradient: torch.Tensor) -> torch.Tensor | None:
        return gradient * torch.inf if value == "inf" and next(steps) == 3 else None

    def on_step(step: int, loss: float) -> None:
        if step == 2 and value == "nan":
            task.line.weight.data.fill_(torch.nan)

    task.line.weight.register_hook(poison)  # type: ignore[no-untyped-call]
    with pytest.raises(DivergedError, match=rf"the {what}.* at step 3, on the images with ids \d+, \d+, \d+, \d+\."):
        train(task, tmp_path, Run(CPU, on_step=on_step))
    state = CheckpointStore(tmp_path, "x").load()
    assert state is not None
    assert state["step"] == 0
