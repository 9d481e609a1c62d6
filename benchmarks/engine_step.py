"""The optimizer step that `nascli train` makes, on batches that a benchmark brings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nascli.config import TrainConfig
    from nascli.models.interface import ImageClassifier


@contextmanager
def training_step(
    network: "ImageClassifier", config: "TrainConfig", device: str = "cpu"
) -> "Iterator[Callable[[Tensor, Tensor], object]]":
    """A function that makes a step on images, float32 (N, 3, H, W), and labels, int64 (N,), both on the device.

    On a GPU the fourth step is captured as a CUDA graph, unless the configuration has `graphs` off.
    """
    import torch

    from nascli.classify.task import ClassifyTask
    from nascli.config import DataConfig
    from nascli.data.dataset import ImageData
    from nascli.data.in_memory import ImageArray
    from nascli.engine.graphs import choose_step
    from nascli.engine.task import Run
    from nascli.engine.train_state import start_state

    none = ImageArray(
        torch.zeros((config.batch_size, 3, 1, 1), dtype=torch.uint8), torch.zeros(config.batch_size).long()
    )
    data = ImageData("a benchmark's", none, none, tuple(map(str, range(network.spec.classes))), (0.5,) * 3, (0.5,) * 3)
    run = Run(torch.device(device))
    task = ClassifyTask(network, data, config, DataConfig(), 0, run)
    state = start_state(task, run)
    step = choose_step(state, task, run)
    with task.training():
        yield lambda images, labels: step((images, labels), 0)
