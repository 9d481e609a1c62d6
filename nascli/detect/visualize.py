"""Pictures of a split with boxes on them: the truth, what was found, and the worst images with both."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, open_annotated, training_target
from nascli.data.detection.transforms import Variation, vary
from nascli.detect.coco_eval import Detection, ImageScore
from nascli.detect.confusion import group_by_image, pair_boxes
from nascli.detect.drawing import DRAWN_SCORE, LabelledBox, beside_each_other, draw_boxes

Labels = NDArray[np.int64]

FOUND = 6
"""Pictures of a scored split that are drawn with what was found on them."""

TRUTH = 12
"""Pictures of a split that are drawn with their own boxes, unless more or fewer are asked for."""

WORST = 12
"""Images of a scored split, those with the lowest average precision, that are drawn with truth and what was found."""


def draw_truth(split: DetectionSplit, folder: Path, count: int) -> list[Path]:
    """The first `count` pictures with their own boxes as `<split>-<image id>.png`; crowds are said to be crowds.

    Raises:
        CorruptFileError: A picture is damaged.
    """
    names = [category.name for category in split.categories]
    files: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for image in split.images[:count]:
        files.append(folder / f"{split.name}-{image.id:06d}.png")
        draw_boxes(open_annotated(image), _true_boxes(image), names).save(files[-1])
    return files


def draw_varied(split: DetectionSplit, variations: Sequence[Variation], folder: Path) -> list[Path]:
    """The first pictures as a training sees them, each varied, with the boxes that it then learns from.

    The files are `<split>-<image id>-varied.png`.

    Raises:
        CorruptFileError: A picture is damaged.
    """
    names = [category.name for category in split.categories]
    files: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for image, variation in zip(split.images, variations, strict=False):
        picture, target = vary(open_annotated(image), training_target(image), variation)
        corners, labels = target["boxes"].tolist(), target["labels"].tolist()
        boxes = [LabelledBox((x1, y1, x2, y2), label) for (x1, y1, x2, y2), label in zip(corners, labels, strict=True)]
        files.append(folder / f"{split.name}-{image.id:06d}-varied.png")
        draw_boxes(picture, boxes, names).save(files[-1])
    return files


def draw_found(split: DetectionSplit, detections: Sequence[Detection], folder: Path, count: int = FOUND) -> None:
    """The first pictures with what was found on them as `<image id>.png`."""
    names = [category.name for category in split.categories]
    by_image = group_by_image(detections, DRAWN_SCORE)
    folder.mkdir(parents=True, exist_ok=True)
    for image in split.images[:count]:
        boxes = _found_boxes(by_image.get(image.id, []), _class_numbers(split))
        draw_boxes(open_annotated(image), boxes, names).save(folder / f"{image.id:06d}.png")


def worst_images(scores: Sequence[ImageScore], count: int = WORST) -> list[ImageScore]:
    """The images of the lowest average precision, the worst first; of equal ones those with more boxes."""
    return sorted(scores, key=lambda each: (each.ap, -int((~each.image.crowd).sum()), each.image.id))[:count]


def draw_worst(
    split: DetectionSplit, worst: Sequence[ImageScore], detections: Sequence[Detection], folder: Path
) -> list[Path]:
    """Each of these images twice, with its own boxes and with the found ones, as `<rank>-<image id>.png`.

    A label says what is wrong with its box: a true one was missed or found as another class, a found one is another
    class or false.
    """
    names = [category.name for category in split.categories]
    by_image = group_by_image(detections, DRAWN_SCORE)
    files: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    numbers = _class_numbers(split)
    for rank, (image, ap) in enumerate(((each.image, each.ap) for each in worst), 1):
        found = by_image.get(image.id, [])
        labels = np.array([numbers[one["category_id"]] for one in found], dtype=np.int64)
        pairs = pair_boxes(image, np.array([one["bbox"] for one in found]).reshape(-1, 4), labels)
        own = image.labels[~image.crowd]
        true = _true_boxes(image, _remarks(pairs.found, own, labels, ("missed", "found as"), names))
        remarks = _remarks(pairs.true, labels, own, ("false", "is"), names)
        remarks = ["in a crowd" if aside else each for each, aside in zip(remarks, pairs.aside.tolist(), strict=True)]
        boxes = _found_boxes(found, numbers, remarks)
        picture = open_annotated(image)
        panels = [
            (_caption("truth", true, "missed"), draw_boxes(picture, true, names)),
            (_caption(f"AP {100 * ap:.1f} %, found", boxes, "false"), draw_boxes(picture, boxes, names)),
        ]
        files.append(folder / f"{rank:02d}-{image.id:06d}.png")
        beside_each_other(panels).save(files[-1])
    return files


def _class_numbers(split: DetectionSplit) -> dict[int, int]:
    """The label of each category id, 1 to K."""
    return {category.id: label for label, category in enumerate(split.categories, 1)}


def _true_boxes(image: AnnotatedImage, remarks: Iterable[str] = ()) -> list[LabelledBox]:
    """An image's own boxes: crowds say that they are, the others take the remarks in turn."""
    others = iter(remarks)
    return [
        LabelledBox((x, y, x + width, y + height), label, remark="crowd" if crowd else next(others, ""))
        for (x, y, width, height), label, crowd in zip(
            image.boxes.tolist(), image.labels.tolist(), image.crowd.tolist(), strict=True
        )
    ]


def _found_boxes(
    found: Sequence[Detection], numbers: Mapping[int, int], remarks: Iterable[str] = ()
) -> list[LabelledBox]:
    words = iter(remarks)
    boxes: list[LabelledBox] = []
    for each in found:
        x, y, width, height = each["bbox"]
        label = numbers[each["category_id"]]
        boxes.append(LabelledBox((x, y, x + width, y + height), label, each["score"], next(words, "")))
    return boxes


def _remarks(partners: Labels, own: Labels, others: Labels, words: tuple[str, str], names: Sequence[str]) -> list[str]:
    """What is wrong with each box: no partner, or one of another class, which is named; else nothing.

    Args:
        partners: Position of each box's partner among the others, -1 for none.
        own: The boxes' labels.
        others: The others' labels.
        words: For no partner, and before the partner's class.
        names: Of the classes.
    """
    alone, mistaken = words
    remarks: list[str] = []
    for label, partner in zip(own.tolist(), partners.tolist(), strict=True):
        if partner < 0:
            remarks.append(alone)
        else:
            other = int(others[partner])
            remarks.append("" if other == label else f"{mistaken} {names[other - 1]}")
    return remarks


def _caption(what: str, boxes: Sequence[LabelledBox], remark: str) -> str:
    """For instance `truth: 5 boxes, 2 missed`."""
    marked = sum(box.remark == remark for box in boxes)
    number = f"{len(boxes)} box" + ("" if len(boxes) == 1 else "es")
    return f"{what}: {number}" + (f", {marked} {remark}" if marked else "")
