"""A small COCO-format folder to test with: colored rectangles on gray, one class a color."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COLORS = {3: ("red thing", (220, 40, 30)), 7: ("blue thing", (30, 60, 220))}
"""Category ids with gaps, as COCO's own have."""


def categories() -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, (name, _) in COLORS.items()]


def write_coco(folder: Path, *, train: int = 8, val: int = 4, size: int = 64, seed: int = 0, narrow: int = 0) -> Path:
    """`annotations/instances_{train,val}2017.json` and images with one or two rectangles each.

    The first `narrow` images of each split are half as wide as high, and lose a right half's rectangle.
    """
    rng = np.random.default_rng(seed)
    for split, count in (("train2017", train), ("val2017", val)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        (folder / split).mkdir(parents=True)
        for number in range(1, count + 1):
            across = size // 2 if number <= narrow else size
            drawing = Image.new("RGB", (across, size), (120, 120, 120))
            pen = ImageDraw.Draw(drawing)
            for half in range(min(int(rng.integers(1, 3)), across * 2 // size)):
                category = int(rng.choice(list(COLORS)))
                width, height = (int(side) for side in rng.integers(size // 4, size // 2 - 2, 2))
                x, y = half * size // 2, int(rng.integers(size - height))
                pen.rectangle((x, y, x + width - 1, y + height - 1), fill=COLORS[category][1])
                annotations.append(annotation(len(annotations) + 1, number, category, [x, y, width, height]))
            drawing.save(folder / split / f"{number:04d}.png")
            images.append({"id": number, "file_name": f"{number:04d}.png", "width": across, "height": size})
        write_annotations(folder, split, {"images": images, "annotations": annotations, "categories": categories()})
    return folder


def annotation(number: int, image: int, category: int, box: list[float], **more: object) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, **more}


def write_annotations(folder: Path, split: str, values: object) -> Path:
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def damage_pixels(path: Path) -> None:
    """Make a PNG one that opens, and fails only when it is decoded."""
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
