"""The speed of a training here: a small NASNet-A, images of noise, about two seconds."""

from typing import Any

import torch

from nascli.classify.task import ClassifyTask
from nascli.config import DataConfig, TrainConfig
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.engine.device import resolve_device
from nascli.engine.estimate import median_step
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.genotype.resolve import zoo_genotype
from nascli.models.families import build_network

_FILTERS, _CELLS_PER_STAGE = 8, 1
_BATCH_SIZE, _SIDE, _CLASSES = 32, 32, 10
_IMAGES = 32 * _BATCH_SIZE
_MOST_STEPS = 1000


def measure_training(seconds: float = 2.0) -> dict[str, Any]:
    """Train for about so long on the device that `--device auto` stands for; nothing is kept.

    Returns:
        `device`, `network`, `image_size`, `batch_size`, `seconds_per_step` (the median), and `images_per_second`.
    """
    run = Run(resolve_device("auto"), retry_on_oom=False)
    data = _make_data()
    network = build_network(
        zoo_genotype("nasnet-a"), "cifar10", filters=_FILTERS, cells_per_stage=_CELLS_PER_STAGE, classes=_CLASSES
    )
    config = TrainConfig(batch_size=_BATCH_SIZE, epochs=_MOST_STEPS)
    task = ClassifyTask(network, data, config, DataConfig(), 0, run)
    state = start_state(task, run)
    step = median_step(state, task, 0, run, _MOST_STEPS, seconds)
    return {
        "device": run.device.type,
        "network": f"nasnet-a, {_FILTERS} filters, {_CELLS_PER_STAGE} cell per stage",
        "image_size": _SIDE,
        "batch_size": _BATCH_SIZE,
        "seconds_per_step": round(step, 6),
        "images_per_second": round(_BATCH_SIZE / step, 1),
    }


def _make_data() -> ImageData:
    """Noise."""
    images = torch.randint(256, (_IMAGES, 3, _SIDE, _SIDE), generator=torch.Generator().manual_seed(0))
    split = ImageArray(images.to(torch.uint8), torch.arange(_IMAGES) % _CLASSES)
    color = (0.5, 0.5, 0.5)
    return ImageData("noise", split, split, tuple(map(str, range(_CLASSES))), color, color)
