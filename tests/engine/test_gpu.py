"""Promises that hold on CUDA too; run with `pytest -m gpu` where there is a device."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.classify.task import FitResult, fit_classifier
from nascli.config import DataConfig, TrainConfig
from nascli.data.changes import BatchRng
from nascli.data.transforms import Normalizer, augment_batch
from nascli.doctor.devices import describe_gpus, describe_torch
from nascli.doctor.probe import measure_training
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import describe_device
from nascli.engine.task import Run
from nascli.errors import Interrupted
from nascli.models.interface import ImageClassifier
from nascli.signals import StopRequest
from tests.classify.small_training import AUGMENTATION, EVERYTHING, make_data, make_network

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
CUDA = torch.device("cuda")


def fit_on_gpu(network: ImageClassifier, config: TrainConfig, store: CheckpointStore, **run: Any) -> FitResult:  # noqa: ANN401
    return fit_classifier(network, make_data(), config, AUGMENTATION, 1, Run(CUDA, **run), store)


def test_augmentation_draws_the_same_on_every_device() -> None:
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    config, normalizer = DataConfig(crop_padding=2, flip=True, cutout=5), Normalizer((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    first, second = (
        augment_batch(images.to(device), config, normalizer, BatchRng(torch.Generator().manual_seed(3))).cpu()
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_stops_resumes_and_ends(tmp_path: Path, precision: str) -> None:
    config = EVERYTHING.model_copy(update={"precision": precision})
    stop = StopRequest()

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 6

    store = CheckpointStore(tmp_path, "x")
    with pytest.raises(Interrupted):
        fit_on_gpu(make_network(), config, store, stop=stop, on_step=ask)
    network = make_network(seed=9)
    result = fit_on_gpu(network, config, store)
    assert len(result.records) == 3
    assert all(parameter.device.type == "cuda" for parameter in network.parameters())


def test_the_gpu_is_described_and_trained_on_by_the_doctor() -> None:
    facts = describe_device(CUDA)
    assert facts["gpu"] == torch.cuda.get_device_name() == describe_gpus()[0]["name"]
    assert describe_torch()["driver"] == facts["driver"]
    assert json.dumps(facts)
    assert measure_training(0.1)["device"] == "cuda"


LOSE = """
import torch
from nascli.device_errors import is_device_lost
try:
    torch.zeros(3, device="cuda")[torch.tensor([5], device="cuda")]
    torch.cuda.synchronize()
except RuntimeError as error:
    print(is_device_lost(error))
"""


def test_a_failed_assertion_on_the_device_counts_as_a_lost_gpu() -> None:
    """In a process of its own, which can do nothing with the GPU afterwards."""
    ran = subprocess.run([sys.executable, "-c", LOSE], capture_output=True, text=True)
    assert ran.stdout.split() == ["True"], ran.stderr
