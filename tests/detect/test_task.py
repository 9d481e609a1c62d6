"""One step of a detector: sizes and number formats while it trains, micro-batches, losses that are not finite."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascli.config import DetectorConfig, DetectTrainConfig
from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit
from nascli.data.detection.transforms import ScaleJitter
from nascli.detect.model import build_detector
from nascli.detect.sampler import BatchSampler
from nascli.detect.task import DetectBatch, DetectTask
from nascli.engine.meters import StepLoss
from nascli.engine.step import train_step
from nascli.engine.task import Run, TrainPlan
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import DivergedError
from tests.detect.small_detector import small_network

CPU = torch.device("cpu")
RUN = Run(CPU)
NO_SPLIT = DetectionSplit("none", Path(), (), ())
CONFIG = DetectorConfig(
    pyramid_channels=16, head_channels=32, rpn_post_nms_top_n=20, box_batch_size_per_image=16, min_size=64, max_size=96
)


class Step:
    """A detector with everything that a step of it needs."""

    def __init__(self, detector: nn.Module, jitter: ScaleJitter | None = None, **settings: object) -> None:
        self.config = DetectTrainConfig.model_validate({"warmup_steps": 0, **settings})
        sampler = BatchSampler(TrainPlan(self.config, 8), self.config, 0, (), jitter)
        self.task = DetectTask(detector.train(), NO_SPLIT, NO_SPLIT, sampler, RUN)
        self.state: TrainState = start_state(self.task, RUN)

    def __call__(self, batch: DetectBatch, seed: int = 0) -> StepLoss:
        return train_step(self.state, self.task, batch, seed, RUN)

    def weight(self) -> float:
        return float(self.state.modules.get_parameter("weight").detach())


def new_detector() -> Any:  # noqa: ANN401 - torchvision's, of which parts are looked at
    torch.manual_seed(0)
    return build_detector(small_network(), CONFIG, 2)


def batch(*sizes: tuple[int, int]) -> DetectBatch:
    """Images of these heights and widths, each with a box; their ids are 10, 11, ..."""
    boxes, one = np.array([[4.0, 4.0, 20.0, 24.0]]), np.ones(1)
    entries = [
        AnnotatedImage(10 + k, None, width, height, boxes, one.astype(np.int64), one, one < 0)  # type: ignore[arg-type]
        for k, (height, width) in enumerate(sizes)
    ]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    target = {"boxes": torch.tensor([[4.0, 4.0, 24.0, 28.0]]), "labels": torch.tensor([1])}
    return DetectBatch(entries, images, [target] * len(sizes))


def inputs_seen(detector: Any, seed: int = 0, jitter: ScaleJitter | None = None, **settings: object) -> tuple[int, ...]:  # noqa: ANN401
    """The shape of what reaches the backbone in a step."""
    shapes: list[tuple[int, ...]] = []
    hook = detector.backbone.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    step = Step(detector, jitter, **settings)
    with step.task.training():
        step(batch((64, 64), (64, 64)), seed)
    hook.remove()
    return shapes[0]


def test_images_have_other_sizes_in_training_and_their_own_afterwards() -> None:
    detector = new_detector()
    assert inputs_seen(detector) == (2, 3, 64, 64)
    assert inputs_seen(detector, multi_scale=(96,)) == (2, 3, 96, 96)
    assert {inputs_seen(detector, seed, multi_scale=(32, 96))[2] for seed in range(8)} == {32, 96}
    jitter = ScaleJitter(128, (0.5, 2.0), (0, 0, 0))
    assert inputs_seen(detector, jitter=jitter, scale_jitter=(0.5, 2.0)) == (2, 3, 128, 128)
    assert (detector.transform.min_size, detector.transform.max_size) == ((64,), 96)
    with pytest.raises(RuntimeError, match="stop"), Step(detector, multi_scale=(96,)).task.training():
        raise RuntimeError("stop")
    assert detector.transform.min_size == (64,)
    assert not any(each._forward_hooks for each in detector.modules())


def test_boxes_are_exact_where_the_arithmetic_is_not() -> None:
    detector = new_detector()
    step = Step(detector, precision="bfloat16")
    types: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:  # noqa: ANN401
        return lambda module, inputs, output: types.update({name: output.dtype})

    detector.backbone.pyramid.layer_blocks[0].register_forward_hook(note("pyramid"))
    detector.roi_heads.box_head.register_forward_hook(note("box head"))
    with step.task.training():
        detector.rpn.anchor_generator.register_forward_hook(lambda *seen: types.update(anchors=seen[2][0].dtype))
        detector.roi_heads.box_predictor.register_forward_hook(lambda *seen: types.update(boxes=seen[2][1].dtype))
        loss = float(step(batch((64, 64), (48, 64))).loss)
    low, exact = torch.bfloat16, torch.float32
    assert types == {"pyramid": low, "box head": low, "anchors": exact, "boxes": exact}
    assert 0 < loss < 20
    assert all(parameter.dtype == exact for parameter in detector.parameters())


class Weighted(nn.Module):
    """In place of a detector: a loss that is the mean over its images of weight times brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        self.calls += 1
        bright = torch.stack([image.mean() for image in images])
        return {"loss_a": (self.weight * bright).mean(), "loss_b": self.weight.sum() * 0}


def test_the_micro_batches_of_a_batch_add_up_to_it() -> None:
    five = batch(*[(8, 8)] * 5)
    found = []
    for count in (1, 3):
        detector = Weighted()
        step = Step(detector, grad_accum_steps=count, lr=1.0, momentum=0.0, clip_grad_norm=0.0)
        loss = float(step(five).loss)
        found.append((loss, step.weight()))
        assert detector.calls == count
    assert found[0] == pytest.approx(found[1])
    mean = float(torch.stack([image.float().mean() for image in five.images]).mean()) / 255
    assert found[0] == pytest.approx((mean, 1 - mean))


def test_as_many_images_are_computed_at_once_as_a_micro_batch_has() -> None:
    steps = [Step(Weighted(), batch_size=4, grad_accum_steps=count) for count in (1, 2, 3)]
    assert [step.task.micro_batch_size for step in steps] == [4, 2, 2]


def test_the_average_follows_the_weights_and_is_what_is_scored() -> None:
    step = Step(Weighted(), ema_decay=0.75, lr=1.0, momentum=0.0, clip_grad_norm=0.0)
    weights = []
    for _ in range(3):
        step(batch((8, 8)))
        weights.append(step.weight())
    average = weights[0]
    for weight in weights[1:]:
        average = 0.75 * average + 0.25 * weight
    assert step.state.evaluated is not step.state.modules
    assert float(step.state.evaluated.get_parameter("weight")) == pytest.approx(average)
    assert average != pytest.approx(weights[-1])


def test_a_loss_that_is_not_finite_names_the_images_it_was_computed_on() -> None:
    def diverge(count: int) -> None:
        step = Step(Weighted(), grad_accum_steps=count)
        step.state.modules.get_parameter("weight").data.fill_(float("nan"))
        step.state.meter.add(1, 4, step(batch(*[(8, 8)] * 4)))

    with pytest.raises(DivergedError, match=r"loss is nan \(a nan, b nan\) at step 1, .* ids 10, 11, 12, 13"):
        diverge(1)
    with pytest.raises(DivergedError, match=r"on the images with ids 10, 11\."):
        diverge(2)


def test_images_and_boxes_go_to_the_device_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def copy(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
        sent.append(len(tensors))
        return [each.clone() for each in tensors]

    images = batch((64, 64), (40, 72))
    expected = Step(new_detector())(images).loss
    monkeypatch.setattr("nascli.detect.task.copy_together", copy)
    assert torch.equal(Step(new_detector())(images).loss, expected)
    assert sent == [6]
