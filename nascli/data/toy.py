"""Toy data that need no network: scikit-learn's handwritten digits, and detection scenes composed of them.

A scene is a background (a gradient, stripes, soft blobs or grainy paper) with a few digits on it, each at its own size,
angle and color; the task is to find and name them. Training scenes use the training digits and validation scenes the
test digits, so no digit is in both. Written once as PNG files and COCO JSON, from a fixed seed: they are the same
everywhere.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nascli.data.dataset import split_holdout
from nascli.data.in_memory import ImageArray, resize_images
from nascli.errors import CannotWriteError, InputError
from nascli.files import make_whole_folder, write_text
from nascli.text_files import read_json

Pixels = NDArray[np.float64]
Box = tuple[int, int, int, int]

_DIGITS_SIDE = 16
_DIGITS_TEST = 0.2
_DIGITS_SEED = 0
_INK_EDGE = 0.35
"""Opacity above which a pixel counts as ink when a digit's box is drawn around it."""
_PLACING_TRIES = 30


def load_digits() -> tuple[ImageArray, ImageArray]:
    """Load the training and test split of 1,797 digits of 8x8 pixels, enlarged so that three stages have room.

    A fifth of every class, always the same images, is the test split.
    """
    from sklearn import datasets

    raw = datasets.load_digits()
    gray = torch.from_numpy(raw.images).float().unsqueeze(1) * (255 / 16)  # (N, 1, 8, 8), from 0 to 16 to bytes
    images = resize_images(gray, _DIGITS_SIDE).expand(-1, 3, -1, -1).contiguous()  # (N, 3, 16, 16)
    return split_holdout(ImageArray(images, torch.from_numpy(raw.target).long()), _DIGITS_TEST, _DIGITS_SEED)


@dataclass(frozen=True)
class SceneConfig:
    """The numbers of the scenes. Two folders of equal `SceneConfig` hold the same scenes.

    Args:
        image_size: Height and width of a scene in pixels.
        train: Number of training scenes.
        val: Number of validation scenes.
        digits: Fewest and most per scene.
        side: Smallest and largest height of a digit in pixels.
        max_overlap: Fraction of the smaller of two boxes that may lie in the other.
        version: Of the drawing code; raised when the same numbers give other images.
    """

    image_size: int = 96
    train: int = 400
    val: int = 100
    digits: tuple[int, int] = (2, 5)
    side: tuple[int, int] = (16, 40)
    max_overlap: float = 0.05
    seed: int = 0
    version: int = 1


def write_scenes(folder: Path, config: SceneConfig | None = None) -> Path:
    """Write the scenes to `folder` unless they are there already; whole or not at all.

    Args:
        folder: Gets `annotations/instances_{train,val}.json`, `train/` and `val/`.
        config: None is the data set `digit-scenes`.

    Raises:
        InputError: The folder holds something else, for instance scenes of another version.
        NascliError: It cannot be written.
    """
    config = config or SceneConfig()
    if folder.exists():
        _check_written(folder, config)
        return folder
    counts = (("train", config.train), ("val", config.val))
    try:
        with make_whole_folder(folder) as temporary:
            for (split, count), digits in zip(counts, load_digits(), strict=True):
                _write_split(temporary, split, digits, count, config)
    except CannotWriteError as error:
        if not folder.exists():
            raise error.reword(error.message, f"{error.hint}; or choose another --data-dir") from error
        _check_written(folder, config)  # another process was faster: use its scenes
    return folder


def compose_scene(
    glyphs: NDArray[np.uint8], config: SceneConfig, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[tuple[int, Box]]]:
    """Compose a scene of glyphs (G, h, w) whose ink is bright.

    Returns:
        The image, (H, W, 3), and for each digit on it the number of its glyph and the box (x, y, width, height)
        around its ink.
    """
    size = config.image_size
    canvas = _paint_background(size, rng)
    placed: list[tuple[int, Box]] = []
    for _ in range(int(rng.integers(config.digits[0], config.digits[1] + 1))):
        number = int(rng.integers(len(glyphs)))
        side = int(rng.integers(config.side[0], config.side[1] + 1))
        ink = _make_ink(glyphs[number], side, rng.uniform(-15, 15))
        position = _find_free_position(ink.shape, size, [box for _, box in placed], config.max_overlap, rng)
        if position is not None:
            _paint_digit(canvas, ink, position, rng)
            placed.append((number, (*position, ink.shape[1], ink.shape[0])))
    canvas += rng.normal(0, 0.012, canvas.shape)  # the grain of a sensor
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8), placed


def _write_split(folder: Path, split: str, digits: ImageArray, count: int, config: SceneConfig) -> None:
    glyphs, values = digits.images[:, 0].numpy(), digits.labels.tolist()
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        rng = np.random.default_rng((config.seed, 0 if split == "train" else 1, number))
        pixels, placed = compose_scene(glyphs, config, rng)
        name = f"{number:06d}.png"
        Image.fromarray(pixels).save(folder / split / name)
        images.append({"id": number, "file_name": name, "width": config.image_size, "height": config.image_size})
        for glyph, box in placed:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": values[glyph] + 1}
            annotations.append({**entry, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0})
    (folder / "annotations").mkdir(exist_ok=True)
    content = {
        "info": {"description": "Scenes composed of the handwritten digits of scikit-learn", "scenes": asdict(config)},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
    }
    write_text(folder / "annotations" / f"instances_{split}.json", json.dumps(content))


def _check_written(folder: Path, config: SceneConfig) -> None:
    file = folder / "annotations" / "instances_val.json"
    info = read_json(file).get("info") if file.is_file() else None
    expected = json.loads(json.dumps(asdict(config)))
    if not isinstance(info, dict) or info.get("scenes") != expected:
        raise InputError(
            f"{folder} does not hold these digit scenes (another version wrote it, or something else is there)",
            "Move it away, and they are written again; or choose another --data-dir",
        )


def _make_ink(glyph: NDArray[np.uint8], side: int, angle: float) -> Pixels:
    """A digit's opacity (h, w) in [0, 1], cut to its ink, `side` pixels high before it is turned by `angle` degrees."""
    rows, columns = np.nonzero(glyph > 64)
    tight = glyph[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = side / tight.shape[0]
    small = Image.fromarray(np.pad(tight, 2))
    large = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    turned = large.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    opacity: Pixels = ((np.asarray(turned) / tight.max() - 0.4) / 0.35).clip(0, 1)  # steep: a pen's line, not a blur
    rows, columns = np.nonzero(opacity > _INK_EDGE)
    return opacity[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _find_free_position(
    shape: tuple[int, ...], size: int, taken: list[Box], max_overlap: float, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a free place for a box of that shape, or None where all tries found none."""
    height, width = shape
    if height >= size or width >= size:
        return None
    for _ in range(_PLACING_TRIES):
        x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        if all(_overlap((x, y, width, height), box) <= max_overlap for box in taken):
            return x, y
    return None


def _overlap(a: Box, b: Box) -> float:
    """The common area of two boxes as a fraction of the smaller."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def _paint_digit(canvas: Pixels, ink: Pixels, position: tuple[int, int], rng: np.random.Generator) -> None:
    """Paint a digit, light on dark ground or dark on light, sometimes with a shadow."""
    (x, y), (height, width) = position, ink.shape
    under = canvas[y : y + height, x : x + width]
    color = _random_color(
        rng, rng.uniform(0.8, 1.0) if under.mean() < 0.5 else rng.uniform(0.0, 0.22), rng.uniform(0.0, 0.75)
    )
    if rng.random() < 0.4:
        mask = Image.new("L", (canvas.shape[1], canvas.shape[0]))
        mask.paste(Image.fromarray((ink * 255).astype(np.uint8)), (x + 1, y + 1))
        shadow = np.asarray(mask.filter(ImageFilter.GaussianBlur(1.2))) / 255
        canvas *= 1 - 0.35 * shadow[..., None]
    opacity = ink[..., None] * rng.uniform(0.85, 1.0)
    canvas[y : y + height, x : x + width] = under * (1 - opacity) + color * opacity


def _paint_background(size: int, rng: np.random.Generator) -> Pixels:
    """(size, size, 3) in [0, 1]: one of four kinds, dark or light but never in between, so that ink can stand out."""
    level = rng.uniform(0.08, 0.3) if rng.random() < 0.5 else rng.uniform(0.68, 0.92)
    first = _random_color(rng, level, rng.uniform(0.1, 0.6))
    second = _random_color(rng, level + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.6))
    mix = _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))](size, rng)[..., None]
    return np.asarray(first * (1 - mix) + second * mix)


def _gradient(size: int, rng: np.random.Generator) -> Pixels:
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1)
    angle = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    return np.asarray((along - along.min()) / (along.max() - along.min()))


def _stripes(size: int, rng: np.random.Generator) -> Pixels:
    wave = np.sin(_gradient(size, rng) * 2 * np.pi * rng.uniform(2, 9))
    return np.asarray((wave * rng.uniform(1, 4) + 0.5).clip(0, 1))


def _blobs(size: int, rng: np.random.Generator) -> Pixels:
    coarse = Image.fromarray((rng.random((5, 5)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) / 255


def _paper(size: int, rng: np.random.Generator) -> Pixels:
    fine = Image.fromarray((rng.random((size, size)) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(0.5 * np.asarray(fine) / 255 + 0.5 * _blobs(size, rng))


_BACKGROUNDS: tuple[Callable[[int, np.random.Generator], Pixels], ...] = (_gradient, _stripes, _blobs, _paper)


def _random_color(rng: np.random.Generator, level: float, saturation: float) -> Pixels:
    """A color (3,) in [0, 1] of any hue whose mean is about `level`."""
    hue = rng.uniform(0, 2 * np.pi)
    tint = np.cos(hue - np.array([0, 2, 4]) * np.pi / 3) * saturation * min(level, 1 - level, 0.25)
    return np.asarray((level + tint).clip(0, 1))
