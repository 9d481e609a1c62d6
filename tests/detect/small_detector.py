"""A genotype, a network and a recipe small enough that a detector trains in a second or two."""

from nascli.config import CellNetworkConfig, DetectDataConfig, DetectorConfig, DetectRecipe, DetectTrainConfig
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.models.interface import ImageClassifier
from tests.cells import build_cells

CELL = CellSpec(blocks=(Block(inputs=(1, 0), ops=("sep_conv_3x3", "identity")),), concat=(1, 2))
GENOTYPE = CellGenotype(name="one-block", space="own", normal=CELL, reduction=CELL)


def small_network(stem: str = "cifar") -> ImageClassifier:
    preset = "cifar10" if stem == "cifar" else "imagenet-mobile"
    config = CellNetworkConfig.model_validate(
        {"preset": preset, "filters": 8, "cells_per_stage": 1, "stem_filters": 8, "batch_norm_momentum": 0.1}
    )
    return build_cells(GENOTYPE, config, classes=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))


def small_recipe(data_dir: str, *, dataset: str = "coco", **train: object) -> DetectRecipe:
    detector = DetectorConfig(
        pyramid_channels=16,
        head_channels=32,
        min_size=64,
        max_size=64,
        rpn_post_nms_top_n=50,
        box_batch_size_per_image=16,
    )
    settings = {"epochs": 3, "batch_size": 4, "lr": 0.02, "warmup_steps": 2, "flip": True, **train}
    return DetectRecipe(
        data=DetectDataConfig(dataset=dataset, data_dir=data_dir),
        detector=detector,
        train=DetectTrainConfig.model_validate(settings),
    )
