"""Detectors: a step of each head in each precision, frozen batch norms, boxes found."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascli.config import DetectorConfig, DetectTrainConfig
from nascli.data.detection.dataset import DetectionSplit, training_target
from nascli.data.detection.registry import load_detection_data
from nascli.detect.heads import HEADS
from nascli.detect.inference import detect_boxes
from nascli.detect.model import build_detector
from nascli.detect.sampler import BatchSampler
from nascli.detect.task import DetectBatch, DetectTask
from nascli.engine.step import train_step
from nascli.engine.task import Run, TrainPlan
from nascli.engine.train_state import start_state
from tests.detect.coco_folder import write_coco
from tests.detect.small_detector import small_network, small_recipe
from tests.gpu.devices import CPU, CUDA, NEEDS_GPU, PRECISIONS, on_both, on_gpu, waits_counted


@pytest.fixture
def split(tmp_path: Path) -> DetectionSplit:
    return load_detection_data(small_recipe(str(write_coco(tmp_path, train=4, val=2))).data).train


def make_detector(head: str, **changes: object) -> Any:  # noqa: ANN401 - torchvision's, of which parts are looked at
    torch.manual_seed(0)
    numbers = {"pyramid_channels": 8, "head_channels": 16, "min_size": 64, "max_size": 64, "box_score_thresh": 0.0}
    few = {"rpn_post_nms_top_n": 20, "box_batch_size_per_image": 8, "box_detections_per_img": 5, "roi_size": 5}
    return build_detector(
        small_network(), DetectorConfig.model_validate({"head": head, **numbers, **few, **changes}), 2
    )


def make_step(detector: nn.Module, split: DetectionSplit, device: torch.device, precision: str) -> float:
    """The loss of one step on the whole split."""
    config, run = DetectTrainConfig.model_validate({"batch_size": 4, "precision": precision}), Run(device)
    task = DetectTask(detector.train(), split, split, BatchSampler(TrainPlan(config, 4), config, 0), run)
    state = start_state(task, run)
    images = list(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    with task.training():
        batch = DetectBatch(split.images, images, [training_target(each) for each in split.images])
        loss = float(train_step(state, task, batch, 0, run).loss)
    state.check_finite()
    return loss


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("device", "precision"),
    [
        pytest.param(CPU, "float32", id="cpu-float32"),
        *(pytest.param(CUDA, each, marks=NEEDS_GPU, id=f"cuda-{each}") for each in PRECISIONS),
    ],
)
def test_a_step_of_each_head(split: DetectionSplit, head: str, device: torch.device, precision: str) -> None:
    detector = make_detector(head)
    before = {name: value.clone() for name, value in detector.named_parameters()}
    assert 0 < make_step(detector, split, device, precision) < 20
    if precision != "float16":  # which may leave its first step out
        assert any(not torch.equal(value.cpu(), before[name]) for name, value in detector.named_parameters())


@on_gpu
@pytest.mark.parametrize(("head", "levels"), [("fpn", 1), ("nasnet", 0)])
def test_a_step_waits_once_per_image_and_once_for_the_levels(device: torch.device, head: str, levels: int) -> None:
    """The comparison of overlapping proposals waits; `tests/detect/test_training_boxes.py` counts the rest on a CPU."""
    detector = make_detector(head).to(device).train()
    images = [torch.rand(3, 64, 64, device=device) for _ in range(2)]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 50.0]], device=device)
    targets = [{"boxes": boxes, "labels": torch.ones(1, dtype=torch.int64, device=device)} for _ in images]
    detector(images, targets)  # whatever is made once
    with waits_counted() as waits:
        sum(detector(images, targets).values()).backward()
    assert len(waits) <= len(images) + levels, waits


@on_both
def test_frozen_batch_norms_keep_their_statistics(split: DetectionSplit, device: torch.device) -> None:
    detector = make_detector("fpn", freeze_batch_norm=True)
    before = {name: value.clone() for name, value in detector.backbone.network.named_buffers()}
    make_step(detector, split, device, "float32")
    torch.testing.assert_close(
        {k: v.cpu() for k, v in detector.backbone.network.named_buffers()}, before, rtol=0, atol=0
    )


@on_both
@pytest.mark.parametrize("head", HEADS)
def test_boxes_are_found(split: DetectionSplit, head: str, device: torch.device) -> None:
    detector = make_detector(head).to(device)
    _settle(detector, device)
    found = detect_boxes(detector, split, Run(device), 3)
    assert {each["image_id"] for each in found} <= {each.id for each in split.images}
    assert found
    assert all(0 <= each["score"] <= 1 and each["bbox"][2] > 0 for each in found)


def _settle(detector: Any, device: torch.device) -> None:  # noqa: ANN401
    """Give batch norms the statistics of noise: with others random weights propose nothing."""
    for norm in (each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.momentum = None
    images: Tensor = torch.randn(4, 3, 64, 64, device=device)
    with torch.no_grad():
        detector.train().backbone(images)
