"""Detection data in the formats of other tools: the same images and boxes each time, to be changed by each test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.front_door.made import TINTS

SIZE = (64, 48)
BOXES = {"train": [(0, (8, 6, 24, 30)), (1, (32, 10, 56, 40))], "val": [(1, (4, 4, 36, 28))]}
"""Class and corners of the boxes of each image of a split."""
COUNTS = {"train": 3, "val": 2}
NAMES = ("cat", "dog")


def draw_boxes(file: Path, split: str, number: int) -> str:
    """An image of a split, with its boxes tinted; returns the stem of its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number + 100 * (split == "val")).integers(90, 150, (SIZE[1], SIZE[0], 3), np.uint8)
    for label, (x1, y1, x2, y2) in BOXES[split]:
        pixels[y1:y2, x1:x2] = TINTS[label]
    Image.fromarray(pixels).save(file)
    return file.stem


def write_yolo(folder: Path, names: Sequence[str] = NAMES, service: bool = True) -> Path:
    """A web service's export: `train/images`, `train/labels`, `valid/...`, and a data.yaml that names them one up.

    Args:
        service: False is the usual layout: `images/train`, `labels/train`, named as they lie.
    """
    lines = []
    for split, place in (("train", "train"), ("val", "valid" if service else "val")):
        images, labels = (
            folder / (f"{place}/{kind}" if service else f"{kind}/{place}") for kind in ("images", "labels")
        )
        labels.mkdir(parents=True)
        for number in range(COUNTS[split]):
            stem = draw_boxes(images / f"{place}-{number}.jpg", split, number)
            (labels / f"{stem}.txt").write_text("\n".join(map(yolo_line, BOXES[split])) + "\n")
        lines.append(f"{split}: {'../' if service else ''}{images.relative_to(folder).as_posix()}")
    (folder / "data.yaml").write_text("\n".join([*lines, f"nc: {len(names)}", f"names: [{', '.join(names)}]"]) + "\n")
    return folder


def yolo_line(box: tuple[int, tuple[int, int, int, int]]) -> str:
    """The line of a box: class, center and sides in fractions."""
    label, (x1, y1, x2, y2) = box
    center, sides = ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)
    return " ".join([str(label), *(f"{value / SIZE[k % 2]:.6f}" for k, value in enumerate((*center, *sides)))])


def write_voc(folder: Path) -> Path:
    """`Annotations/*.xml`, `JPEGImages/` and `ImageSets/Main/{train,val}.txt`, with pixels counted from 1."""
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, count in COUNTS.items():
        stems = [draw_boxes(folder / "JPEGImages" / f"{split}_{k}.jpg", split, k) for k in range(count)]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            (folder / "Annotations" / f"{stem}.xml").write_text(voc_text(f"{stem}.jpg", split))
    return folder


def voc_text(file_name: str, split: str) -> str:
    """The XML of an image of a split."""
    objects = "".join(
        f"<object><name>{NAMES[label]}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in BOXES[split]
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{file_name}</filename>{size}{objects}</annotation>"


def write_csv(folder: Path, head: str = "filename,width,height,class,xmin,ymin,xmax,ymax,split") -> Path:
    """`boxes.csv` beside `images/`, with a column of splits; returns the file."""
    rows = [head]
    for split, count in COUNTS.items():
        for number in range(count):
            name = f"{draw_boxes(folder / 'images' / f'{split}_{number}.jpg', split, number)}.jpg"
            rows += [
                ",".join(map(str, (name, *SIZE, NAMES[label], *corners, split))) for label, corners in BOXES[split]
            ]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"
