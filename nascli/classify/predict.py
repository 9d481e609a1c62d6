"""A trained network on a person's own pictures: the likeliest classes of each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nascli.classify.evaluate import check_weights, describe_preprocessing
from nascli.classify.job import device_name
from nascli.classify.metrics import scored_within_memory
from nascli.classify.tta import plan_views
from nascli.data.folder import IMAGE_SUFFIXES
from nascli.data.imagenet import IMAGENET_CLASSES, are_imagenet_wnids, imagenet_categories
from nascli.data.streaming import ImageFiles, worker_count
from nascli.data.transforms import Normalizer
from nascli.errors import InputError
from nascli.models.cells.spec import NetworkSpec
from nascli.models.serialization import load_network

LIKELIEST = 5
"""How many classes are named."""


@dataclass(frozen=True)
class Guess:
    """One class of an image.

    Args:
        label: Its position among the network's outputs.
        name: What it is called; None where that is not known.
        wnid: Its WordNet id, where the network knows ImageNet's classes by these.
        probability: 0 to 1; those of all classes add up to 1.
    """

    label: int
    name: str | None
    wnid: str | None
    probability: float


@dataclass(frozen=True)
class Prediction:
    """One picture: its file, and its classes, the likeliest first."""

    path: Path
    guesses: tuple[Guess, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"file": str(self.path), "classes": [asdict(each) for each in self.guesses]}


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures that files and folders stand for, in order; none is opened.

    Inside a folder they are known by their suffix; a file that is given by name may have any.

    Raises:
        InputError: A path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
            if not inside:
                raise InputError(
                    f"{path}: there is no picture in this folder", f"Looked for {', '.join(IMAGE_SUFFIXES)}"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"image {path}: no such file or folder")
    return found


def predict_pictures(
    folder: Path,
    paths: Sequence[Path],
    *,
    batch_size: int,
    device: torch.device,
    crops: int = 1,
    flip: bool = False,
    note: Callable[[str], None] | None = None,
) -> tuple[list[Prediction], dict[str, Any]]:
    """Name what is on pictures. They are resized, cropped and normalised as `network.json` says; no data set is needed.

    Args:
        folder: Holds `network.json` and `weights.safetensors`.
        paths: From `find_pictures`.
        batch_size: Images at once.
        device: Where to compute.
        crops: Parts of each image whose probabilities are averaged (see `nascli.classify.tta`).
        flip: Average over mirror images too.
        note: Told where memory ran out, so that fewer images are taken at once.

    Returns:
        One prediction a picture, in order; what was done to each, and where, as JSON values.

    Raises:
        InputError: The folder holds no weights, or no such crops can be cut.
        CorruptFileError: The weights are damaged, or a picture cannot be decoded; the message names it.
        NascliError: The device has not enough memory for one picture.
    """
    check_weights(folder)
    network = load_network(folder, device)
    spec = network.spec
    workers = worker_count(None) if len(paths) > batch_size else 0
    positions = torch.arange(len(paths))
    files = ImageFiles(tuple(paths), positions, spec.image_size, workers, preprocessing=spec.preprocessing)
    split, views = plan_views(files, crops=crops, flip=flip)
    classes = _name_classes(spec)
    score = scored_within_memory(network, Normalizer(spec.mean, spec.std), views, batch_size, note)
    guesses: dict[int, tuple[Guess, ...]] = {}
    for images, numbers in split.to(device).evaluation_batches(batch_size):
        with torch.no_grad():
            scores = score(images.to(device))
        guesses |= zip(numbers.tolist(), _likeliest(scores, classes), strict=True)
    done = {
        "run": str(folder),
        "cell": spec.genotype.name,
        "classes": spec.classes,
        "views": views.to_dict(),
        "preprocessing": describe_preprocessing(spec, spec.preprocessing),
        "device": device_name(device),
    }
    return [Prediction(path, guesses[number]) for number, path in enumerate(paths)], done


class _ClassName(NamedTuple):
    """What a class is called, as far as that is known."""

    name: str | None
    wnid: str | None


def _name_classes(spec: NetworkSpec) -> list[_ClassName]:
    """The classes of a network, in the order of its outputs.

    A network of 1000 classes without names is taken for one of ImageNet, as those are that other tools publish.
    """
    names: Sequence[str | None] = spec.class_names or [None] * spec.classes
    wnids: Sequence[str | None] = [None] * spec.classes
    if spec.class_names is None and spec.classes == IMAGENET_CLASSES:
        names = imagenet_categories()
    elif spec.class_names is not None and are_imagenet_wnids(spec.class_names):
        names, wnids = imagenet_categories(), spec.class_names
    return [_ClassName(name, wnid) for name, wnid in zip(names, wnids, strict=True)]


def _likeliest(scores: Tensor, classes: Sequence[_ClassName]) -> list[tuple[Guess, ...]]:
    """The likeliest classes of each image, from logits (N, classes)."""
    best = scores.softmax(dim=1).topk(min(LIKELIEST, len(classes)), dim=1)
    return [
        tuple(
            Guess(label, classes[label].name, classes[label].wnid, probability)
            for label, probability in zip(labels, probabilities, strict=True)
        )
        for labels, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
