"""A network and data small enough to train in a moment, with everything switched on."""

import torch

from nascli.config import CellNetworkConfig, DataConfig, TrainConfig
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray, measure_colors
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
