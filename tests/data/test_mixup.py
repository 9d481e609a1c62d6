"""Mixed images, and labels mixed in the same parts."""

import pytest
import torch

from nascli.config import DataConfig
from nascli.data.transforms import mix_batch

LABELS = torch.arange(8) % 4
IMAGES = (LABELS.view(-1, 1, 1, 1) * torch.ones(8, 3, 16, 16)).contiguous(memory_format=torch.channels_last)
"""Every pixel is the image's class, so that a mixed image says how much it has of which."""


def test_off_it_gives_back_what_it_got() -> None:
    images, labels = mix_batch(IMAGES, LABELS, 4, DataConfig())
    assert images is IMAGES
    assert labels is LABELS


@pytest.mark.parametrize("numbers", [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_labels_are_mixed_as_the_images_are(numbers: dict[str, float]) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        images, labels = mix_batch(IMAGES, LABELS, 4, DataConfig.model_validate(numbers))
        assert images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(labels.sum(1), torch.ones(8))
        assert int((labels > 0).sum(1).max()) <= 2
        mean_class = (labels * torch.arange(4)).sum(1)
        torch.testing.assert_close(images.mean((1, 2, 3)), mean_class, atol=1e-5, rtol=0)
    assert IMAGES.mean() == 1.5  # left as they were


def test_mixup_mixes_every_pixel_and_cutmix_a_rectangle() -> None:
    torch.manual_seed(1)
    mixed, _ = mix_batch(IMAGES, LABELS, 4, DataConfig(mixup=1.0))
    assert all(len(image.unique()) == 1 for image in mixed.round(decimals=4))
    cut, _ = mix_batch(IMAGES, LABELS, 4, DataConfig(cutmix=1.0))
    assert {len(image.unique()) for image in cut} <= {1, 2}


def test_a_seed_gives_one_result() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(mix_batch(IMAGES, LABELS, 4, DataConfig(mixup=0.2, cutmix=1.0))[0])
    assert torch.equal(*results)


def test_one_image_has_no_other_to_be_mixed_with() -> None:
    images, labels = mix_batch(IMAGES[:1], LABELS[:1], 4, DataConfig(mixup=1.0))
    assert torch.equal(images, IMAGES[:1])
    assert labels.tolist() == [[1, 0, 0, 0]]
