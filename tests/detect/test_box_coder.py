"""Boxes as corrections of others: the numbers of torchvision, without its copies to a GPU."""

import pytest
import torch
from launches import CPU, StepCounter
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from nascli.detect.box_coder import NumberBoxCoder

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


def draw_boxes(count: int) -> Tensor:
    corners = 300 * torch.rand(count, 2)
    return torch.cat((corners, corners + 1 + 200 * torch.rand(count, 2)), dim=1)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_corrections_and_boxes_are_torchvisions_to_the_bit(weights: tuple[float, float, float, float]) -> None:
    torch.manual_seed(0)
    plain = BoxCoder(weights)
    own = NumberBoxCoder(weights)
    proposals, goals = [draw_boxes(50), draw_boxes(7)], [draw_boxes(50), draw_boxes(7)]
    for mine, theirs in zip(own.encode(goals, proposals), plain.encode(goals, proposals), strict=True):
        assert torch.equal(mine, theirs)
    for classes in (1, 4):
        codes = 3 * torch.randn(57, 4 * classes)  # some sides would grow beyond the limit
        assert torch.equal(own.decode(codes, proposals), plain.decode(codes, proposals))
    assert (
        own.decode(torch.zeros(0, 8), [torch.zeros(0, 4)]).shape
        == plain.decode(torch.zeros(0, 8), [torch.zeros(0, 4)]).shape
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_nothing_is_copied_to_the_device(weights: tuple[float, float, float, float]) -> None:
    """On a CPU every tensor of Python's numbers counts as a copy, as those of torchvision show."""
    copies = []
    for coder in (BoxCoder(weights), NumberBoxCoder(weights)):
        boxes = torch.ones(5, 4)
        with StepCounter(CPU) as counter:
            coder.decode(coder.encode([boxes], [boxes])[0], [boxes])
        copies.append(counter.copies.total())
    assert copies == [3, 0]
