"""Steps captured as CUDA graphs: the same training as step by step, whatever it draws, however it ends."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nascli.classify.metrics import evaluate
from nascli.classify.task import ClassifyTask, FitResult, TrainBatch, fit_classifier
from nascli.config import DataConfig, FineTuneConfig, TrainConfig
from nascli.data.transforms import Normalizer
from nascli.engine import fit as fitting
from nascli.engine import graphs
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.graphs import GraphedStep, choose_forward, choose_step
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import Interrupted
from nascli.models.deploy.graphs import GraphedEngine
from nascli.signals import StopRequest
from tests.classify.small_training import AUGMENTATION, EVERYTHING, make_data, make_network
from tests.gpu.devices import on_gpu, waits_refused, without_tf32

EVERY_CHANGE = DataConfig(crop_padding=1, flip=True, cutout=2, rand_augment=1, color_jitter=0.5, mixup=0.2, cutmix=1.0)


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What made the steps of each training of the test, be it as short as it may."""
    kept = list[Any]()

    def choose(state: TrainState, task: ClassifyTask, run: Run) -> Any:  # noqa: ANN401
        kept.append(choose_step(state, task, run))
        return kept[-1]

    monkeypatch.setattr(graphs, "WORTH", 0)
    monkeypatch.setattr(graphs, "WORTH_FORWARD", 0)
    monkeypatch.setattr(fitting, "choose_step", choose)
    with without_tf32():
        yield kept


def train(device: torch.device, config: TrainConfig, augmentation: DataConfig = AUGMENTATION, **run: Any) -> FitResult:  # noqa: ANN401
    store, data = run.pop("store", None), run.pop("data", None) or make_data()
    return fit_classifier(make_network(), data, config, augmentation, 1, Run(device, **run), store)


def losses(result: FitResult) -> list[float]:
    """After each epoch, in training and in evaluation."""
    return [each for record in result.records for each in (record.train_loss, record.metrics["loss"] or 0.0)]


def assert_alike(device: torch.device, config: TrainConfig, augmentation: DataConfig = AUGMENTATION) -> None:
    """Three epochs of four steps, of which the first three are always made one launch at a time."""
    eager = train(device, config.model_copy(update={"graphs": False}), augmentation)
    assert losses(train(device, config, augmentation)) == pytest.approx(losses(eager), rel=5e-3)


@on_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw", "muon"])
def test_a_training_is_that_of_single_launches(
    device: torch.device, optimizer: str, precision: str, steps: list[Any]
) -> None:
    """With a warm-up of the learning rate, drop path, dropout, an auxiliary head and a moving average."""
    lr = 0.05 if optimizer == "sgd" else 0.002
    assert_alike(device, EVERYTHING.model_copy(update={"optimizer": optimizer, "precision": precision, "lr": lr}))
    assert [step.captures for step in steps] == [0, 1]


@on_gpu
def test_so_it_is_with_every_change_of_the_images(device: torch.device, steps: list[Any]) -> None:
    assert_alike(device, EVERYTHING.model_copy(update={"clip_grad_norm": 1.0}), EVERY_CHANGE)
    assert [step.captures for step in steps] == [0, 1]


@on_gpu
def test_so_it_is_in_micro_batches(device: torch.device) -> None:
    assert_alike(device, EVERYTHING.model_copy(update={"grad_accum_steps": 2, "precision": "bfloat16"}))


@on_gpu
def test_so_it_is_where_float16_overflows_at_first(
    device: torch.device, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale of the loss has to be halved before and after a step is captured."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**24))
    assert_alike(device, EVERYTHING.model_copy(update={"precision": "float16"}))
    assert [step.captures for step in steps] == [0, 1]


@on_gpu
def test_each_size_of_images_is_captured(device: torch.device, steps: list[Any]) -> None:
    config = FineTuneConfig(**(EVERYTHING.model_dump() | {"image_sizes": (8, 12), "epochs": 4, "batch_size": 8}))
    assert len(losses(train(device, config, data=make_data(size=12)))) == 8
    assert [step.captures for step in steps] == [2]


@on_gpu
@pytest.mark.filterwarnings("ignore")  # torch looks at everything while it compiles
def test_compiled_cells_are_captured(device: torch.device, steps: list[Any]) -> None:
    assert_alike(device, EVERYTHING.model_copy(update={"compile": True}))
    assert [step.captures for step in steps] == [0, 1]


@on_gpu
def test_a_step_that_reads_back_is_not_captured_and_the_training_goes_on(
    device: torch.device, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute: Callable[..., Mapping[str, Tensor]] = ClassifyTask.loss

    def read(task: ClassifyTask, micro: TrainBatch) -> Mapping[str, Tensor]:
        found = compute(task, micro)
        assert float(found["loss"].detach()) > 0
        return found

    monkeypatch.setattr(ClassifyTask, "loss", read)
    assert_alike(device, EVERYTHING)
    assert [step.captures for step in steps] == [0, 0]
    assert steps[1].reason


@on_gpu
def test_a_captured_training_stops_resumes_and_ends(device: torch.device, tmp_path: Path) -> None:
    whole, stop, store = losses(train(device, EVERYTHING)), StopRequest(), CheckpointStore(tmp_path, "x")

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 6

    with pytest.raises(Interrupted):
        train(device, EVERYTHING, store=store, stop=stop, on_step=ask)
    assert losses(train(device, EVERYTHING, store=store)) == pytest.approx(whole, rel=0.02)


@on_gpu
def test_a_replayed_step_waits_for_nothing(device: torch.device) -> None:
    run, config = Run(device), EVERYTHING.model_copy(update={"precision": "bfloat16", "clip_grad_norm": 1.0})
    task = ClassifyTask(make_network(), make_data(256, 32), config, EVERY_CHANGE, 1, run)
    state = start_state(task, run)
    step, batches = choose_step(state, task, run), iter(task.batches(0, 0))
    assert isinstance(step, GraphedStep)

    def make(number: int) -> None:
        task.begin_step(number)
        step(next(batches), number)

    with task.training():
        for number in range(5):
            make(number)
        assert step.captures == 1
        with waits_refused():
            for number in range(5, 8):
                make(number)
    state.check_finite()


@on_gpu
def test_a_replayed_evaluation_sees_weights_that_train_on(device: torch.device) -> None:
    """A batch of 256 images and one of 44."""
    data, run = make_data(test=300), Run(device)
    network = make_network().to(device).to(memory_format=torch.channels_last)
    given, forward = (
        (network, data.val.to(device), Normalizer(data.mean, data.std), run),
        choose_forward(network, 2, run),
    )
    found = list[float]()
    for _ in range(4):
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1.02)
        found.append(evaluate(*given, forward=forward).loss)
        assert found[-1] == pytest.approx(evaluate(*given).loss, rel=1e-4)
    assert len(set(found)) == 4
    assert isinstance(forward, GraphedEngine)
    assert forward.captures == 2
