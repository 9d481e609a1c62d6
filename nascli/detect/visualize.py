"""Boxes drawn on images: one color per class, labels that can be read and are never cut off, at any size.

`draw_boxes` draws on one image; `draw_ground_truth`, `draw_augmented` and `draw_detections` on the first images of a
split, as PNG files.
"""

import bisect
import colorsys
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, open_annotated_image, training_target
from nascli.data.detection.transforms import BoxTransform
from nascli.data.images.saving import save_image
from nascli.detect.coco_eval import Detection, group_by_image
from nascli.files import make_folder, make_inner_folder
from nascli.fonts import fit_texts
from nascli.text import as_file_name
from nascli.units import shorten

Color = tuple[int, int, int]
Corners = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont

MIN_DRAWN_SCORE = 0.5
"""Lowest score of a box that is drawn, unless the user gives another."""

MIN_SIDE = 400
"""An image whose shorter side has fewer pixels is enlarged before drawing, so that a label fits on it."""

MAX_ENLARGED = 1600
"""Pixels of the longer side that enlarging does not exceed."""

GROUND_TRUTH_IMAGES = 12
"""Default number of images that are drawn with their own boxes."""

MAX_NAME = 60
"""Letters of a class on a box; longer names are cut."""

MAX_LABELS = 300
"""Boxes of an image, those of the highest scores, that have a label; where there are more, nobody could read them."""

_DETECTION_IMAGES = 6
_GOLDEN_RATIO = 0.618034
_TONES = ((0.92, 0.95), (0.62, 1.0), (1.0, 0.62))  # saturation and brightness, used in turn


@dataclass(frozen=True)
class LabeledBox:
    """A box to draw.

    Args:
        corners: x1, y1, x2, y2 in pixels of the image.
        label: 1 to K.
        score: 0 to 1; None is not written.
        remark: Written behind class and score.
    """

    corners: Corners
    label: int
    score: float | None = None
    remark: str = ""

    @classmethod
    def of(cls, bbox: Sequence[float], label: int, score: float | None = None, remark: str = "") -> "LabeledBox":
        """From a bbox x, y, width, height in pixels."""
        x, y, width, height = bbox
        return cls((x, y, x + width, y + height), label, score, remark)

    def text(self, class_names: Sequence[str]) -> str:
        """Class, score and remark, as they are written on the box."""
        return class_names[self.label - 1] + self.ending

    @property
    def ending(self) -> str:
        """Score and remark, which follow the class."""
        score = "" if self.score is None else f" {self.score:.2f}"
        return score + (f", {self.remark}" if self.remark else "")


def draw_ground_truth(split: DetectionSplit, folder: Path, count: int) -> list[Path]:
    """Draw the first `count` images with their own boxes as `<split>-<image id>.png`; crowds are marked as such.

    Raises:
        CorruptFileError: An image is damaged.
    """
    drawings = (
        (f"{as_file_name(split.name)}-{image.id:06d}.png", open_annotated_image(image), ground_truth_boxes(image))
        for image in split.images[:count]
    )
    return _save_drawings(drawings, split, folder)


def draw_augmented(split: DetectionSplit, transforms: Sequence[BoxTransform], folder: Path) -> list[Path]:
    """Draw the first images as training augments them, with the boxes that are then learned.

    The files are `<split>-<image id>-augmented.png`.

    Raises:
        CorruptFileError: An image is damaged.
    """

    def augment(image: AnnotatedImage, transform: BoxTransform) -> tuple[str, Image.Image, list[LabeledBox]]:
        augmented, target = transform(open_annotated_image(image), training_target(image))
        corners, labels = target["boxes"].tolist(), target["labels"].tolist()
        boxes = [LabeledBox((x1, y1, x2, y2), label) for (x1, y1, x2, y2), label in zip(corners, labels, strict=True)]
        return f"{as_file_name(split.name)}-{image.id:06d}-augmented.png", augmented, boxes

    return _save_drawings(map(augment, split.images, transforms), split, folder)


def draw_detections(split: DetectionSplit, detections: Sequence[Detection], folder: Path) -> None:
    """Draw the first images with what was detected on them as `<image id>.png`."""
    make_inner_folder(folder)
    by_image, labels = group_by_image(detections, MIN_DRAWN_SCORE), split.labels_by_id
    drawings = (
        (f"{image.id:06d}.png", open_annotated_image(image), detection_boxes(by_image.get(image.id, []), labels))
        for image in split.images[:_DETECTION_IMAGES]
    )
    _save_drawings(drawings, split, folder)


def _save_drawings(
    drawings: Iterable[tuple[str, Image.Image, list[LabeledBox]]], split: DetectionSplit, folder: Path
) -> list[Path]:
    """Draw boxes on images and save them under their names."""
    make_folder(folder)
    files: list[Path] = []
    for name, image, boxes in drawings:
        files.append(folder / name)
        save_image(draw_boxes(image, boxes, split.class_names), files[-1])
    return files


def ground_truth_boxes(image: AnnotatedImage, remarks: Iterable[str] = ()) -> list[LabeledBox]:
    """An image's own boxes: crowds with that remark, the others with the given remarks in turn."""
    others = iter(remarks)
    annotations = zip(image.boxes.tolist(), image.labels.tolist(), image.crowd.tolist(), strict=True)
    return [
        LabeledBox.of(bbox, label, remark="crowd" if crowd else next(others, "")) for bbox, label, crowd in annotations
    ]


def detection_boxes(
    detections: Sequence[Detection], labels: Mapping[int, int], remarks: Iterable[str] = ()
) -> list[LabeledBox]:
    """Detections with the remarks in turn; `labels` are those of category ids."""
    words = iter(remarks)
    return [
        LabeledBox.of(each["bbox"], labels[each["category_id"]], each["score"], next(words, "")) for each in detections
    ]


def draw_boxes(image: Image.Image, boxes: Sequence[LabeledBox], class_names: Sequence[str]) -> Image.Image:
    """A copy of an RGB image with boxes and labels on it; small images are enlarged by a whole factor first.

    Line width and letters grow with the image. Where labels would cover each other, the box with the higher score
    keeps the better place, and its lines are on top. Beyond `MAX_LABELS` boxes have none.

    Args:
        boxes: The order does not matter.
        class_names: The names of labels 1 to K.
    """
    factor = compute_enlargement(image.size)
    size = (image.width * factor, image.height * factor)
    drawing = image.resize(size, Image.Resampling.BICUBIC) if factor > 1 else image.copy()
    pen = ImageDraw.Draw(drawing)
    side = min(size)
    line = max(2, round(side / 220))
    ranked = sorted(boxes, key=lambda box: 1.0 if box.score is None else box.score)
    for box in ranked:
        corners = _clip(box.corners, factor, size)
        # a thin dark rim keeps the line visible on ground of its own color
        pen.rectangle(_grow(corners, 1), outline="black", width=line + 2)
        pen.rectangle(corners, outline=class_color(box.label), width=line)
    occupied: list[Corners] = []
    for box in ranked[: -MAX_LABELS - 1 : -1]:
        text, ground = (class_names[box.label - 1], box.ending), class_color(box.label)
        occupied.append(_draw_label(pen, text, ground, _clip(box.corners, factor, size), size=size, occupied=occupied))
    return drawing


def tile_panels(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Images of one size, each with a caption above it: in a row, or in a column where they are wider than high."""
    width, height = panels[0][1].size
    side = min(width, height)
    gap = max(4, side // 60)
    strip = round(1.8 * max(11, side / 32))  # for the caption
    right, down = (width + gap, 0) if width <= 1.2 * height else (0, height + strip + gap)
    last = len(panels) - 1
    sheet = Image.new("RGB", (width + last * right, height + strip + last * down), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (text, image) in enumerate(panels):
        x, y = place * right, place * down
        caption, font = fit_text(text, "", _letter_size(side), width - 2 * gap)
        pen.text((x + gap, y + strip / 2), caption, "black", font, anchor="lm")
        sheet.paste(image, (x, y + strip))
    return sheet


def compute_enlargement(size: tuple[int, int]) -> int:
    """The whole factor by which an image is enlarged before drawing, at least 1."""
    return max(1, min(-(-MIN_SIDE // min(size)), MAX_ENLARGED // max(size)))


def class_color(label: int) -> Color:
    """The color of a class: hues in steps of the golden ratio, so that neighbors in the list differ most."""
    saturation, brightness = _TONES[label % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, saturation, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(ground: Color) -> str:
    """Black or white, whichever stands out more from a ground, by its relative luminance (ITU-R BT.709)."""
    red, green, blue = ((value / 255) ** 2.2 for value in ground)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _letter_size(side: int) -> int:
    """The size of letters on an image whose shorter side has so many pixels."""
    return max(11, round(side / 34))


@functools.lru_cache(maxsize=64)
def _load_font(path: Path, size: int) -> Font:
    return ImageFont.truetype(str(path), size)


def fit_text(name: str, ending: str, letters: int, width: float) -> tuple[str, Font]:
    """A name and what stands behind it as they can be drawn, and the font, with letters of that many pixels.

    Where both are wider than `width` pixels, the name is cut, then what stands behind it.
    """
    (name, ending), path = fit_texts([shorten(name, MAX_NAME), shorten(ending, 2 * MAX_NAME)])
    font = _load_font(path, letters)
    name = _cut_to(name, width - font.getlength(ending), font)
    return name + _cut_to(ending, width - font.getlength(name), font), font


def _cut_to(text: str, width: float, font: Font) -> str:
    """The text with an ellipsis in place of the letters at its end that would make it wider than `width` pixels."""
    if not text or font.getlength(text) <= width:
        return text
    fitting = bisect.bisect(range(len(text)), width, key=lambda count: font.getlength(text[:count] + "…"))
    return text[: max(0, fitting - 1)] + "…"


def _draw_label(
    pen: ImageDraw.ImageDraw,
    text: tuple[str, str],
    ground: Color,
    corners: Corners,
    *,
    size: tuple[int, int],
    occupied: Sequence[Corners],
) -> Corners:
    """Write the label of a box where there is room; returns the rectangle it occupies."""
    letters = _letter_size(min(size))
    pad = max(2, letters // 5)
    line, font = fit_text(*text, letters, size[0] - 2 * pad)
    # the letters' own height differs from word to word; one height for all labels looks calmer
    _, high, _, low = pen.textbbox((0, 0), "ÅAg0|", font=font)
    left, _, right, _ = pen.textbbox((0, 0), line, font=font)
    place = _choose_place(corners, (right - left + 2 * pad, low - high + 2 * pad), size, occupied)
    pen.rectangle(place, fill=ground)
    pen.text((place[0] + pad - left, place[1] + pad - high), line, fill=text_color(ground), font=font)
    return place


def _choose_place(
    corners: Corners, label: tuple[float, float], size: tuple[int, int], occupied: Sequence[Corners]
) -> Corners:
    """The first place for a label that covers no other label, else the one that covers least of others.

    Candidates are above the box, inside it and below it, left and right; all lie within the image.
    """
    x1, y1, x2, y2 = corners
    width, height = label
    rows = (y1 - height, y1, y2, y2 - height)
    spots = [(x, y) for y in rows for x in (x1, x2 - width)]
    inside = [
        (min(max(x, 0), max(size[0] - 1 - width, 0)), y) for x, y in spots if y >= 0 and y + height <= size[1] - 1
    ]
    places = [(x, y, x + width, y + height) for x, y in inside] or [(0, 0, width, height)]
    return min(places, key=lambda place: sum(_common_area(place, other) for other in occupied))


def _common_area(a: Corners, b: Corners) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _clip(corners: Corners, factor: float, size: tuple[int, int]) -> Corners:
    """Corners in pixels of the enlarged image, within it, and in order."""
    x1, y1, x2, y2 = (value * factor for value in corners)
    x1, y1 = min(max(x1, 0), size[0] - 1), min(max(y1, 0), size[1] - 1)
    return x1, y1, max(x1, min(x2, size[0] - 1)), max(y1, min(y2, size[1] - 1))


def _grow(corners: Corners, by: float) -> Corners:
    x1, y1, x2, y2 = corners
    return x1 - by, y1 - by, x2 + by, y2 + by
