"""Views of an image: what is cut, from what, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nascli.classify.tta import plan_tta
from nascli.config import Preprocessing
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import ImageFiles
from nascli.errors import InputError

IMAGES = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
ARRAY = ImageArray(IMAGES, torch.tensor([0, 1, 0]))


def write_files(folder: Path, crop: float) -> ImageFiles:
    """Two images of 40 x 20 pixels, `0.png` and `1.png`, that the network sees at 8."""
    paths = tuple(folder / f"{k}.png" for k in range(2))
    for k, path in enumerate(paths):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return ImageFiles(paths, torch.tensor([0, 1]), 8, 0, preprocessing=Preprocessing(crop=crop))


def central_square(path: Path) -> torch.Tensor:
    """Resized to a height of 10, and 10 pixels of the width."""
    half = Image.open(path).resize((20, 10), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(half)[:, 5:15]).permute(2, 0, 1)


def test_without_being_asked_an_image_is_seen_alone() -> None:
    split, tta = plan_tta(ARRAY, padding=2)
    assert split is ARRAY
    assert tta.count == 1
    assert [view is IMAGES for view in tta.apply(IMAGES)] == [True]


def test_a_mirror_image_is_a_view() -> None:
    _, tta = plan_tta(ARRAY, flip=True)
    first, second = tta.apply(IMAGES)
    assert first is IMAGES
    assert torch.equal(second, IMAGES.flip(3))


def test_corners_of_an_image_in_memory_reach_into_the_zeros_of_training() -> None:
    _, tta = plan_tta(ARRAY, crops=5, padding=2)
    padded = F.pad(IMAGES, [2] * 4)
    seen = tta.apply(IMAGES)
    expected = [padded[:, :, :8, :8], padded[:, :, :8, 4:], padded[:, :, 4:, :8], padded[:, :, 4:, 4:], IMAGES]
    assert all(map(torch.equal, seen, expected))
    assert (len(seen), tta.count, tta.cut_from) == (5, 5, 12)


@pytest.mark.parametrize("flip", [False, True])
def test_ten_crops_are_five_and_their_mirror_images(flip: bool) -> None:
    _, five = plan_tta(ARRAY, crops=5, padding=1)
    _, ten = plan_tta(ARRAY, crops=10, flip=flip, padding=1)
    plain = five.apply(IMAGES)
    assert ten.count == 10
    assert all(map(torch.equal, ten.apply(IMAGES), [*plain, *(view.flip(3) for view in plain)]))
    assert plan_tta(ARRAY, crops=5, flip=True, padding=1)[1] == ten


def test_corners_of_a_file_lie_in_its_central_square(tmp_path: Path) -> None:
    files = write_files(tmp_path, crop=0.8)
    split, tta = plan_tta(files, crops=5, padding=3)  # the padding is for images in memory alone
    (images, labels), *_ = split.evaluation_batches(2)
    expected = torch.stack([central_square(tmp_path / f"{k}.png") for k in range(2)])
    assert torch.equal(images, expected)
    assert labels.tolist() == [0, 1]
    corners = tta.apply(images)
    assert torch.equal(corners[1], expected[:, :, :8, 2:])
    (plain, _), *_ = files.evaluation_batches(2)
    assert torch.equal(corners[4], plain)
    assert tta.to_dict() == {
        "count": 5,
        "image_size": 8,
        "crops": 5,
        "flip": False,
        "padding": 0,
        "cut_from": 10,
    }


def test_what_has_no_corners_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--crops 3: possible are 1, 5, 10"):
        plan_tta(ARRAY, crops=3, padding=1)
    with pytest.raises(InputError, match=r"held in memory at the network's own 8 pixels.*data\.crop_padding"):
        plan_tta(ARRAY, crops=5)
    with pytest.raises(InputError, match=r"preprocessing\.crop = 1\), so there are no corners"):
        plan_tta(write_files(tmp_path, crop=1), crops=10)
