"""Drawn boxes: colors apart, labels readable and whole, at any size of image."""

import colorsys
import itertools

import numpy as np
import pytest
from PIL import Image

from nascli.detect.visualize import (
    LabeledBox,
    class_color,
    compute_enlargement,
    draw_boxes,
    text_color,
    tile_panels,
)

NAMES = tuple(f"class {k}" for k in range(1, 81))
SIZES = [(640, 480), (97, 61), (33, 128), (2000, 1500), (1200, 40), (8, 8)]


def luminance(color: tuple[int, int, int]) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def pixels_of(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((np.asarray(image) == np.array(color)).all(2))


def test_every_class_has_its_own_color() -> None:
    colors = [class_color(label) for label in range(1, 81)]
    assert len(set(colors)) == 80
    hues = [colorsys.rgb_to_hsv(*(v / 255 for v in color))[0] for color in colors[:6]]
    apart = [min(abs(a - b), 1 - abs(a - b)) for a, b in itertools.combinations(hues, 2)]
    assert min(apart) > 0.08, "the first classes differ clearly"


def test_text_can_be_read_on_every_ground() -> None:
    for label in range(1, 81):
        ground = luminance(class_color(label))
        text = {"black": 0.0, "white": 1.0}[text_color(class_color(label))]
        contrast = (max(ground, text) + 0.05) / (min(ground, text) + 0.05)
        assert contrast >= 4.5, "the web's rule for normal text (WCAG 2, level AA)"


@pytest.mark.parametrize("size", SIZES)
def test_any_size_is_drawn_whole(size: tuple[int, int]) -> None:
    width, height = size
    boxes = [
        LabeledBox((0, 0, width, height), 1, 0.9),
        LabeledBox((-5, -5, width + 5, height + 5), 2, 0.8),
        LabeledBox((width * 0.9, height * 0.9, width, height), 3, 0.7),
        LabeledBox((width * 0.4, height * 0.4, width * 0.4, height * 0.4), 4),
    ]
    drawn = draw_boxes(Image.new("RGB", size, "gray"), boxes, NAMES)
    factor = compute_enlargement(size)
    assert drawn.size == (width * factor, height * factor)
    for box in boxes[:3]:
        assert pixels_of(drawn, class_color(box.label)).any()


@pytest.mark.parametrize(
    "corners", [(0, 0, 30, 30), (610, 0, 640, 30), (0, 450, 30, 480), (610, 450, 640, 480), (300, 200, 320, 220)]
)
def test_labels_are_never_cut_off(corners: tuple[float, float, float, float]) -> None:
    """Wherever the box is, its label covers as many pixels as in the middle of the image."""

    def label_area(place: tuple[float, float, float, float]) -> int:
        blank = Image.new("RGB", (640, 480), "gray")
        with_label = draw_boxes(blank, [LabeledBox(place, 1, 0.88)], NAMES)
        mask = pixels_of(with_label, class_color(1))
        rows, columns = np.nonzero(mask)
        assert rows.min() >= 0
        # the label is the only filled part: rows in which many pixels have the color
        filled = mask.sum(1) > 45
        return int(filled.sum() * (columns.max() - columns.min() > 45))

    assert abs(label_area(corners) - label_area((300, 200, 320, 220))) <= 3


def test_labels_of_two_boxes_at_one_place_do_not_cover_each_other() -> None:
    boxes = [LabeledBox((200, 200, 300, 300), 1, 0.9), LabeledBox((202, 201, 301, 302), 2, 0.6)]
    drawn = draw_boxes(Image.new("RGB", (640, 480), "gray"), boxes, NAMES)
    alone = [draw_boxes(Image.new("RGB", (640, 480), "gray"), [box], NAMES) for box in boxes]
    for box, single in zip(boxes, alone, strict=True):
        color = class_color(box.label)
        assert pixels_of(drawn, color).sum() > 0.7 * pixels_of(single, color).sum()


def test_a_name_longer_than_the_image_is_shortened() -> None:
    drawn = draw_boxes(Image.new("RGB", (420, 420), "gray"), [LabeledBox((5, 50, 100, 100), 1, 0.5)], ["x" * 300])
    assert drawn.size == (420, 420)
    assert pixels_of(drawn, class_color(1))[:, -3:].any(), "the label reaches across, and ends on the image"


def test_the_image_given_is_left_as_it_is() -> None:
    blank = Image.new("RGB", (640, 480), "gray")
    draw_boxes(blank, [LabeledBox((10, 10, 50, 50), 1, 0.5)], NAMES)
    assert (np.asarray(blank) == 128).all()


def test_a_box_is_made_from_corner_and_sides() -> None:
    assert LabeledBox.of([1.0, 2.0, 3.0, 4.0], 2, 0.5) == LabeledBox((1, 2, 4, 6), 2, 0.5)


def test_what_is_written_on_a_box() -> None:
    assert LabeledBox((0, 0, 1, 1), 2).text(NAMES) == "class 2"
    assert LabeledBox((0, 0, 1, 1), 2, 0.456, "false").text(NAMES) == "class 2 0.46, false"


@pytest.mark.parametrize("size", SIZES)
def test_panels_stand_in_a_row_or_where_they_are_wide_in_a_column(size: tuple[int, int]) -> None:
    width, height = size
    sheet = tile_panels([("left", Image.new("RGB", size, "red")), ("x" * 500, Image.new("RGB", size, "blue"))])
    in_row = sheet.width >= 2 * width
    assert in_row == (width <= 1.2 * height)
    assert sheet.height > (height if in_row else 2 * height)
    for color in ((255, 0, 0), (0, 0, 255)):
        assert pixels_of(sheet, color).sum() == width * height, "no caption covers an image"
