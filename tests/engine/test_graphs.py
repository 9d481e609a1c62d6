"""Steps as CUDA graphs make those that are launched one by one: on the CPU, by a stream that repeats operations."""

import functools
import itertools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from launches import META, StepCounter, as_on_a_gpu
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nascli.classify import task as classify_task
from nascli.classify.task import ClassifyTask
from nascli.config import DataConfig, FineTuneConfig, TrainConfig
from nascli.engine import fit as fitting
from nascli.engine import graphs
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.fit import fit
from nascli.engine.graphs import WARM_UP, GraphedStep, Step, choose_step
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import Interrupted
from nascli.models.cells.network import CellNetwork
from nascli.models.interface import ImageClassifier
from nascli.models.tuning import freeze_weights
from nascli.signals import StopRequest
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, equal, make_data, make_network, weights
from tests.graph_stream import Failing, Full, OperationStream, changed_by

Result = TypeVar("Result")

STEPS = 12
"""Those of the three epochs of `EVERYTHING`."""


@pytest.fixture(autouse=True)
def _numbers_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify_task, "keeps_numbers_on", lambda device: True)
    monkeypatch.setattr(graphs, "WORTH", 0)


def train(
    config: TrainConfig, augmentation: DataConfig = AUGMENTATION, prepare: Callable[[TrainState], object] = id
) -> TrainState:
    """The plain training, step by step; it begins with `prepare`."""

    def choose(state: TrainState, task: ClassifyTask, run: Run) -> Step[Any]:
        prepare(state)
        return choose_step(state, task, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "choose_step", choose)
        return run_task(config, augmentation)


train_once = functools.cache(train)


def run_task(
    config: TrainConfig,
    augmentation: DataConfig,
    store: CheckpointStore | None = None,
    **run: Any,  # noqa: ANN401 - of `Run`
) -> TrainState:
    there = Run(CPU, **run)
    return fit(ClassifyTask(make_network(), make_data(size=12), config, augmentation, 1, there), 1, there, store)


class Graphed:
    """A training whose steps are captured: its state at the end, what made its steps, and what it said."""

    def __init__(
        self,
        config: TrainConfig,
        augmentation: DataConfig = AUGMENTATION,
        prepare: Callable[[TrainState], object] = id,
        stream: type[OperationStream] = OperationStream,
        **run: Any,  # noqa: ANN401 - of `Run`
    ) -> None:
        self.notes: list[str] = []

        def choose(state: TrainState, task: ClassifyTask, run: Run) -> Step[Any]:
            prepare(state)
            self.stream = stream(lambda: changed_by(state))
            self.step = GraphedStep(state, task, run, self.stream)
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
    graphed = Graphed(config)
    assert (graphed.stream.warmed_up, graphed.stream.replayed) == (WARM_UP, 2 * (STEPS - WARM_UP))
    assert (graphed.step.captures, graphed.step.reason) == (1, "")
    assert [note.split(" (")[0] for note in graphed.notes] == ["CUDA graphs: used from step 4 on"]
    # the rates of the last two are rounded to float32 on the device, and divided by
    graphed.assert_as(train_once(config), 1e-5 if case in ("adamw", "muon") else 0.0)


@pytest.mark.parametrize("count", [2, 4])
def test_so_are_those_in_micro_batches(count: int) -> None:
    config = EVERYTHING.model_copy(update={"grad_accum_steps": count})
    graphed = Graphed(config)
    assert (graphed.step.captures, graphed.stream.captured) == (1, 3)
    assert graphed.stream.replayed == (count + 1) * (STEPS - WARM_UP)
    graphed.assert_as(train(config))


def test_so_are_those_on_mixed_images() -> None:
    data = AUGMENTATION.model_copy(update={"mixup": 0.2, "cutmix": 1.0})
    graphed = Graphed(EVERYTHING, data)
    assert graphed.step.captures == 1
    graphed.assert_as(train(EVERYTHING, data))


def test_what_is_frozen_or_slower_stays_so() -> None:
    tuned = FineTuneConfig(**EVERYTHING.model_dump(), freeze=("stem",), freeze_batch_norm="statistics", layer_decay=0.7)

    def freeze(state: TrainState) -> None:
        assert isinstance(state.modules, ImageClassifier)
        freeze_weights(state.modules, tuned)

    graphed = Graphed(tuned, prepare=freeze)
    assert graphed.step.captures == 1
    graphed.assert_as(train(tuned, prepare=freeze))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_was_stopped_between_replays_is_resumed_without_graphs(tmp_path: Path, optimizer: str) -> None:
    config, stop = EVERYTHING.model_copy(update=CASES[optimizer]), StopRequest()

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 6

    store = CheckpointStore(tmp_path, "x")
    with pytest.raises(Interrupted):
        Graphed(config, store=store, stop=stop, on_step=ask)
    payload = store.load()
    assert payload is not None
    assert all(isinstance(group["lr"], float) for group in payload["optimizer"]["param_groups"])
    assert not any(group.get("capturable") for group in payload["optimizer"]["param_groups"])
    resumed, plain = run_task(config, AUGMENTATION, store), train_once(config)
    close = 1e-5 if optimizer == "adamw" else 0.0
    torch.testing.assert_close(weights(resumed.evaluated), weights(plain.evaluated), rtol=close, atol=close)


def scale_too_much(state: TrainState) -> None:
    """A loss scaler as of float16, whose highest scale makes gradients overflow, so that steps are skipped."""
    assert isinstance(state.modules, ImageClassifier)
    state.modules.classifier.weight.register_hook(lambda gradient: 30 * gradient)  # type: ignore[no-untyped-call]
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, growth_interval=3)


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_loss_scaler_is_captured_too(clip: float) -> None:
    config = EVERYTHING.model_copy(update={"clip_grad_norm": clip})
    plain, graphed = train_once(config, prepare=scale_too_much), Graphed(config, prepare=scale_too_much)
    assert graphed.step.captures == 1
    graphed.assert_as(plain)
    assert graphed.state.scaler.state_dict() == plain.scaler.state_dict()
    assert plain.scaler.get_scale() < 1e38  # steps were skipped before and after the capture


def test_a_number_of_python_would_stay_as_it_was_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the equalities above rely on: the stream of these tests notices."""
    monkeypatch.setattr(classify_task, "keeps_numbers_on", lambda device: False)
    assert not equal(weights(Graphed(EVERYTHING).state.modules), weights(train_once(EVERYTHING).modules))


def test_images_of_another_size_are_captured_anew() -> None:
    growing = FineTuneConfig(**EVERYTHING.model_dump() | {"epochs": 4}, image_sizes=(8, 12))
    graphed = Graphed(growing)
    assert (graphed.step.captures, graphed.stream.captured) == (2, 4)
    assert graphed.stream.warmed_up == 2 * WARM_UP
    assert len(graphed.notes) == 1
    graphed.assert_as(train(growing))


def test_sizes_that_change_too_often_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_CAPTURES", 1)
    growing = FineTuneConfig(**EVERYTHING.model_dump() | {"epochs": 4}, image_sizes=(8, 12))
    graphed = Graphed(growing)
    assert graphed.step.captures == 1
    assert "change too often" in graphed.notes[-1]
    graphed.assert_as(train(growing))


class Interrupting(Failing):
    """Breaks off in the middle of the optimizer's step."""

    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        def refuse(*given: object, **more: object) -> None:
            raise self.error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "_fused_sgd_", refuse)
            return super().capture(function)


class FullInTheEnd(Interrupting):
    error = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (Failing, "(CUDA error: operation not permitted when stream is capturing)"),
        (Full, "not enough memory"),
        (Interrupting, "(CUDA error: operation not permitted when stream is capturing)"),
        (FullInTheEnd, "not enough memory"),
    ],
)
def test_where_a_step_cannot_be_captured_steps_go_on_as_before(stream: type[Failing], reason: str) -> None:
    graphed = Graphed(EVERYTHING, prepare=scale_too_much, stream=stream)
    (note,) = graphed.notes
    assert note.startswith("CUDA graphs: not used, since ")
    assert reason in note
    assert graphed.step.captures == 0
    graphed.assert_as(train_once(EVERYTHING, prepare=scale_too_much))


def test_a_lost_device_is_no_reason_to_go_on() -> None:
    class Lost(Failing):
        error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        Graphed(EVERYTHING, stream=Lost)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"graphs": False}, "train.graphs is false"),
        ({"grad_checkpointing": True}, "train.grad_checkpointing"),
        ({"grad_accum_steps": 3}, "differ in size"),
    ],
)
def test_steps_that_cannot_be_replayed_are_made_one_by_one(update: dict[str, Any], reason: str) -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2, **update})
    graphed = Graphed(config)
    assert graphed.stream.captured == 0
    (note,) = graphed.notes
    assert reason in note
    graphed.assert_as(train(config))


def test_float16_needs_an_optimizer_that_skips_steps_on_the_device() -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2, "optimizer": "rmsprop"})
    graphed = Graphed(config, prepare=scale_too_much)
    assert "float16" in graphed.step.reason
    graphed.assert_as(train(config, prepare=scale_too_much))


def test_a_short_training_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "WORTH", STEPS - 2)
    graphed = Graphed(EVERYTHING)
    assert (graphed.stream.warmed_up, graphed.stream.captured) == (STEPS, 0)
    assert graphed.notes == []


def test_memory_that_runs_out_makes_micro_batches_which_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, config = CellNetwork.forward_with_aux, EVERYTHING.model_copy(update={"epochs": 2})

    def run_out_of_memory(state: TrainState) -> None:
        tries = itertools.count()

        def guarded(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
            if next(tries) == 1:
                raise torch.OutOfMemoryError("no room")
            return forward(network, images)

        monkeypatch.setattr(CellNetwork, "forward_with_aux", guarded)

    graphed = Graphed(config, prepare=run_out_of_memory)
    assert [note.split(" (")[0] for note in graphed.notes][1:] == ["CUDA graphs: used from step 6 on"]
    assert graphed.stream.captured == 3
    graphed.assert_as(train(config, prepare=run_out_of_memory))


class Capturable(StepCounter):  # type: ignore[no-untyped-call]
    """Counts; makes nothing of optimizers' fused operations, which torch has for real devices alone."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        # a scalar of the CPU, which is no copy, would keep its number
        assert all(each.is_meta for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
        if function.overloadpacket.__name__ in ("_fused_sgd_", "_fused_adamw_"):
            assert isinstance(kwargs["lr"], Tensor)
            return None
        return super().__torch_dispatch__(function, types, args, kwargs)


class MetaStream(OperationStream):
    """Counts what would be graphed, which may not seed a generator either."""

    def warm_up(self, function: Callable[[], Result]) -> Result:
        with Capturable(META):
            return function()

    def __init__(self) -> None:
        super().__init__()
        self.counter = Capturable(META)

    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        with pytest.MonkeyPatch.context() as patch, as_on_a_gpu(), self.counter:
            patch.setattr(torch, "default_generator", None)
            result = function()
        return lambda: result


def count_captured(config: TrainConfig, augmentation: DataConfig, patch: pytest.MonkeyPatch) -> StepCounter:
    """Those of a captured step, on the device `meta`, which has shapes and no values."""
    patch.setattr(graphs, "WARM_UP", 1)
    for module in ("sgd", "adam"):
        name = "_device_dtype_check_for_fused"
        patch.setattr(import_module(f"torch.optim.{module}"), name, lambda *given, **more: None)
    run, stream = Run(META), MetaStream()
    task = ClassifyTask(make_network(), make_data(32, 16), config, augmentation, 1, run)
    step, batches = GraphedStep(start_state(task, run), task, run, stream), iter(task.batches(0, 0))
    with task.training():
        for number in range(2):
            task.begin_step(number)
            step(next(batches), 7)
    assert step.captures == 1
    return stream.counter


@pytest.mark.parametrize(
    ("update", "augmentation"),
    [
        ({}, DataConfig()),
        ({"class_weights": {"a": 2.0}}, DataConfig(mixup=0.2, cutmix=1.0)),
        ({"optimizer": "rmsprop"}, DataConfig()),
        ({"optimizer": "adamw"}, DataConfig()),
        ({"optimizer": "muon"}, DataConfig()),
    ],
)
def test_what_is_captured_copies_nothing_and_reads_nothing(
    update: dict[str, Any], augmentation: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = count_captured(FineTuneConfig(**EVERYTHING.model_dump() | update), augmentation, monkeypatch)
    assert not counter.copies
    assert not counter.reads
    assert counter.operations["convolution_backward"]
