"""A network and data small enough to train in a moment, with everything switched on."""

from typing import Any

import torch
from torch import Tensor, nn

from nascli.classify.task import ClassifyTask, FitResult, fit_classifier
from nascli.config import CellNetworkConfig, DataConfig, TrainConfig
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray, measure_colors
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.step import train_step, train_step_with_oom_retry
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec
from tests.cells import resolve_cells

CELL = CellSpec(blocks=(Block(inputs=(0, 1), ops=("conv_3x3", "avg_pool_3x3")),), concat=(2,))
GENOTYPE = CellGenotype(name="tiny", space="test", normal=CELL, reduction=CELL)
CPU = torch.device("cpu")

AUGMENTATION = DataConfig(crop_padding=1, flip=True, cutout=2)
EVERYTHING = TrainConfig(
    epochs=3,
    batch_size=16,
    lr=0.05,
    warmup_epochs=1,
    label_smoothing=0.1,
    aux_weight=0.4,
    drop_path_prob=0.3,
    ema_decay=0.8,
)


def make_data(train: int = 68, test: int = 30, classes: int = 3, size: int = 8) -> ImageData:
    """Images whose brightness is their class, with noise: easy, but not at once."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> ImageArray:
        labels = torch.arange(count) % classes
        noise = torch.randint(0, 120, (count, 3, size, size), generator=generator)
        return ImageArray((noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)

    array = split(train)
    mean, std = measure_colors(array.images)
    return ImageData("tiny", array, split(test), tuple("abcdefgh"[:classes]), mean, std)


def make_spec(classes: int = 3, size: int = 8, *, aux_head: bool = True) -> NetworkSpec:
    config = CellNetworkConfig(filters=4, cells_per_stage=1, dropout=0.1)
    return resolve_cells(GENOTYPE, config, classes=classes, image_size=size, aux_head=aux_head)


def make_network(seed: int = 0, *, aux_head: bool = True) -> ImageClassifier:
    torch.manual_seed(seed)
    return build(make_spec(aux_head=aux_head))


def run_fit(
    network: ImageClassifier,
    config: TrainConfig = EVERYTHING,
    *,
    augmentation: DataConfig = AUGMENTATION,
    seed: int = 1,
    data: ImageData | None = None,
    store: CheckpointStore | None = None,
    **run: Any,  # noqa: ANN401 - of `Run`
) -> FitResult:
    return fit_classifier(network, data or make_data(), config, augmentation, seed, Run(CPU, **run), store)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def blank_batch(task: ClassifyTask) -> tuple[Tensor, Tensor]:
    """Black images of the first class."""
    size, images = task.network.spec.image_size, task.plan.batch_size
    numbers = torch.zeros(images, 3, size, size).to(memory_format=torch.channels_last)
    return numbers, torch.zeros(images, dtype=torch.int64)


class FixedTraining:
    """A task and its state on a network in float64 whose batch norms and dropout do not look at their batch."""

    def __init__(self, config: TrainConfig, micro_batches: int = 1, dist: DistContext = SINGLE_PROCESS) -> None:
        network = make_network().double()
        self.task = ClassifyTask(network, make_data(12), config, AUGMENTATION, 1, Run(CPU, dist))
        self.state = start_state(self.task, Run(CPU, dist))
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout):
                module.eval()
        self.state.micro_batches = micro_batches
        self._dist = dist

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """One step; the loss before it."""
        return train_step(self.state, self.task, (images, targets), None, Run(CPU, self._dist)).loss.double()

    def step_within_memory(self, images: Tensor, targets: Tensor, seed: int, **run_settings: Any) -> None:  # noqa: ANN401
        run = Run(CPU, self._dist, **run_settings)
        train_step_with_oom_retry(self.state, self.task, (images, targets), seed, run)
