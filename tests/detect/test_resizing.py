"""The detector's transform has torchvision's numbers, without tensors that would be copied to a GPU for each image."""

import pytest
import torch
from launches import StepCounter
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from nascli.detect.resizing import ExactTransform, scale_boxes

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("seed", range(20))
def test_colors_and_boxes_are_torchvisions_to_the_bit(seed: int) -> None:
    torch.manual_seed(seed)
    plain = GeneralizedRCNNTransform(50, 90, MEAN, STD)
    image = torch.rand(3, 7, 9)
    assert torch.equal(ExactTransform.of(plain).normalize(image), plain.normalize(image))
    before, after = torch.randint(1, 2000, (2, 2)).tolist()
    boxes = torch.rand(5, 4) * 2000
    assert torch.equal(scale_boxes(boxes, before, after), resize_boxes(boxes, before, after))
    assert scale_boxes(boxes[:0], before, after).shape == (0, 4)


def test_no_tensor_is_made_of_numbers_for_an_image() -> None:
    plain = GeneralizedRCNNTransform(50, 90, MEAN, STD)
    images, targets = [torch.rand(3, 40, 60), torch.rand(3, 30, 20)], [{"boxes": torch.rand(2, 4)} for _ in range(2)]
    copies = []
    for transform in (plain, ExactTransform.of(plain)):
        with StepCounter(torch.device("cpu")) as counter:
            transform(images, targets)
        copies.append(counter.copies.total())
    assert copies == [12, 0]


def test_colors_are_no_weights_and_follow_the_device() -> None:
    transform = ExactTransform.of(GeneralizedRCNNTransform(50, 90, MEAN, STD))
    assert not transform.state_dict()
    assert transform.to("meta").normalize(torch.rand(3, 4, 4, device="meta")).is_meta
