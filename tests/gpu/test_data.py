"""Images on a GPU: changed as on a CPU, streamed as they lie on disk, and counted the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nascli.classify.metrics import evaluate
from nascli.config import DataConfig
from nascli.data.changes import BatchRng
from nascli.data.dataset import Split
from nascli.data.streaming import ImageFiles
from nascli.data.transforms import Normalizer, augment_batch
from nascli.engine.task import Run
from tests.classify.small_training import make_data, make_network
from tests.gpu.devices import CPU, on_gpu, without_tf32

NORMALIZER = Normalizer((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@on_gpu
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        pytest.param(DataConfig(crop_padding=2, flip=True, cutout=5), 1e-3, id="crops"),
        pytest.param(DataConfig(rand_augment=3), 1.01, id="RandAugment"),
        pytest.param(DataConfig(color_jitter=0.5), 1.01, id="colors"),
    ],
)
def test_images_are_changed_as_on_a_cpu(device: torch.device, changes: DataConfig, steps: float) -> None:
    """To within so many steps of a byte: sums of colors are not rounded the same everywhere."""
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected, found = (
        augment_batch(images.to(where), changes, NORMALIZER, BatchRng(torch.Generator().manual_seed(3))).cpu()
        for where in (CPU, device)
    )
    apart = (found - expected).abs() * torch.tensor(NORMALIZER.std).view(3, 1, 1) * 255
    assert float(apart.max()) <= steps


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """Noise of three classes, 24 images."""
    noise = np.random.default_rng(0)
    for number in range(24):
        pixels = noise.integers(0, 120, (20, 20, 3)) + 60 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number:02}.png")
    return ImageFiles(tuple(sorted(tmp_path.iterdir())), torch.arange(24) % 3, image_size=16, workers=0)


@on_gpu
def test_streamed_images_arrive_whole(device: torch.device, files: ImageFiles) -> None:
    """They are copied from page-locked memory while the next batch is read; all batches are kept before any is used."""
    streamed = ImageFiles(files.paths, files.labels, files.image_size, workers=2).to(device)
    arrived = [
        (images.to(device, non_blocking=True), labels)
        for images, labels in streamed.training_batches(torch.arange(24), 4, 7)
    ]
    for (images, labels), (others, same) in zip(arrived, files.training_batches(torch.arange(24), 4, 7), strict=True):
        assert torch.equal(images.cpu(), others)
        assert torch.equal(labels, same)


@on_gpu
@pytest.mark.parametrize("streamed", [False, True])
def test_an_evaluation_counts_what_a_cpu_counts(device: torch.device, files: ImageFiles, *, streamed: bool) -> None:
    network = make_network()
    split: Split = files.to(device) if streamed else make_data(6, 300).val
    with without_tf32():
        expected, found = (
            evaluate(network.to(where), split.to(where), NORMALIZER, Run(where), batch_size=7)
            for where in (CPU, device)
        )
    assert (found.top1, found.top5, found.images) == (expected.top1, expected.top5, expected.images)
    assert found.loss == pytest.approx(expected.loss, rel=1e-3)
