"""One step of a detector: sizes and number formats while it trains, parts of a batch, losses that are not finite."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascli.config import DetectorConfig, DetectTrainConfig
from nascli.data.detection.dataset import AnnotatedImage
from nascli.data.detection.transforms import ScaleJitter
from nascli.detect.model import build_detector
from nascli.detect.plan import DetectPlan
from nascli.detect.state import start_state
from nascli.detect.step import computing_as_asked, train_step
from nascli.errors import DivergedError
from tests.detect.parts import small_network

CPU = torch.device("cpu")
CONFIG = DetectorConfig(
    pyramid_channels=16, head_channels=32, rpn_post_nms_top_n=20, box_batch_size_per_image=16, min_size=64, max_size=96
)


def plan(jitter: ScaleJitter | None = None, **settings: object) -> DetectPlan:
    return DetectPlan(DetectTrainConfig.model_validate({"warmup_steps": 0, **settings}), 0, CPU, 8, (), jitter)


def new_detector() -> Any:  # noqa: ANN401 - torchvision's, of which parts are looked at
    torch.manual_seed(0)
    return build_detector(small_network(), CONFIG, 2)


def batch(*sizes: tuple[int, int]) -> tuple[list[AnnotatedImage], list[Tensor], list[dict[str, Tensor]]]:
    """Pictures of these heights and widths, each with a box; their ids are 10, 11, ..."""
    boxes, one = np.array([[4.0, 4.0, 20.0, 24.0]]), np.ones(1)
    entries = [
        AnnotatedImage(10 + k, None, width, height, boxes, one.astype(np.int64), one, one < 0)  # type: ignore[arg-type]
        for k, (height, width) in enumerate(sizes)
    ]
    pictures = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    target = {"boxes": torch.tensor([[4.0, 4.0, 24.0, 28.0]]), "labels": torch.tensor([1])}
    return entries, pictures, [target] * len(sizes)


def inputs_seen(detector: Any, asked: DetectPlan, seed: int = 0) -> tuple[int, ...]:  # noqa: ANN401
    """The shape of what reaches the backbone in a step."""
    shapes: list[tuple[int, ...]] = []
    hook = detector.backbone.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    state = start_state(detector.train(), asked)
    with computing_as_asked(detector, asked):
        train_step(state, asked, *batch((64, 64), (64, 64)), seed)
    hook.remove()
    return shapes[0]


def test_pictures_have_other_sizes_in_training_and_their_own_afterwards() -> None:
    detector = new_detector()
    assert inputs_seen(detector, plan()) == (2, 3, 64, 64)
    assert inputs_seen(detector, plan(multi_scale=(96,))) == (2, 3, 96, 96)
    assert {inputs_seen(detector, plan(multi_scale=(32, 96)), seed)[2] for seed in range(8)} == {32, 96}
    jitter = ScaleJitter(128, (0.5, 2.0), (0, 0, 0))
    assert inputs_seen(detector, plan(jitter, scale_jitter=(0.5, 2.0))) == (2, 3, 128, 128)
    assert (detector.transform.min_size, detector.transform.max_size) == ((64,), 96)
    with pytest.raises(RuntimeError, match="stop"), computing_as_asked(detector, plan(multi_scale=(96,))):
        raise RuntimeError("stop")
    assert detector.transform.min_size == (64,)
    assert not any(each._forward_hooks for each in detector.modules())


def test_boxes_are_exact_where_the_arithmetic_is_not() -> None:
    detector = new_detector()
    asked = plan(precision="bfloat16")
    state = start_state(detector.train(), asked)
    types: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:  # noqa: ANN401
        return lambda module, inputs, output: types.update({name: output.dtype})

    detector.backbone.pyramid.layer_blocks[0].register_forward_hook(note("pyramid"))
    detector.roi_heads.box_head.register_forward_hook(note("box head"))
    with computing_as_asked(detector, asked):
        detector.rpn.anchor_generator.register_forward_hook(lambda *seen: types.update(anchors=seen[2][0].dtype))
        detector.roi_heads.box_predictor.register_forward_hook(lambda *seen: types.update(boxes=seen[2][1].dtype))
        loss = train_step(state, asked, *batch((64, 64), (48, 64)), 0)
    low, exact = torch.bfloat16, torch.float32
    assert types == {"pyramid": low, "box head": low, "anchors": exact, "boxes": exact}
    assert 0 < loss < 20
    assert all(parameter.dtype == exact for parameter in detector.parameters())


class Weighted(nn.Module):
    """In place of a detector: a loss that is the mean over its pictures of weight times brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, pictures: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        self.calls += 1
        bright = torch.stack([picture.mean() for picture in pictures])
        return {"loss_a": (self.weight * bright).mean(), "loss_b": self.weight.sum() * 0}


def weight_of(detector: Any) -> float:  # noqa: ANN401
    return float(detector.weight.detach())


def test_the_parts_of_a_batch_add_up_to_it() -> None:
    entries, pictures, targets = batch(*[(8, 8)] * 5)
    found = []
    for parts in (1, 3):
        asked = plan(grad_accum_steps=parts, lr=1.0, momentum=0.0, clip_grad_norm=0.0)
        state = start_state(Weighted(), asked)
        loss = train_step(state, asked, entries, pictures, targets, 0)
        found.append((loss, weight_of(state.detector)))
        assert state.detector.calls == parts
    assert found[0] == pytest.approx(found[1])
    mean = float(torch.stack([picture.float().mean() for picture in pictures]).mean()) / 255
    assert found[0] == pytest.approx((mean, 1 - mean))


def test_the_average_follows_the_weights_and_is_what_is_scored() -> None:
    asked = plan(ema_decay=0.75, lr=1.0, momentum=0.0, clip_grad_norm=0.0)
    state = start_state(Weighted(), asked)
    weights = []
    for _ in range(3):
        train_step(state, asked, *batch((8, 8)), 0)
        weights.append(weight_of(state.detector))
    average = weights[0]
    for weight in weights[1:]:
        average = 0.75 * average + 0.25 * weight
    assert state.scored is not state.detector
    assert weight_of(state.scored) == pytest.approx(average)
    assert average != pytest.approx(weights[-1])


def test_a_loss_that_is_not_finite_names_the_pictures_it_was_computed_on() -> None:
    entries, pictures, targets = batch(*[(8, 8)] * 4)
    state = start_state(Weighted(), plan())
    state.detector.weight.data.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(DivergedError, match=r"loss is nan \(a nan, b nan\) at step 1, .* ids 10, 11, 12, 13"):
        train_step(state, plan(), entries, pictures, targets, 0)
    with pytest.raises(DivergedError, match=r"on the images with ids 10, 11\."):
        train_step(state, plan(grad_accum_steps=2), entries, pictures, targets, 0)
