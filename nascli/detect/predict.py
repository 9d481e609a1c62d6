"""A trained detector on a person's own pictures: drawn files, and one JSON file for other tools."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nascli.classify.predict import find_pictures
from nascli.data.detection.dataset import open_picture, picture_tensor
from nascli.detect.drawing import boxes_to_draw, draw_boxes
from nascli.detect.inference import plain_boxes, to_numbers
from nascli.detect.model import DetectorSpec
from nascli.errors import InputError
from nascli.files import cannot_write, write_json

PREDICTIONS_FILE = "predictions.json"


@dataclass(frozen=True)
class FoundObject:
    """One found box: `bbox` is x, y, width, height in pixels of the picture itself, not of the drawn one."""

    category_id: int
    name: str
    score: float
    bbox: list[float]


@dataclass(frozen=True)
class Prediction:
    """One picture: its file, the drawn file, its size in pixels, and what was found on it, best first."""

    path: Path
    drawn: Path
    width: int
    height: int
    objects: tuple[FoundObject, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "file": str(self.path),
            "drawn": str(self.drawn),
            "width": self.width,
            "height": self.height,
            "detections": [asdict(each) for each in self.objects],
        }

    def summary(self) -> str:
        """What was found, for instance `person ×3, dog ×1`."""
        counts = Counter(each.name for each in self.objects)
        return ", ".join(f"{name} ×{number}" for name, number in counts.most_common())


def collect_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures that files and folders stand for, in order; each is read once, so that nothing is begun in vain.

    Raises:
        InputError: A path does not exist, or a folder holds no picture.
        CorruptFileError: A file is not a picture, or damaged.
    """
    found = find_pictures(paths)
    for file in found:
        open_picture(file)
    return found


def free_folder(parent: Path, name: str, out: Path | None, overwrite: bool) -> Path:
    """Where to put pictures: `out`, else the first free of `name`, `name-2`, ... in `parent`; it is not made.

    Raises:
        InputError: `out` is not empty, and `overwrite` is not set.
    """
    if out is not None:
        return empty_folder(out, overwrite)
    names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return next(parent / each for each in names if overwrite or not (parent / each).exists())


def empty_folder(out: Path, overwrite: bool) -> Path:
    """The folder itself, where it is empty, absent, or may be written into all the same; else an InputError."""
    if out.is_file():
        raise InputError(f"--out {out} is a file", "Name a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty", "Write into it all the same by --overwrite, or choose another --out")
    return out


@torch.no_grad()
def predict_pictures(
    built: tuple[nn.Module, DetectorSpec],
    paths: Sequence[Path],
    out: Path,
    *,
    device: torch.device,
    threshold: float,
    on_picture: Callable[[Prediction], None] | None = None,
) -> list[Prediction]:
    """Find boxes on pictures, draw them, and write `predictions.json`.

    Args:
        built: From `load_detector`.
        paths: From `collect_pictures`.
        out: Folder for the drawn pictures and the JSON; made where it is not there.
        device: Where to compute.
        threshold: Least score of a box that is kept, 0 to 1.
        on_picture: Told of each picture that is done.

    Raises:
        NascliError: `out` cannot be written.
    """
    detector, spec = built
    predictions: list[Prediction] = []
    names: set[str] = set()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            picture = open_picture(path)
            output = detector([to_numbers(picture_tensor(picture), device)])[0]
            boxes = [box for box in plain_boxes(output) if box[2] >= threshold]
            drawn = out / _free_name(path, names)
            draw_boxes(picture, boxes_to_draw(boxes, threshold), spec.class_names).save(drawn, quality=92)
            objects = tuple(_found_object(spec, box) for box in boxes)
            predictions.append(Prediction(path, drawn, picture.width, picture.height, objects))
            if on_picture is not None:
                on_picture(predictions[-1])
        write_json(
            out / PREDICTIONS_FILE,
            {"threshold": threshold, "images": [prediction.to_dict() for prediction in predictions]},
        )
    except OSError as error:
        raise cannot_write(out, error, "Choose another --out") from error
    return predictions


def _found_object(spec: DetectorSpec, box: tuple[list[float], int, float]) -> FoundObject:
    bbox, label, score = box
    category = spec.categories[label - 1]
    return FoundObject(category.id, category.name, score, bbox)


def _free_name(path: Path, names: set[str]) -> str:
    """The drawn file's name: JPEG stays JPEG, all else becomes PNG; equal names from two folders are numbered."""
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    candidates = (f"{path.stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in range(1, len(names) + 2))
    name = next(candidate for candidate in candidates if candidate.lower() not in names)
    names.add(name.lower())
    return name
