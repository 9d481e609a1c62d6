"""Images of a data set drawn: each with its boxes, or a sheet per split with a row of some of each class."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from nascli.data.audit.inventory import Inventory, LabeledImage, LabeledSplit
from nascli.data.detection.dataset import open_annotated_image
from nascli.data.images.decoding import decode_image
from nascli.data.images.saving import save_image
from nascli.detect.visualize import draw_boxes, draw_ground_truth, fit_text, ground_truth_boxes
from nascli.errors import CorruptFileError
from nascli.files import make_folder
from nascli.text import as_file_name

_SIDE = 96
_GAP = 6
_NAMES = 180
"""Pixels of a sheet's images, of the gaps between them, and of the column of names."""
_CLASSES = 100
"""Classes on a sheet."""
_LETTERS = 14


def draw_inventory(inventory: Inventory, folder: Path, count: int) -> list[Path]:
    """Draw images of every split into a folder.

    Args:
        count: Images of each split that are drawn with their boxes, or of each class on its sheet.

    Returns:
        The files.

    Raises:
        CorruptFileError: An image with boxes is damaged.
        NascliError: The folder cannot be written.
    """
    drawn: list[Path] = []
    make_folder(folder)
    for split in inventory.splits:
        if split.boxes:
            drawn += draw_ground_truth(split.boxes, folder, count)
        elif split.images:
            drawn.append(folder / f"{as_file_name(split.name)}.png")
            save_image(_draw_sheet(split, inventory.class_names, count), drawn[-1])
    return drawn


def draw_example(image: LabeledImage, class_names: Sequence[str], side: int, only: Sequence[int] = ()) -> Image.Image:
    """An image no larger than `side` pixels, with its boxes, or those at positions `only`; gray if it is damaged."""
    try:
        if image.annotated is None:
            return _fit_within(decode_image(image.source, max_megapixels=image.max_megapixels), side)
        opened = open_annotated_image(image.annotated)
    except CorruptFileError:
        return Image.new("RGB", (side, side), "gray")
    boxes = ground_truth_boxes(image.annotated)
    drawn = draw_boxes(opened, [boxes[place] for place in only] if only else boxes, class_names)
    return _fit_within(drawn, side)


def _fit_within(image: Image.Image, side: int) -> Image.Image:
    """The image with a longer side of `side` pixels; of a very long one at least a pixel of the shorter is left."""
    width, height = (max(1, round(each * side / max(image.size))) for each in image.size)
    return image.resize((width, height))


def choose_by_class(split: LabeledSplit, count: int) -> dict[str, list[LabeledImage]]:
    """Up to `count` images of each class, from all over the split."""
    by_class: dict[str, list[LabeledImage]] = {}
    for image in split.images:
        for name in dict.fromkeys(image.classes):
            by_class.setdefault(name, []).append(image)
    return {name: found[:: max(1, len(found) // count)][:count] for name, found in sorted(by_class.items())}


def _draw_sheet(split: LabeledSplit, class_names: Sequence[str], count: int) -> Image.Image:
    rows = list(choose_by_class(split, count).items())[:_CLASSES]
    columns = max(len(images) for _, images in rows)
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (_NAMES + columns * step, len(rows) * step + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows):
        top = row * step + _GAP
        text, font = fit_text(name, "", _LETTERS, _NAMES - 2 * _GAP)
        pen.text((_GAP, top + _SIDE // 2), text, "black", font, anchor="lm")
        for column, image in enumerate(images):
            small = draw_example(image, class_names, _SIDE)
            left = _NAMES + column * step + (_SIDE - small.width) // 2
            sheet.paste(small, (left, top + (_SIDE - small.height) // 2))
    return sheet
