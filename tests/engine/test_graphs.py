"""Steps as CUDA graphs make those that are launched one by one: on the CPU, by a recorder that repeats operations."""

import itertools
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar

import pytest
import torch
from launches import META, StepCounter, as_on_a_gpu
from torch import Tensor

from nascli.classify import task as classify_task
from nascli.classify.task import ClassifyTask
from nascli.config import DataConfig, FineTuneConfig, TrainConfig, TrainRecipe, find_recipe, load_recipe, recipes_folder
from nascli.engine import fit as fitting
from nascli.engine import graphs
from nascli.engine.fit import fit
from nascli.engine.graphs import WARM_UP, GraphedStep, Step, choose_step
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState, start_state
from nascli.models.cells.network import CellNetwork
from nascli.models.interface import ImageClassifier
from nascli.models.tuning import freeze_weights
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, equal, make_data, make_network, weights
from tests.recorder import OperationRecorder

Result = TypeVar("Result")

STEPS = 12
"""Those of the three epochs of `EVERYTHING`."""


@pytest.fixture(autouse=True)
def _numbers_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify_task, "keeps_numbers_on", lambda device: True)
    monkeypatch.setattr(graphs, "WORTH", 0)


def changed_by(state: TrainState) -> Iterator[Tensor]:
    yield from state.modules.state_dict().values()
    for values in state.optimizer.state.values():
        yield from values.values()
    if state.ema is not None:
        yield from state.ema.module.state_dict().values()
    if state.scaler.is_enabled():
        yield from (each for each in (state.scaler._scale, state.scaler._growth_tracker) if each is not None)


def train(
    config: TrainConfig,
    augmentation: DataConfig = AUGMENTATION,
    prepare: Callable[[TrainState], object] = lambda state: None,
    **run: Any,  # noqa: ANN401 - of `Run`
) -> TrainState:
    """The plain training, step by step; it begins with `prepare`."""

    def choose(state: TrainState, task: ClassifyTask, run: Run) -> Step[Any]:
        prepare(state)
        return choose_step(state, task, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "choose_step", choose)
        return run_task(config, augmentation, **run)


def run_task(config: TrainConfig, augmentation: DataConfig, **run: Any) -> TrainState:  # noqa: ANN401
    there = Run(CPU, **run)
    return fit(ClassifyTask(make_network(), make_data(size=12), config, augmentation, 1, there), 1, there)


class Recorded:
    """A training whose steps are recorded: its state at the end, what made its steps, and what it said."""

    def __init__(
        self,
        config: TrainConfig,
        augmentation: DataConfig = AUGMENTATION,
        prepare: Callable[[TrainState], object] = lambda state: None,
        recorder: type[OperationRecorder] = OperationRecorder,
        **run: Any,  # noqa: ANN401 - of `Run`
    ) -> None:
        self.notes: list[str] = []

        def choose(state: TrainState, task: ClassifyTask, run: Run) -> Step[Any]:
            prepare(state)
            self.recorder = recorder(lambda: changed_by(state))
            self.step = GraphedStep(state, task, run, self.recorder)
            return self.step

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "choose_step", choose)
            self.state = run_task(config, augmentation, log=self.notes.append, **run)

    def assert_as(self, plain: TrainState, close: float = 0.0) -> None:
        """Weights, their average and the losses are those of a plain training."""
        assert plain.step == self.state.step
        for one, other in ((self.state.modules, plain.modules), (self.state.evaluated, plain.evaluated)):
            torch.testing.assert_close(weights(one), weights(other), rtol=close, atol=close)
        losses = [[(each.train_loss, each.train_top1) for each in state.records] for state in (plain, self.state)]
        torch.testing.assert_close(*(torch.tensor(each) for each in losses), rtol=close, atol=close)


CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "nesterov, no clipping, no average": {"nesterov": True, "clip_grad_norm": 0.0, "ema_decay": 0.0},
    "rmsprop": {"optimizer": "rmsprop", "rmsprop_epsilon": 0.01, "lr": 0.01},
    "adamw": {"optimizer": "adamw", "lr": 0.002},
    "muon": {"optimizer": "muon", "lr": 0.002},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_those_of_the_plain_training(case: str) -> None:
    """With drop path, dropout, warm-up, an auxiliary head, and measuring in between."""
    config = EVERYTHING.model_copy(update=CASES[case])
    recorded = Recorded(config)
    assert (recorded.recorder.rehearsed, recorded.recorder.replayed) == (WARM_UP, STEPS - WARM_UP)
    assert (recorded.step.captures, recorded.step.reason) == (1, "")
    assert [note.split(" (")[0] for note in recorded.notes] == ["CUDA graphs: used from step 4 on"]
    # the rates of the last two are rounded to float32 on the device, and divided by
    recorded.assert_as(train(config), 1e-5 if case in ("adamw", "muon") else 0.0)


@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"mixup": 0.2, "cutmix": 1.0}])
def test_so_are_those_on_mixed_images(mixing: dict[str, float]) -> None:
    data = AUGMENTATION.model_copy(update=mixing)
    recorded = Recorded(EVERYTHING, data)
    assert recorded.step.captures == 1
    recorded.assert_as(train(EVERYTHING, data))


def test_what_is_frozen_or_slower_stays_so() -> None:
    tuned = FineTuneConfig(**EVERYTHING.model_dump(), freeze=("stem",), freeze_batch_norm="statistics", layer_decay=0.7)

    def freeze(state: TrainState) -> None:
        assert isinstance(state.modules, ImageClassifier)
        freeze_weights(state.modules, tuned)

    recorded = Recorded(tuned, prepare=freeze)
    assert recorded.step.captures == 1
    recorded.assert_as(train(tuned, prepare=freeze))


def scale_too_much(state: TrainState) -> None:
    """A loss scaler as of float16, whose highest scale makes gradients overflow, so that steps are skipped."""
    assert isinstance(state.modules, ImageClassifier)
    state.modules.classifier.weight.register_hook(lambda gradient: 30 * gradient)  # type: ignore[no-untyped-call]
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, growth_interval=3)


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_loss_scaler_is_recorded_too(clip: float) -> None:
    config = EVERYTHING.model_copy(update={"clip_grad_norm": clip, "momentum": 0.5})
    plain, recorded = train(config, prepare=scale_too_much), Recorded(config, prepare=scale_too_much)
    assert recorded.step.captures == 1
    recorded.assert_as(plain)
    assert recorded.state.scaler.state_dict() == plain.scaler.state_dict()
    assert plain.scaler.get_scale() < 1e38  # steps were skipped before and after the recording


def test_a_number_of_python_would_stay_as_it_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the equalities above rely on: the recorder of these tests notices."""
    monkeypatch.setattr(classify_task, "keeps_numbers_on", lambda device: False)
    assert not equal(weights(Recorded(EVERYTHING).state.modules), weights(train(EVERYTHING).modules))


def test_images_of_another_size_are_recorded_anew() -> None:
    growing = FineTuneConfig(**EVERYTHING.model_dump() | {"epochs": 4}, image_sizes=(8, 12))
    recorded = Recorded(growing)
    assert recorded.step.captures == recorded.recorder.recorded == 2
    assert recorded.recorder.rehearsed == 2 * WARM_UP
    assert len(recorded.notes) == 1
    recorded.assert_as(train(growing))


def test_sizes_that_change_too_often_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_CAPTURES", 1)
    growing = FineTuneConfig(**EVERYTHING.model_dump() | {"epochs": 4}, image_sizes=(8, 12))
    recorded = Recorded(growing)
    assert recorded.step.captures == 1
    assert "change too often" in recorded.notes[-1]
    recorded.assert_as(train(growing))


class Failing(OperationRecorder):
    """Breaks off after the function was called, as a recording does that CUDA found fault with."""

    error: Exception = RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    def record(self, function: Callable[[], Result]) -> Callable[[], Result]:
        super().record(function)
        raise self.error


class Full(Failing):
    error = torch.OutOfMemoryError("CUDA out of memory")


class Interrupting(Failing):
    """Breaks off in the middle of the optimizer's step."""

    def record(self, function: Callable[[], Result]) -> Callable[[], Result]:
        def refuse(*given: object, **more: object) -> None:
            raise self.error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "_fused_sgd_", refuse)
            return super().record(function)


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Failing, "(CUDA error: operation not permitted when stream is capturing)"), (Full, "memory"), (Interrupting, "")],
)
def test_where_a_step_cannot_be_recorded_steps_go_on_as_before(recorder: type[Failing], reason: str) -> None:
    recorded = Recorded(EVERYTHING, prepare=scale_too_much, recorder=recorder)
    (note,) = recorded.notes
    assert note.startswith("CUDA graphs: not used, since ")
    assert reason in note
    assert recorded.step.captures == 0
    recorded.assert_as(train(EVERYTHING, prepare=scale_too_much))


def test_a_lost_device_is_no_reason_to_go_on() -> None:
    class Lost(Failing):
        error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        Recorded(EVERYTHING, recorder=Lost)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"graphs": False}, "train.graphs is false"),
        ({"grad_checkpointing": True}, "train.grad_checkpointing"),
        ({"grad_accum_steps": 2}, "2 micro-batches"),
    ],
)
def test_steps_that_cannot_be_replayed_are_made_one_by_one(update: dict[str, Any], reason: str) -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2, **update})
    recorded = Recorded(config)
    assert recorded.recorder.recorded == recorded.recorder.rehearsed == 0
    (note,) = recorded.notes
    assert reason in note
    recorded.assert_as(train(config))


def test_float16_needs_an_optimizer_that_skips_steps_on_the_device() -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2, "optimizer": "rmsprop"})
    recorded = Recorded(config, prepare=scale_too_much)
    assert "float16" in recorded.step.reason
    recorded.assert_as(train(config, prepare=scale_too_much))


def test_a_short_training_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "WORTH", STEPS - 2)
    recorded = Recorded(EVERYTHING)
    assert (recorded.recorder.rehearsed, recorded.recorder.recorded) == (STEPS, 0)
    assert recorded.notes == []


def test_memory_that_runs_out_before_a_step_is_recorded_makes_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """With them steps are made one by one."""
    tries = itertools.count()
    forward = CellNetwork.forward_with_aux

    def guarded(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if next(tries) == 1:
            raise torch.OutOfMemoryError("no room")
        return forward(network, images)

    monkeypatch.setattr(CellNetwork, "forward_with_aux", guarded)
    recorded = Recorded(EVERYTHING.model_copy(update={"epochs": 2}))
    assert [note.split(":")[0] for note in recorded.notes] == ["out of memory", "CUDA graphs"]
    assert recorded.recorder.recorded == 0


class Recordable(StepCounter):  # type: ignore[no-untyped-call]
    """Counts, and makes nothing of optimizers' fused operations, which torch has for real devices alone."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if function.overloadpacket.__name__ in ("_fused_sgd_", "_fused_adamw_"):
            assert kwargs["lr"].is_meta
            return None
        return super().__torch_dispatch__(function, types, args, kwargs)


class MetaRecorder(OperationRecorder):
    """Counts what would be recorded, which may not seed a generator either."""

    def rehearse(self, function: Callable[[], Result]) -> Result:
        with Recordable(META):
            return function()

    def record(self, function: Callable[[], Result]) -> Callable[[], Result]:
        self.counter = Recordable(META)
        with pytest.MonkeyPatch.context() as patch, as_on_a_gpu(), self.counter:
            patch.setattr(torch, "default_generator", None)
            result = function()
        return lambda: result


def count_recorded(config: TrainConfig, augmentation: DataConfig, patch: pytest.MonkeyPatch) -> StepCounter:
    """Those of a recorded step, on the device `meta`, which has shapes and no values."""
    patch.setattr(graphs, "WARM_UP", 1)
    for module in ("sgd", "adam"):
        name = "_device_dtype_check_for_fused"
        patch.setattr(import_module(f"torch.optim.{module}"), name, lambda *given, **more: None)
    run, recorder = Run(META), MetaRecorder()
    task = ClassifyTask(make_network(), make_data(32, 16), config, augmentation, 1, run)
    step, batches = GraphedStep(start_state(task, run), task, run, recorder), iter(task.batches(0, 0))
    with task.training():
        for number in range(2):
            task.begin_step(number)
            step(next(batches), 7)
    assert step.captures == 1
    return recorder.counter


RECIPES = sorted(each.stem for each in (recipes_folder() / "train").glob("*.toml"))


@pytest.mark.parametrize("name", [*RECIPES, "adamw", "muon"])
def test_what_is_recorded_copies_nothing_and_reads_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, augmentation = TrainConfig(optimizer=name) if name not in RECIPES else EVERYTHING, DataConfig()
    if name in RECIPES:
        recipe = load_recipe(TrainRecipe, find_recipe("train", name), {})
        config, augmentation = recipe.train, DataConfig(mixup=recipe.data.mixup, cutmix=recipe.data.cutmix)
    smaller = {"batch_size": 16, "epochs": 2, "grad_accum_steps": 1, "precision": "float32", "compile": False}
    counter = count_recorded(config.model_copy(update=smaller), augmentation, monkeypatch)
    assert not counter.copies
    assert not counter.reads
    assert counter.operations["convolution_backward"]
