"""A trained network on the user's own images: the most probable classes of each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascli.classify.evaluate import describe_preprocessing
from nascli.classify.metrics import InferenceOptions, make_scorer
from nascli.classify.tta import plan_tta
from nascli.config import MAX_MEGAPIXELS
from nascli.data.dataset import UnreadableImages, no_image_left
from nascli.data.imagenet import IMAGENET_CLASSES, are_imagenet_wnids, imagenet_categories
from nascli.data.streaming import ImageFiles, worker_count
from nascli.data.transforms import Normalizer
from nascli.engine.dist import device_name
from nascli.models.serialization import check_weights, load_network
from nascli.models.spec import NetworkSpec

TOP = 5
"""Classes that are named per image."""


@dataclass(frozen=True)
class Prediction:
    """One class of an image.

    Args:
        label: Position among the network's outputs.
        name: Name of the class; None where it is not known.
        wnid: WordNet id, where the network knows ImageNet's classes by these.
        probability: 0 to 1; those of all classes add up to 1.
    """

    label: int
    name: str | None
    wnid: str | None
    probability: float


@dataclass(frozen=True)
class ImagePredictions:
    """One image: its file, and its classes, the most probable first."""

    path: Path
    top: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"file": str(self.path), "classes": [asdict(each) for each in self.top]}


def predict_classes(
    folder: Path,
    paths: Sequence[Path],
    options: InferenceOptions,
    max_megapixels: int | None = None,
    max_unreadable: int = 0,
) -> tuple[list[ImagePredictions], dict[str, Any]]:
    """Classify images. They are resized, cropped and normalized as `network.json` says; no data set is needed.

    Args:
        folder: Holds `network.json` and `weights.safetensors`.
        paths: Image files.
        max_megapixels: Millions of pixels of the largest image that is decoded; None is the default.
        max_unreadable: Images that cannot be decoded and are skipped.

    Returns:
        The predictions of each image, in order; as JSON values the names of those skipped, network, preprocessing,
        augmentation and device.

    Raises:
        InputError: The folder holds no weights, or no such crops can be cut.
        CorruptFileError: The weights are damaged, or an image cannot be decoded; the message names it.
        NascliError: The device has not enough memory for one image.
    """
    check_weights(folder)
    network = load_network(folder)
    spec, run, batch_size = network.spec, options.run, options.batch_size
    engine = options.open_engine(network, folder)
    unreadable = UnreadableImages(max_unreadable, "--max-unreadable N")
    if run.log:
        unreadable.log = run.log
    files = ImageFiles(
        tuple(paths),
        torch.arange(len(paths)),
        spec.image_size,
        worker_count(None) if len(paths) > batch_size else 0,
        preprocessing=spec.preprocessing,
        unreadable=unreadable,
        max_megapixels=max_megapixels or MAX_MEGAPIXELS,
    )
    split, tta = plan_tta(files, crops=options.crops, flip=options.flip)
    classes = _name_classes(spec)
    score = make_scorer(engine.run, Normalizer(spec.mean, spec.std), tta, batch_size, run.log)
    top: dict[int, tuple[Prediction, ...]] = {}
    for images, numbers in split.to(run.device).evaluation_batches(batch_size):
        with torch.no_grad():
            logits = score(images.to(run.device))
        top |= zip(numbers.tolist(), _top_classes(logits, classes), strict=True)
    if not top:
        raise no_image_left(len(paths))
    report = {
        "skipped": list(unreadable.names),
        "run": str(folder),
        "cell": spec.name,
        "classes": spec.classes,
        "tta": tta.to_dict(),
        "preprocessing": describe_preprocessing(spec, spec.preprocessing),
        "device": device_name(run.device),
        "engine": engine.name,
        "precision": engine.precision,
    }
    return [ImagePredictions(path, top[number]) for number, path in enumerate(paths) if number in top], report


def _name_classes(spec: NetworkSpec) -> list[tuple[str | None, str | None]]:
    """Name and WordNet id of each class of a network, as far as they are known, in the order of its outputs.

    A network of 1000 classes without names counts as one of ImageNet, since those of other tools are.
    """
    names: Sequence[str | None] = spec.class_names or [None] * spec.classes
    wnids: Sequence[str | None] = [None] * spec.classes
    if spec.class_names is None and spec.classes == IMAGENET_CLASSES:
        names = imagenet_categories()
    elif spec.class_names is not None and are_imagenet_wnids(spec.class_names):
        names, wnids = imagenet_categories(), spec.class_names
    return list(zip(names, wnids, strict=True))


def _top_classes(logits: Tensor, classes: Sequence[tuple[str | None, str | None]]) -> list[tuple[Prediction, ...]]:
    """The most probable classes of each image, from logits (N, classes)."""
    best = logits.softmax(dim=1).topk(min(TOP, len(classes)), dim=1)
    return [
        tuple(
            Prediction(label, classes[label][0], classes[label][1], probability)
            for label, probability in zip(labels, probabilities, strict=True)
        )
        for labels, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
