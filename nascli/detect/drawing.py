"""Found boxes drawn on pictures: one colour a class, labels that can be read and are never cut off, at any size."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DRAWN_SCORE = 0.5
"""Least score of a box that is drawn, unless the person gives another."""

LEAST_SIDE = 400
"""A picture whose shorter side has fewer pixels is enlarged before drawing, so that a label fits on it."""

LARGEST_ENLARGED = 1600
"""Pixels of the longer side that enlarging does not exceed."""

_GOLDEN_RATIO = 0.618034
_TONES = ((0.92, 0.95), (0.62, 1.0), (1.0, 0.62))  # saturation and brightness, taken in turn


@dataclass(frozen=True)
class LabelledBox:
    """A box to draw.

    Args:
        corners: x1, y1, x2, y2 in pixels of the picture.
        label: 1 to K.
        score: In [0, 1]; None is not written.
        remark: Written behind class and score.
    """

    corners: Corners
    label: int
    score: float | None = None
    remark: str = ""

    def text(self, class_names: Sequence[str]) -> str:
        """What is written on it."""
        score = "" if self.score is None else f" {self.score:.2f}"
        return class_names[self.label - 1] + score + (f", {self.remark}" if self.remark else "")


def draw_boxes(picture: Image.Image, boxes: Sequence[LabelledBox], class_names: Sequence[str]) -> Image.Image:
    """A copy of a picture with boxes and labels on it; small pictures are enlarged by a whole factor first.

    Line width and letters grow with the picture. Where labels would cover each other, the box with the higher score
    keeps the better place.

    Args:
        picture: RGB, any size.
        boxes: In any order; the highest score comes to lie on top.
        class_names: Name k is that of label k + 1.
    """
    factor = enlargement(picture.size)
    size = (picture.width * factor, picture.height * factor)
    drawn = picture.resize(size, Image.Resampling.BICUBIC) if factor > 1 else picture.copy()
    pen = ImageDraw.Draw(drawn)
    side = min(size)
    line = max(2, round(side / 220))
    ranked = sorted(boxes, key=lambda box: 1.0 if box.score is None else box.score)
    for box in ranked:
        corners = _on_canvas(box.corners, factor, size)
        # a thin dark rim keeps the line visible on ground of its own colour
        pen.rectangle(_grown(corners, 1), outline="black", width=line + 2)
        pen.rectangle(corners, outline=class_colour(box.label), width=line)
    font = _font(side)
    taken: list[Corners] = []
    for box in reversed(ranked):
        taken.append(_draw_label(pen, box, _on_canvas(box.corners, factor, size), class_names, (font, size, taken)))
    return drawn


def boxes_to_draw(found: Sequence[tuple[Sequence[float], int, float]], threshold: float) -> list[LabelledBox]:
    """Of found boxes (x, y, width, height; label; score), those with at least that score."""
    return [
        LabelledBox((x, y, x + width, y + height), label, score)
        for (x, y, width, height), label, score in found
        if score >= threshold
    ]


def beside_each_other(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size, each with a caption above it: in a row, or in a column where they are wider than high."""
    width, height = panels[0][1].size
    side = min(width, height)
    font, gap = _font(side), max(4, side // 60)
    strip = round(1.8 * max(11, side / 32))  # for the caption
    right, down = (width + gap, 0) if width <= 1.2 * height else (0, height + strip + gap)
    last = len(panels) - 1
    sheet = Image.new("RGB", (width + last * right, height + strip + last * down), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (text, picture) in enumerate(panels):
        x, y = place * right, place * down
        pen.text((x + gap, y + strip / 2), _fitted(pen, text, font, width - 2 * gap), "black", font, anchor="lm")
        sheet.paste(picture, (x, y + strip))
    return sheet


def enlargement(size: tuple[int, int]) -> int:
    """The whole factor by which a picture is enlarged before drawing; 1 leaves it as it is."""
    return max(1, min(-(-LEAST_SIDE // min(size)), LARGEST_ENLARGED // max(size)))


def class_colour(label: int) -> Colour:
    """The colour of a class: hues in steps of the golden ratio, so that neighbours in the list differ most."""
    saturation, brightness = _TONES[label % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, saturation, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(ground: Colour) -> str:
    """Black or white, whichever stands out more from a ground, by its relative luminance (ITU-R BT.709)."""
    red, green, blue = ((value / 255) ** 2.2 for value in ground)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _font(side: int) -> Font:
    """Letters for a picture whose shorter side has so many pixels."""
    return ImageFont.load_default(max(11, round(side / 32)))


def _fitted(pen: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """The text, cut where it is wider than that many pixels."""
    while len(text) > 1 and pen.textlength(text, font=font) > width:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    return text


def _draw_label(
    pen: ImageDraw.ImageDraw,
    box: LabelledBox,
    corners: Corners,
    class_names: Sequence[str],
    room: tuple[Font, tuple[int, int], Sequence[Corners]],
) -> Corners:
    """Write a box's label where there is room; returns the place it took."""
    font, size, taken = room
    # the letters' own height differs from word to word; one height for all labels looks calmer
    _, high, _, low = pen.textbbox((0, 0), "Ag0|", font=font)
    pad = max(2, round((low - high) / 5))
    text = _fitted(pen, box.text(class_names), font, size[0] - 2 * pad)
    left, _, right, _ = pen.textbbox((0, 0), text, font=font)
    place = _place(corners, (right - left + 2 * pad, low - high + 2 * pad), size, taken)
    ground = class_colour(box.label)
    pen.rectangle(place, fill=ground)
    pen.text((place[0] + pad - left, place[1] + pad - high), text, fill=text_colour(ground), font=font)
    return place


def _place(corners: Corners, label: tuple[float, float], size: tuple[int, int], taken: Sequence[Corners]) -> Corners:
    """The first of the places for a label that covers no other label, else the one that covers least of others.

    They are above the box, inside it and below it, left and right; none is off the picture.
    """
    x1, y1, x2, y2 = corners
    width, height = label
    rows = (y1 - height, y1, y2, y2 - height)
    spots = [(x, y) for y in rows for x in (x1, x2 - width)]
    inside = [
        (min(max(x, 0), max(size[0] - 1 - width, 0)), y) for x, y in spots if y >= 0 and y + height <= size[1] - 1
    ]
    places = [(x, y, x + width, y + height) for x, y in inside] or [(0, 0, width, height)]
    return min(places, key=lambda place: sum(_common(place, other) for other in taken))


def _common(a: Corners, b: Corners) -> float:
    """The area that two rectangles share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _on_canvas(corners: Corners, factor: int, size: tuple[int, int]) -> Corners:
    """Corners in the drawn picture's pixels, on it, and in order."""
    x1, y1, x2, y2 = (value * factor for value in corners)
    x1, y1 = min(max(x1, 0), size[0] - 1), min(max(y1, 0), size[1] - 1)
    return x1, y1, max(x1, min(x2, size[0] - 1)), max(y1, min(y2, size[1] - 1))


def _grown(corners: Corners, by: float) -> Corners:
    x1, y1, x2, y2 = corners
    return x1 - by, y1 - by, x2 + by, y2 + by
