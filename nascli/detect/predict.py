"""A trained detector on the user's own images: drawn files, and one JSON file for other tools."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from nascli.config import MAX_MEGAPIXELS
from nascli.data.detection.dataset import open_image
from nascli.data.images.decoding import image_to_tensor
from nascli.data.images.saving import save_image
from nascli.data.images.walk import FoundImages, find_images
from nascli.data.issues import IssueLog
from nascli.detect.inference import to_float, to_plain_boxes
from nascli.detect.model import DetectorSpec
from nascli.detect.visualize import LabeledBox, draw_boxes
from nascli.errors import InputError
from nascli.files import make_folder
from nascli.partial import is_temporary
from nascli.records import write_record

PREDICTIONS_FILE = "predictions.json"

_KEPT_PIXELS = 50_000_000
"""Pixels, of 4 bytes each, that are kept of decoded images."""


@dataclass(frozen=True)
class DetectedObject:
    """One detected box: `bbox` is x, y, width, height in pixels of the image itself, not of the drawn file."""

    category_id: int
    name: str
    score: float
    bbox: list[float]


@dataclass(frozen=True)
class ImageDetections:
    """One image: its file, the drawn file, its size in pixels, and the detections, best first."""

    path: Path
    drawn: Path
    width: int
    height: int
    objects: tuple[DetectedObject, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "file": str(self.path),
            "drawn": str(self.drawn),
            "width": self.width,
            "height": self.height,
            "detections": [asdict(each) for each in self.objects],
        }

    def summary(self) -> str:
        """Counts by class, for instance `person ×3, dog ×1`."""
        counts = Counter(each.name for each in self.objects)
        return ", ".join(f"{name} ×{number}" for name, number in counts.most_common())


class ImageReader:
    """Decodes images, and keeps the first ones until they are asked for a second time.

    Args:
        max_megapixels: Millions of pixels of the largest image that is decoded; None is the default.
    """

    def __init__(self, max_megapixels: int | None = None) -> None:
        self._max_megapixels = max_megapixels or MAX_MEGAPIXELS
        self._kept: dict[Path, Image.Image] = {}
        self._room = _KEPT_PIXELS

    def collect(self, paths: Sequence[Path]) -> FoundImages:
        """The image files of these files and folders, in order; each is decoded, so that no run starts in vain.

        Raises:
            InputError: A path does not exist, or a folder holds no image.
            CorruptFileError: A file is not an image, or damaged.
        """
        found = find_images(paths)
        log = IssueLog()
        for file in found.files:
            image = open_image(file, self._max_megapixels, log.note_on(file))
            self._room -= image.width * image.height
            if self._room >= 0:
                self._kept[file] = image
        return replace(found, issues=(*found.issues, *log.issues))

    def read(self, path: Path) -> Image.Image:
        """The image in a file, in RGB and upright; CorruptFileError where it is damaged by now."""
        return self._kept.pop(path, None) or open_image(path, self._max_megapixels)


def choose_output_folder(parent: Path, name: str, out: Path | None, overwrite: bool) -> Path:
    """The folder for drawn images: `out`, else the first free of `name`, `name-2`, ... in `parent`; it is not created.

    Raises:
        InputError: `out` is not empty, and `overwrite` is not set.
    """
    if out is not None:
        return check_output_folder(out, overwrite)
    names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return next(parent / each for each in names if overwrite or not os.path.exists(parent / each))


def check_output_folder(
    out: Path, overwrite: bool, hint: str = "Write into it all the same by --overwrite, or choose another --out"
) -> Path:
    """The folder itself if it is empty or absent, or `overwrite` is set; else raises InputError with the hint."""
    if os.path.isfile(out):
        raise InputError(f"{out} is a file, no folder to write into", "Name a folder", file=out)
    if os.path.isdir(out) and not overwrite and not all(is_temporary(each.name) for each in out.iterdir()):
        raise InputError(f"{out} is not empty", hint, file=out)
    return out


@torch.no_grad()
def predict_boxes(
    trained: tuple[nn.Module, DetectorSpec],
    paths: Sequence[Path],
    out: Path,
    *,
    device: torch.device,
    threshold: float,
    reader: ImageReader | None = None,
    place: Path | None = None,
) -> list[ImageDetections]:
    """Detect boxes on images, and draw them.

    Args:
        trained: Detector and spec from `load_detector`.
        paths: Files that `ImageReader.collect` found.
        out: Folder for the drawn images; created where it does not exist.
        threshold: Lowest score of a box that is kept, 0 to 1.
        reader: The one that collected the files.
        place: The folder that is going to be `out`, as from `fill_folder`, and is written to instead.

    Raises:
        NascliError: The folder cannot be written.
    """
    detector, spec = trained
    reader = reader or ImageReader()
    predictions: list[ImageDetections] = []
    names: set[str] = set()
    make_folder(place or out)
    for path in paths:
        image = reader.read(path)
        output = detector([to_float(image_to_tensor(image), device)])[0]
        boxes = [box for box in to_plain_boxes(output) if box[2] >= threshold]
        drawn = out / _choose_file_name(path, names)
        boxed = draw_boxes(image, [LabeledBox.of(*box) for box in boxes], spec.class_names)
        save_image(boxed, (place or out) / drawn.name, quality=92)
        objects = tuple(_to_object(spec, box) for box in boxes)
        predictions.append(ImageDetections(path, drawn, image.width, image.height, objects))
    return predictions


def write_predictions(predictions: Sequence[ImageDetections], out: Path, threshold: float) -> None:
    """Write `predictions.json` into an existing folder; NascliError where it cannot be written."""
    values = {"threshold": threshold, "images": [prediction.to_dict() for prediction in predictions]}
    write_record(out / PREDICTIONS_FILE, values)


def _to_object(spec: DetectorSpec, box: tuple[list[float], int, float]) -> DetectedObject:
    bbox, label, score = box
    category = spec.categories[label - 1]
    return DetectedObject(category.id, category.name, score, bbox)


def _choose_file_name(path: Path, names: set[str]) -> str:
    """The drawn file's name: JPEG stays JPEG, all else becomes PNG; equal names from two folders are numbered."""
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    candidates = (f"{path.stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in range(1, len(names) + 2))
    name = next(candidate for candidate in candidates if candidate.lower() not in names)
    names.add(name.lower())
    return name
