"""A detector's engines give the boxes of the trained detector, on any images; what they cannot do is refused."""

import pytest
import torch
from torch import Tensor, nn

from nascli.config import DetectorConfig
from nascli.detect.engines import accelerate
from nascli.detect.model import build_detector
from nascli.errors import InputError, UnknownStepError
from nascli.models.deploy import engines, openvino
from nascli.models.deploy.openvino import supports
from nascli.models.deploy.parts import PART_ENGINES
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from tests.detect.small_detector import small_network
from tests.fakes import hide_package

CPU = torch.device("cpu")
Outputs = list[dict[str, Tensor]]


def prepare(network: ImageClassifier, **settings: object) -> nn.Module:
    """A detector whose batch norms know the data and have scales of their own, and which finds boxes by color."""
    torch.manual_seed(0)
    numbers = {"pyramid_channels": 16, "head_channels": 32, "min_size": 64, "max_size": 96, "rpn_post_nms_top_n": 40}
    found: nn.Module = build_detector(network, DetectorConfig.model_validate({**numbers, **settings}), 2)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # those of the batch
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    with torch.no_grad():
        found.train()
        found.backbone(torch.randn(4, 3, 64, 64))  # type: ignore[operator, unused-ignore]
    return found.eval()


def detect(found: nn.Module, images: list[Tensor]) -> Outputs:
    with torch.no_grad():
        outputs: Outputs = found(images)
    return outputs


def draw(height: int, width: int, squares: int) -> Tensor:
    # noise, so that no two places have equal scores, whose order would be a matter of rounding
    image = 0.5 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(squares))
    for k in range(squares):
        top, left = 20 * (k // 3), 20 * (k % 3)
        image[k % 3, top : top + 14, left : left + 14] = 1.0
    return image


BATCHES = [
    [draw(64, 64, 0)],
    [draw(64, 64, 1)],
    [draw(60, 90, 9)],
    [draw(64, 64, 4), draw(50, 50, 2), draw(5, 5, 0)],
]


def assert_same(found: nn.Module, answering: nn.Module, images: list[Tensor], *, boxes: bool = True) -> None:
    expected, given = detect(found, images), detect(answering, images)
    assert len(expected) == len(given)
    assert not boxes or any(len(each["boxes"]) for each in expected)
    for one, other in zip(expected, given, strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ["folded", "openvino"])
@pytest.mark.parametrize(
    ("head", "network"), [("fpn", "cifar"), ("fpn", "imagenet"), ("fpn", "resnet"), ("nasnet", "imagenet")]
)
def test_every_head_and_network_gives_the_same_boxes(head: str, network: str, engine: str) -> None:
    body = build_network("resnet-20", image_size=32) if network == "resnet" else small_network(network)
    found = prepare(body, head=head, box_score_thresh=0.0)
    answering, _ = accelerate(found, engine)
    for images in BATCHES:
        assert_same(found, answering, images)


@pytest.mark.parametrize("proposals", [1, 33])
def test_any_number_of_proposals_is_answered(proposals: int) -> None:
    found = prepare(small_network(), rpn_post_nms_top_n=proposals, box_score_thresh=0.0)
    answering, _ = accelerate(found, "openvino")
    for images in BATCHES[:2]:
        assert_same(found, answering, images)


def test_images_on_which_nothing_is_found_or_proposed() -> None:
    found = prepare(small_network(), box_score_thresh=0.99)
    answering, _ = accelerate(found, "openvino")
    assert_same(found, answering, BATCHES[0], boxes=False)
    assert [len(each["boxes"]) for each in detect(answering, BATCHES[3])] == [0, 0, 0]
    for each in (found, answering):
        each.rpn.score_thresh = 2.0  # type: ignore[union-attr, unused-ignore]
        assert [len(output["boxes"]) for output in detect(each, BATCHES[3])] == [0, 0, 0]


def test_the_detector_is_left_as_it_is_and_answers_stay_what_they_were() -> None:
    found = prepare(small_network(), box_score_thresh=0.0)
    before = {name: value.clone() for name, value in found.state_dict().items()}
    answering, _ = accelerate(found, "openvino")
    (first,) = detect(answering, BATCHES[1])
    kept = {name: value.clone() for name, value in first.items()}
    detect(answering, BATCHES[0])
    assert all(torch.equal(first[name], kept[name]) for name in kept)
    assert found.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("engine", PART_ENGINES)
def test_bfloat16_gives_numbers_that_are_near(engine: str) -> None:
    if engine == "openvino" and not supports("bfloat16"):
        with pytest.raises(InputError, match="bfloat16"):
            accelerate(prepare(small_network()), engine, "bfloat16")
        return
    found = prepare(small_network(), box_score_thresh=0.0)
    answering, _ = accelerate(found, engine, "bfloat16")
    (expected,), (given,) = detect(found, BATCHES[1]), detect(answering, BATCHES[1])
    assert given["boxes"].dtype == given["scores"].dtype == torch.float32
    torch.testing.assert_close(given["scores"][:1], expected["scores"][:1], atol=5e-2, rtol=0)


def test_auto_is_openvino_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepare(small_network())
    monkeypatch.setattr(engines, "supports", lambda precision: True)
    assert accelerate(found)[1] == "openvino"
    hide_package(monkeypatch, "openvino")
    monkeypatch.setattr(engines, "supports", openvino.supports)
    assert accelerate(found)[1] == "folded"
    for engine in ("openvino", "openvinno"):
        with pytest.raises(InputError, match="openvino"):
            accelerate(found, engine)
    assert accelerate(found, "trained") == (found, "trained")


class Doubled(nn.Module):
    """A step that is not among those that networks of nascli have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * 2


def test_a_backbone_with_another_step_is_folded_alone() -> None:
    body = build_network("resnet-20", image_size=32)
    body.stem = nn.Sequential(body.stem, Doubled())  # type: ignore[assignment, arg-type, unused-ignore]
    found = prepare(body, box_score_thresh=0.0)
    answering, engine = accelerate(found)
    assert engine == "folded"
    assert_same(found, answering, BATCHES[1])
    with pytest.raises(UnknownStepError, match="--engine folded"):
        accelerate(found, "openvino")
