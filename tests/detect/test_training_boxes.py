"""The boxes of a training step: torchvision's losses, with fixed shapes in place of questions to the device."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from launches import CPU, StepCounter
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import MultiScaleRoIAlign, batched_nms

from nascli.config import DetectorConfig
from nascli.detect.heads import HEADS
from nascli.detect.model import build_detector
from nascli.detect.proposals import find_apart_at_once, find_apart_by_level
from nascli.detect.pyramid_roi_pool import PyramidRoIPool
from nascli.detect.sampling import BACKGROUND, IGNORED, FixedMatcher, box_loss, draw_samples
from tests.detect.small_detector import small_network

CLASSES = 3
CONFIG = DetectorConfig(
    pyramid_channels=16, head_channels=32, min_size=64, max_size=96, rpn_post_nms_top_n=40, roi_size=5
)
ALL = 10**6
"""Boxes per image that are learned from: every one."""


def draw_boxes(count: int, side: float = 60.0) -> Tensor:
    corners = side / 2 * torch.rand(count, 2)
    return torch.cat((corners, corners + 2 + side / 3 * torch.rand(count, 2)), dim=1)


def make_batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Three images, the last without boxes."""
    images = [torch.rand(3, *size) for size in ((64, 64), (48, 80), (70, 64))]
    targets = [{"boxes": draw_boxes(count), "labels": torch.randint(1, CLASSES + 1, (count,))} for count in (4, 1, 0)]
    return images, targets


def make_detector(head: str, count: int | None = None) -> Any:  # noqa: ANN401 - its parts are looked at
    """A detector in training, with batch norms that keep their statistics.

    Args:
        head: One of `HEADS`.
        count: Boxes per image that are learned from.
    """
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"head": head, "freeze_batch_norm": True})
    detector = build_detector(small_network(), config, CLASSES).train()
    if count is not None:
        for part in (detector.rpn, detector.roi_heads):
            part.fg_bg_sampler = BalancedPositiveNegativeSampler(count, 0.5)
    return detector


def torchvisions(detector: Any) -> Any:  # noqa: ANN401
    """torchvision's detector of the same modules, which share their weights."""
    rpn, heads = detector.rpn, detector.roi_heads
    plain = FasterRCNN(
        detector.backbone,
        rpn_anchor_generator=rpn.anchor_generator,
        rpn_head=rpn.head,
        rpn_pre_nms_top_n_train=rpn._pre_nms_top_n["training"],
        rpn_pre_nms_top_n_test=rpn._pre_nms_top_n["testing"],
        rpn_post_nms_top_n_train=rpn._post_nms_top_n["training"],
        rpn_post_nms_top_n_test=rpn._post_nms_top_n["testing"],
        box_head=heads.box_head,
        box_predictor=heads.box_predictor,
        box_score_thresh=CONFIG.box_score_thresh,
        box_nms_thresh=CONFIG.box_nms_thresh,
        box_detections_per_img=CONFIG.box_detections_per_img,
    )
    plain.transform = detector.transform
    plain.rpn.fg_bg_sampler, plain.roi_heads.fg_bg_sampler = rpn.fg_bg_sampler, heads.fg_bg_sampler
    plain.roi_heads.box_roi_pool = heads.box_roi_pool
    if isinstance(heads.box_roi_pool, PyramidRoIPool):
        crops = MultiScaleRoIAlign(heads.box_roi_pool.featmap_names, 5, 2)
        crops.scales, crops.map_levels = heads.box_roi_pool.scales, heads.box_roi_pool.map_levels
        plain.roi_heads.box_roi_pool = crops
    return plain.train(detector.training)


def make_step(detector: Any) -> tuple[dict[str, Tensor], list[Tensor]]:  # noqa: ANN401
    """The losses on a batch, and the gradients of their sum."""
    torch.manual_seed(1)
    losses = detector(*make_batch())
    learned = [each for each in detector.parameters() if each.requires_grad]
    return losses, list(torch.autograd.grad(sum(losses.values()), learned, allow_unused=True))


@pytest.mark.parametrize("small", [False, True], ids=["", "some proposals too small"])
@pytest.mark.parametrize("head", HEADS)
def test_losses_and_gradients_are_torchvisions_where_every_box_is_learned_from(head: str, small: bool) -> None:
    detector = make_detector(head, ALL)
    if small:  # wherever the second number of an anchor's four is the width's
        with torch.no_grad():
            detector.rpn.head.bbox_pred.bias.view(-1, 4)[::2, 2:] = -20.0
    found, gradients = make_step(detector)
    expected, theirs = make_step(torchvisions(detector))
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name])
    assert sum(each is not None for each in gradients) > 10
    for mine, other in zip(gradients, theirs, strict=True):
        if mine is None:
            assert other is None
        else:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_boxes_that_are_found_are_torchvisions(head: str) -> None:
    detector = make_detector(head).eval()
    images, _ = make_batch()
    with torch.no_grad():
        for mine, theirs in zip(detector(images), torchvisions(detector)(images), strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in ("boxes", "labels", "scores"))


@pytest.mark.parametrize("head", HEADS)
def test_a_step_reads_nothing_back(head: str) -> None:
    """But a number per image that was drawn on the CPU: its size. torchvision asks more than ten times as often."""
    detector = make_detector(head)
    reads = []
    for each in (detector, torchvisions(detector)):
        images, targets = make_batch()
        with StepCounter(CPU) as counter:
            sum(each(images, targets).values()).backward()
        reads.append(counter.reads)
    assert dict(reads[0]) == {"_local_scalar_dense": 3}
    assert reads[1].total() > 30


@pytest.mark.parametrize("head", HEADS)
def test_corrections_that_are_no_numbers_leave_the_annotated_boxes_to_learn_from(head: str) -> None:
    detector = make_detector(head)
    torch.nn.init.constant_(detector.rpn.head.bbox_pred.weight, float("nan"))
    losses = detector(*make_batch())
    finite = {name for name, loss in losses.items() if bool(torch.isfinite(loss))}
    assert finite == losses.keys() - {"loss_rpn_box_reg"}


def test_as_many_boxes_are_cropped_as_the_recipe_says() -> None:
    detector = make_detector("fpn", 16)
    seen: list[int] = []
    detector.roi_heads.box_head.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    make_step(detector)
    assert seen == [3 * 16]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.booleans())
def test_candidates_match_the_same_boxes_as_in_torchvision(seed: int, boxes: int, count: int, low: bool) -> None:
    overlaps = torch.randint(0, 11, (boxes, count), generator=torch.Generator().manual_seed(seed)) / 10  # with ties
    mine, theirs = FixedMatcher(0.7, 0.3, low), Matcher(0.7, 0.3, low)
    assert torch.equal(mine(overlaps), theirs(overlaps))


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 60))
def test_samples_are_objects_up_to_the_fraction_and_background(
    seed: int, objects: int, background: int, ignored: int, count: int
) -> None:
    torch.manual_seed(seed)
    kinds = [1 + k % 3 for k in range(objects)] + [BACKGROUND] * background + [IGNORED] * ignored
    labels = torch.tensor(kinds, dtype=torch.int64)[torch.randperm(len(kinds))]
    drawn = draw_samples(labels, count, 0.25)
    expected_objects = min(objects, int(count * 0.25))
    expected_background = min(background, count - expected_objects)
    assert len(drawn.places) == len(drawn.labels) == min(count, len(labels))
    assert len(set(drawn.places.tolist())) == len(drawn.places)
    assert int((drawn.labels > BACKGROUND).sum()) == expected_objects
    assert int((drawn.labels == BACKGROUND).sum()) == expected_background
    learned = drawn.labels != IGNORED
    assert torch.equal(labels[drawn.places][learned], drawn.labels[learned])
    assert bool(learned[: expected_objects + expected_background].all())


def test_all_candidates_of_a_kind_are_equally_likely() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([1, 2, 3, 1, 0, 0, 0, 0, 0, 0, -1])
    times = torch.zeros(len(labels))
    for _ in range(2000):
        drawn = draw_samples(labels, 4, 0.5)
        times[drawn.places] += 1
    # 2 of 4 objects and 2 of 6 others; four deviations of 2,000 throws
    torch.testing.assert_close(times[:4] / 2000, torch.full((4,), 1 / 2), rtol=0, atol=0.045)
    torch.testing.assert_close(times[4:10] / 2000, torch.full((6,), 1 / 3), rtol=0, atol=0.043)
    assert times[10] == 0


def test_what_shows_no_object_has_no_goal_whatever_is_in_its_place() -> None:
    corrections = torch.zeros(4, 4, requires_grad=True)
    goals = torch.tensor([[1.0] * 4, [float("nan")] * 4, [float("-inf")] * 4, [float("nan")] * 4])
    loss = box_loss(corrections, goals, torch.tensor([2, BACKGROUND, BACKGROUND, IGNORED]))
    (gradient,) = torch.autograd.grad(loss, corrections)
    assert loss.item() == pytest.approx(4 * (1 - 1 / 18) / 3)
    torch.testing.assert_close(gradient, torch.tensor([[-1 / 3] * 4] + [[0.0] * 4] * 3))


def test_nothing_to_learn_from_costs_nothing() -> None:
    nothing = torch.zeros(0, 4)
    assert float(box_loss(nothing, nothing, torch.zeros(0, dtype=torch.int64))) == 0


@pytest.mark.parametrize("find", [find_apart_by_level, find_apart_at_once])
def test_boxes_apart_are_torchvisions(find: Any) -> None:  # noqa: ANN401
    torch.manual_seed(0)
    counts = [60, 0, 30, 7]
    boxes, scores = draw_boxes(97), torch.rand(97)
    maps = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    found = find(boxes, scores, counts, 0.4)
    assert 10 < len(found) < 90
    assert torch.equal(found, batched_nms(boxes, scores, maps, 0.4))


def test_crops_and_their_gradients_are_torchvisions() -> None:
    torch.manual_seed(0)
    names, strides = ["fine", "coarse", "coarsest"], [4, 8, 16]
    pool = PyramidRoIPool(names, strides, 3)
    maps = {
        name: torch.randn(2, 5, 512 // stride, 512 // stride, requires_grad=True)
        for name, stride in zip(names, strides, strict=True)
    }
    boxes = [draw_boxes(20, 60), torch.cat((draw_boxes(10, 1500), draw_boxes(10, 400)))]
    results = []
    for training in (True, False):  # torchvision's own way is that of inference
        crops = pool.train(training)(maps, boxes, [(512, 512)] * 2)
        results.append((crops, torch.autograd.grad((crops * crops.cos()).sum(), list(maps.values()))))
    assert all(bool(each.any()) for each in results[0][1])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
