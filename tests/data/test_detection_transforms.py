"""Images varied with their boxes: a box stays on what it is around, inside the image, and never gets larger."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from nascli.data.detection.transforms import (
    BoxTransform,
    JitterPlacement,
    ScaleJitter,
    Target,
    flip_horizontal,
    place_in_square,
    sample_transforms,
)

FILL = (101, 102, 103)
MARK = (255, 255, 255)
SIDES = st.integers(12, 60)
PARTS = st.floats(0, 1, exclude_max=True)


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int) -> list[float]:
    """Corners on whole pixels."""
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return [x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))]


@st.composite
def annotated_images(draw: st.DrawFn, most: int = 5) -> tuple[Image.Image, Target]:
    """A black image whose boxes are filled with white."""
    width, height = draw(SIDES), draw(SIDES)
    corners = draw(st.lists(boxes(width, height), min_size=1, max_size=most))
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    for x1, y1, x2, y2 in corners:
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=MARK)
    return image, {"boxes": torch.tensor(corners, dtype=torch.float32), "labels": torch.arange(1, len(corners) + 1)}


@st.composite
def placements(draw: st.DrawFn, low: float = 0.1, high: float = 2.0) -> JitterPlacement:
    jitter = ScaleJitter(draw(st.integers(16, 64)), (low, high), FILL)
    return JitterPlacement(jitter, draw(st.floats(low, high)), draw(PARTS), draw(PARTS))


def areas(target: Target) -> torch.Tensor:
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    return (x2 - x1) * (y2 - y1)


@given(annotated_images())
def test_flip_twice_is_nothing_and_once_moves_the_pixels_with_the_boxes(given: tuple[Image.Image, Target]) -> None:
    image, target = given
    once = flip_horizontal(image, target)
    again, back = flip_horizontal(*once)
    assert again.tobytes() == image.tobytes()
    assert torch.equal(back["boxes"], target["boxes"])
    before, after = np.asarray(image), np.asarray(once[0])
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(
        target["boxes"].int().tolist(), once[1]["boxes"].int().tolist(), strict=True
    ):
        assert np.array_equal(before[y1:y2, x1:x2], after[v1:v2, u1:u2][:, ::-1])


@given(annotated_images(), st.booleans(), placements())
def test_boxes_stay_inside_in_order_and_are_never_more_than_they_were(
    given: tuple[Image.Image, Target], flip: bool, placement: JitterPlacement
) -> None:
    image, target = given
    square, varied = BoxTransform(flip, placement)(image, target)
    side = placement.jitter.side
    assert square.size == (side, side)
    assert varied["boxes"].dtype == torch.float32
    assert len(varied["boxes"]) == len(varied["labels"]) <= len(target["boxes"])
    low, high = varied["boxes"][:, :2], varied["boxes"][:, 2:]
    assert bool((low >= 0).all())
    assert bool((high <= side).all())
    assert bool((high - low >= 1).all())
    width, height = (max(1, round(old * placement.scale * side / max(image.size))) for old in image.size)
    factor = width * height / (image.width * image.height)
    whole = areas(target)[varied["labels"] - 1] * factor
    assert (areas(varied) <= whole * 1.001 + 1e-3).all(), "cutting takes away, it never adds"


@given(annotated_images(most=1), st.booleans(), placements(low=0.5))
def test_what_is_under_a_box_moves_with_it(
    given: tuple[Image.Image, Target], flip: bool, placement: JitterPlacement
) -> None:
    image, target = given
    square, varied = BoxTransform(flip, placement)(image, target)
    white = np.asarray(square)[:, :, 0] / 255
    blur = max(1.0, placement.scale * placement.jitter.side / max(image.size)) + 0.5  # of an edge, bilinear
    middle = np.arange(placement.jitter.side) + 0.5
    for x1, y1, x2, y2 in varied["boxes"].tolist():
        inside = [(middle > low + (blur if low else 0)) & (middle < high - blur) for low, high in ((x1, x2), (y1, y2))]
        outside = [(middle < low - blur) | (middle > high + blur) for low, high in ((x1, x2), (y1, y2))]
        assert (white[np.ix_(inside[1], inside[0])] > 0.98).all()
        filled = np.asarray(square) == np.array(FILL, dtype=np.uint8)
        assert ((white < 0.02) | filled.all(2))[:, outside[0]].all()
        assert ((white < 0.02) | filled.all(2))[outside[1]].all()


@given(annotated_images())
def test_at_scale_one_a_square_image_is_as_it_was(given: tuple[Image.Image, Target]) -> None:
    image, target = given
    side = max(image.size)
    square, same = place_in_square(image, target, JitterPlacement(ScaleJitter(side, (1, 1), FILL), 1.0, 0.4, 0.4))
    assert square.crop((0, 0, *image.size)).tobytes() == image.tobytes()
    assert torch.equal(same["boxes"], target["boxes"])
    rest = np.asarray(square).copy()
    rest[: image.height, : image.width] = FILL
    assert (rest == np.array(FILL)).all()


def test_an_image_may_lose_all_its_boxes() -> None:
    """Enlarged to twice the square, of which the right half and then a box of half a pixel is left."""
    jitter = ScaleJitter(32, (0.1, 2.0), FILL)
    left: Target = {"boxes": torch.tensor([[0.0, 0, 10, 32]]), "labels": torch.tensor([1])}
    gone = place_in_square(Image.new("RGB", (32, 32)), left, JitterPlacement(jitter, 2.0, 0.999, 0.0))[1]
    assert (gone["boxes"].shape, gone["labels"].shape) == ((0, 4), (0,))
    tiny: Target = {"boxes": torch.tensor([[0.0, 0, 4, 32], [0, 0, 32, 32]]), "labels": torch.tensor([1, 2])}
    assert place_in_square(Image.new("RGB", (32, 32)), tiny, JitterPlacement(jitter, 0.125, 0.0, 0.0))[1][
        "labels"
    ].tolist() == [2]


def test_draws_follow_from_the_generator_and_only_for_what_is_on() -> None:
    jitter = ScaleJitter(32, (0.5, 2.0), FILL)
    fresh = torch.Generator().manual_seed(5)
    assert sample_transforms(4, fresh, flip=False, jitter=None) == [BoxTransform()] * 4
    assert torch.equal(fresh.get_state(), torch.Generator().manual_seed(5).get_state())
    first, second = (
        sample_transforms(64, torch.Generator().manual_seed(5), flip=True, jitter=each) for each in (None, jitter)
    )
    assert [each.flip for each in first] == [each.flip for each in second]
    assert 16 < sum(each.flip for each in first) < 48
    placed = [each.placement for each in second if each.placement is not None]
    assert len({each.scale for each in placed}) == 64
    assert all(0.5 <= each.scale <= 2.0 for each in placed)
    assert min(each.scale for each in placed) == pytest.approx(0.5, abs=0.2)
    assert max(each.scale for each in placed) == pytest.approx(2.0, abs=0.2)
