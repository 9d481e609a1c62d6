"""Small data sets of the kinds that people bring, to be changed by each test; and networks trained on them."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = "--cell nasnet-a --filters 4 --cells-per-stage 1 --epochs 1 --device cpu --set train.threads=1"
TRAIN = f"train {TINY} --batch-size 4 --set data.workers=0"
DETECT = (
    f"detect train {TINY} --batch-size 2 --set train.warmup_steps=1 --set detector.freeze_batch_norm=false "
    "--set detector.min_size=64 --set detector.max_size=64 --set detector.rpn_post_nms_top_n=20 "
    "--set detector.box_batch_size_per_image=16 --set detector.pyramid_channels=8 --set detector.head_channels=16"
)
"""Commands that train for a moment; a data set has to follow."""

TINTS = ((220, 30, 30), (30, 200, 30), (30, 30, 220))
Lists = dict[str, list[dict[str, Any]]]


def draw_noise(seed: int, label: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A picture of a class: noise below the tint of its label; `size` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 64, (size[1], size[0], 3))
    return Image.fromarray((noise + np.array(TINTS[label % 3]) * 3 // 4).astype(np.uint8))


def write_classes(
    folder: Path, classes: Sequence[str] = ("cat", "dog"), val: str = "val", counts: tuple[int, int] = (6, 3)
) -> Path:
    """`train/<class>/*.png` and `<val>/<class>/*.png`, `counts` of them per class, 32 pixels each."""
    for split, count in zip(("train", val), counts, strict=True):
        for label, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True)
            for k in range(count):
                draw_noise(1000 * (split == "train") + 100 * label + k, label).save(place / f"{k:03d}.png")
    return folder


def write_coco(
    folder: Path,
    change: Callable[[str, Lists, Path], None] | None = None,
    *,
    names: Sequence[str] = ("cat", "dog"),
    boxes: int = 2,
    side: int = 64,
) -> Path:
    """`annotations/instances_{train,val}2017.json`, 4 images in `train2017/`, 2 in `val2017/`: tinted squares on gray.

    Args:
        change: Called with the split, its three lists, and the folder of its images, before the file is written.
    """
    rng = np.random.default_rng(5)
    number = 0
    for split, count, first in (("train", 4, 1), ("val", 2, 101)):
        place = folder / f"{split}2017"
        place.mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for k in range(count):
            pixels = np.full((side, side, 3), 120, np.uint8)
            for b in range(boxes):
                label, length = (k + b) % len(names), side // 3
                x, y = (int(each) for each in rng.integers(0, side - length, 2))
                pixels[y : y + length, x : x + length] = TINTS[label % 3]
                number += 1
                box = {"bbox": [x, y, length, length], "area": length * length, "iscrowd": 0}
                annotations.append({"id": number, "image_id": first + k, "category_id": label + 1, **box})
            file = f"{first + k:06d}.png"
            Image.fromarray(pixels).save(place / file)
            images.append({"id": first + k, "file_name": file, "width": side, "height": side})
        categories = [{"id": label, "name": name, "supercategory": ""} for label, name in enumerate(names, 1)]
        lists: Lists = {"images": images, "annotations": annotations, "categories": categories}
        if change:
            change(split, lists, place)
        write_json(folder / "annotations" / f"instances_{split}2017.json", lists)
    return folder


def write_perfect_results(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Path:
    """`results.json` of a folder of `write_coco`: the validation boxes themselves with score 0.9, each changed."""
    truth = json.loads((folder / "annotations" / "instances_val2017.json").read_text(encoding="utf-8"))
    keys = ("image_id", "category_id", "bbox")
    found = [change({**{key: each[key] for key in keys}, "score": 0.9}) for each in truth["annotations"]]
    return write_json(folder / "results.json", found)


def write_json(path: Path, values: object) -> Path:
    """JSON in UTF-8, letters as they are; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def quote(path: object) -> str:
    """Fit for a command line of the tests."""
    return shlex.quote(str(path))
