"""Trainings: they wait for nothing, learn in each precision as on a CPU, stop and resume, and fit into memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nascli.classify.task import ClassifyTask, FitResult, fit_classifier
from nascli.config import CellNetworkConfig, DataConfig, TrainConfig
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import seed_generators
from nascli.engine.step import train_step, train_step_with_oom_retry
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import Interrupted
from nascli.genotype.resolve import zoo_genotype
from nascli.models.interface import ImageClassifier
from nascli.signals import StopRequest
from tests.cells import build_cells
from tests.classify.small_training import AUGMENTATION, EVERYTHING, GENOTYPE, make_data, make_network
from tests.gpu.devices import CPU, CUDA, NEEDS_GPU, PRECISIONS, on_gpu, waits_refused, without_tf32

MANY_CHANGES = DataConfig(crop_padding=1, flip=True, cutout=2, rand_augment=2, color_jitter=0.5, mixup=0.2, cutmix=1.0)
PLAIN = TrainConfig(epochs=3, batch_size=32, lr=0.02, nesterov=True, ema_decay=0.9)


def network_without_chance(cells_per_stage: int = 1) -> ImageClassifier:
    """One without dropout: its random numbers are others on each kind of device."""
    torch.manual_seed(0)
    numbers = CellNetworkConfig(filters=8, cells_per_stage=cells_per_stage, dropout=0.0)
    return build_cells(GENOTYPE, numbers, classes=3, image_size=8)


def begin(
    network: ImageClassifier, config: TrainConfig, device: torch.device, augmentation: DataConfig = AUGMENTATION
) -> tuple[ClassifyTask, TrainState]:
    run = Run(device)
    task = ClassifyTask(network, make_data(256, 32), config, augmentation, 1, run)
    return task, start_state(task, run)


@on_gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_waits_for_nothing(device: torch.device, precision: str) -> None:
    """On `meta`, where nothing is computed, `tests/engine/test_waits.py` counts the same."""
    config = EVERYTHING.model_copy(update={"precision": precision, "clip_grad_norm": 5.0})
    task, state = begin(make_network(), config, device, MANY_CHANGES)
    batches = iter(task.batches(0, 0))

    def step(number: int) -> None:
        task.begin_step(number)
        train_step(state, task, next(batches), number, Run(device))

    for number in range(2):  # what is made once may wait
        step(number)
    with waits_refused():
        for number in range(2, 5):
            step(number)
    state.check_finite()


def losses_of(device: torch.device, precision: str) -> list[float]:
    """Those of 24 steps, by epoch; order and changes of the images are the same on every device."""
    config = PLAIN.model_copy(update={"precision": precision})
    with without_tf32():
        result = fit_classifier(network_without_chance(), make_data(256, 32), config, AUGMENTATION, 1, Run(device))
    return [record.train_loss for record in result.records]


@pytest.mark.parametrize(
    ("device", "precision", "tolerance"),
    [
        pytest.param(CPU, "bfloat16", 2e-2, id="cpu-bfloat16"),
        pytest.param(CUDA, "float32", 2e-3, marks=NEEDS_GPU, id="cuda-float32"),
        pytest.param(CUDA, "bfloat16", 2e-2, marks=NEEDS_GPU, id="cuda-bfloat16"),
        pytest.param(CUDA, "float16", 2e-2, marks=NEEDS_GPU, id="cuda-float16"),
    ],
)
def test_losses_follow_those_of_a_cpu_in_float32(device: torch.device, precision: str, tolerance: float) -> None:
    expected = losses_of(CPU, "float32")
    assert expected[-1] < 0.9 * expected[0]
    assert losses_of(device, precision) == pytest.approx(expected, rel=tolerance)


@on_gpu
def test_a_first_step_that_overflows_in_float16_is_made_up_for(device: torch.device) -> None:
    """The scale of the loss halves at each step whose gradient overflows; until then nothing may move."""
    task, state = begin(network_without_chance(), PLAIN.model_copy(update={"precision": "float16"}), device)
    state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    batch = next(iter(task.batches(0, 0)))
    before = {name: value.clone() for name, value in task.network.named_parameters()}
    train_step(state, task, batch, 0, Run(device))
    assert all(torch.equal(value, before[name]) for name, value in task.network.named_parameters())
    losses = [float(train_step(state, task, batch, 0, Run(device)).loss) for _ in range(50)]
    state.check_finite()
    assert losses[-1] < 0.9 * losses[0]
    assert state.scaler.get_scale() < 2.0**30


def fit_on(device: torch.device, network: ImageClassifier, config: TrainConfig, **more: Any) -> FitResult:  # noqa: ANN401
    store = more.pop("store", None)
    return fit_classifier(network, make_data(), config, AUGMENTATION, 1, Run(device, **more), store)


@on_gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_stops_resumes_and_ends(tmp_path: Path, device: torch.device, precision: str) -> None:
    config = EVERYTHING.model_copy(update={"precision": precision})
    whole = fit_on(device, make_network(), config)
    stop, store = StopRequest(), CheckpointStore(tmp_path, "x")

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 6

    with pytest.raises(Interrupted):
        fit_on(device, make_network(), config, store=store, stop=stop, on_step=ask)
    network = make_network(seed=9)
    result = fit_on(device, network, config, store=store)
    losses, expected = ([record.train_loss for record in each.records] for each in (result, whole))
    assert losses == pytest.approx(expected, rel=0.02)  # sums on a GPU are not rounded the same each time
    assert all(parameter.device.type == "cuda" for parameter in network.parameters())


def gradients(network: ImageClassifier) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}


@on_gpu
def test_a_batch_that_memory_does_not_hold_is_computed_in_parts(device: torch.device) -> None:
    """Batch norms are set to evaluation mode, so that the gradient of the parts is that of the whole."""
    images = torch.randn(256, 3, 64, 64, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(256, device=device) % 3
    config, run = PLAIN.model_copy(update={"batch_size": 256, "lr": 1e-9, "clip_grad_norm": 0.0}), Run(device)

    def step(micro_batches: int) -> tuple[TrainState, dict[str, Tensor], int]:
        task, state = begin(network_without_chance(), config, device)
        for norm in (each for each in task.network.modules() if isinstance(each, torch.nn.BatchNorm2d)):
            norm.eval()
        state.micro_batches = micro_batches
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train_step_with_oom_retry(state, task, (images, labels), 0, run)
        return state, gradients(task.network), torch.cuda.max_memory_reserved()

    _, expected, whole = step(1)
    _, _, quarter = step(4)
    assert quarter < 0.7 * whole
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((quarter + (whole - quarter) / 2) / total)
    try:
        state, found, _ = step(1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert state.micro_batches in (2, 4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@on_gpu
@pytest.mark.filterwarnings("ignore")  # torch looks at everything while it compiles, also at what it advises against
def test_compiled_cells_learn_alike_and_are_compiled_in_the_first_epoch(device: torch.device) -> None:
    counted = torch._dynamo.utils.counters["stats"]
    before, graphs = counted["unique_graphs"], list[int]()

    def note(record: object) -> None:
        graphs.append(counted["unique_graphs"] - before)

    config = PLAIN.model_copy(update={"drop_path_prob": 0.2, "compile": True})
    curves = []
    with without_tf32():
        for each in (config, config.model_copy(update={"compile": False})):
            result = fit_on(device, network_without_chance(), each, on_epoch=note)
            curves.append([record.train_loss for record in result.records])
    assert curves[0] == pytest.approx(curves[1], rel=1e-2)
    assert 0 < graphs[0] == graphs[2]


@on_gpu
def test_recomputed_cells_have_the_same_gradients(device: torch.device) -> None:
    found = []
    with without_tf32():
        for again in (False, True):
            torch.manual_seed(0)
            network = build_cells(zoo_genotype("nasnet-a"), CellNetworkConfig(filters=4, cells_per_stage=1), classes=3)
            config = EVERYTHING.model_copy(update={"grad_checkpointing": again, "ema_decay": 0.0, "aux_weight": 0.0})
            task, state = begin(network, config, device)
            task.begin_step(task.plan.steps)  # where most paths are dropped
            seed_generators(3, device)
            with task.training():
                train_step(state, task, next(iter(task.batches(0, 0))), 3, Run(device))
            found.append({**gradients(network), **dict(network.named_buffers())})
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
