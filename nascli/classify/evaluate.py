"""Trained networks measured on a data set, as `nascli evaluate` does it."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascli.classify.calibration import Reliability
from nascli.classify.confusion import Confusion
from nascli.classify.job import check_classes, device_name
from nascli.classify.metrics import evaluate
from nascli.classify.tta import plan_views
from nascli.config import DataConfig, Preprocessing, TrainRecipe, parse
from nascli.data.dataset import ImageData
from nascli.data.imagenet import IMAGENET_CLASSES, imagenet_wnids
from nascli.data.registry import load_dataset
from nascli.data.transforms import Normalizer
from nascli.errors import InputError
from nascli.files import sha256_file
from nascli.models.cells.network import Network
from nascli.models.cells.spec import NetworkSpec, read_network
from nascli.models.cost import measure_cost
from nascli.models.serialization import NETWORK_FILE, WEIGHTS_FILE, load_network
from nascli.runs import read_run, versions

_ALLOW_UNREADABLE = "--max-bad N"
"""How a person allows for more images that cannot be decoded."""


@dataclass(frozen=True)
class Subject:
    """A trained network, and what it is measured on.

    Args:
        folder: Holds `network.json` and `weights.safetensors`.
        data: The data set that is asked for; all else as the training had it.
        spec: Of the network.
    """

    folder: Path
    data: DataConfig
    spec: NetworkSpec

    @property
    def images(self) -> Hashable:
        """What its test images follow from; subjects for which it is equal can share them."""
        data = self.data
        return data.dataset, data.data_dir, data.max_unreadable_images, self.spec.image_size, self.spec.preprocessing


@dataclass(frozen=True)
class Assessment:
    """A network measured.

    Args:
        results: As they stand in `evaluation.json`.
        confusion: The counts behind them, on the CPU.
        class_names: Of the network's outputs, in order.
    """

    results: dict[str, Any]
    confusion: Confusion
    class_names: tuple[str, ...]


def open_subject(
    folder: Path, dataset: str | None = None, data_dir: str | None = None, max_unreadable_images: int | None = None
) -> Subject:
    """A folder looked at, before anything takes time.

    Args:
        folder: Holds `network.json` and `weights.safetensors`; with a train run's `run.json`, `dataset` may be None.
        dataset: Its name; None is the one the run was trained on.
        data_dir: Where it lies; None is where the run found its own.
        max_unreadable_images: Images that cannot be decoded and may be skipped; None is what the run's recipe says.

    Raises:
        InputError: The run has no weights yet, or nothing says which data set.
        CorruptFileError: `network.json` is damaged.
    """
    asked = {"dataset": dataset, "data_dir": data_dir, "max_unreadable_images": max_unreadable_images}
    data = _data_config(folder, {key: value for key, value in asked.items() if value is not None})
    check_weights(folder)
    return Subject(folder, data, read_network(folder / NETWORK_FILE))


def evaluate_runs(
    subjects: Sequence[Subject],
    *,
    batch_size: int,
    device: torch.device,
    crops: int = 1,
    flip: bool = False,
    note: Callable[[str], None] | None = None,
) -> Iterator[Assessment]:
    """What each network reaches on the test images of its data set: top-1, top-5, loss, each class, calibration.

    Each is measured when it is asked for. Test images that several of them see alike are loaded once, and let go after
    the last of these.

    The images are resized, cropped and normalised as `network.json` says, whatever data set they are from. Where the
    network is one of ImageNet without class names, a data set with some of ImageNet's folders will do: the network
    still chooses among all 1000.

    Args:
        subjects: From `open_subject`.
        batch_size: Images at once.
        device: Where to compute.
        crops: Parts of each image whose probabilities are averaged (see `nascli.classify.tta`).
        flip: Average over mirror images too.
        note: Told where memory ran out, so that fewer images are taken at once.

    Raises:
        InputError: The data set has other classes, or no such crops can be cut.
        CorruptFileError: Weights or data are damaged, or more images cannot be decoded than may be left out.
        NascliError: The device has not enough memory for one image.
    """
    waiting = Counter(subject.images for subject in subjects)
    loaded: dict[Hashable, ImageData] = {}
    for subject in subjects:
        network, key = load_network(subject.folder, device), subject.images
        if key not in loaded:
            loaded[key] = load_dataset(
                subject.data,
                subject.spec.image_size,
                preprocessing=subject.spec.preprocessing,
                allow_option=_ALLOW_UNREADABLE,
            )
        waiting[key] -= 1
        data = loaded[key] if waiting[key] else loaded.pop(key)
        yield _assess(subject, network, data, batch_size=batch_size, crops=crops, flip=flip, note=note)


def describe_preprocessing(spec: NetworkSpec, used: Preprocessing) -> dict[str, Any]:
    """What is done to an image before the network of `spec` sees it, as JSON values."""
    return {"image_size": spec.image_size, **used.model_dump(), "mean": spec.mean, "std": spec.std}


def check_weights(folder: Path) -> None:
    """InputError where a folder holds no weights."""
    if not (folder / WEIGHTS_FILE).is_file():
        raise _no_weights(folder)


def _assess(
    subject: Subject,
    network: Network,
    data: ImageData,
    *,
    batch_size: int,
    crops: int,
    flip: bool,
    note: Callable[[str], None] | None,
) -> Assessment:
    spec, device = network.spec, next(network.parameters()).device
    data = _placed(spec, data)
    check_classes(spec, data, subject.folder)
    test, views = plan_views(data.val, crops=crops, flip=flip, padding=subject.data.crop_padding)
    test, counts = test.to(device), _Counts(Confusion.empty(spec.classes, device), Reliability.empty(device))
    since = time.monotonic()
    evaluation = evaluate(
        network,
        test,
        normalizer=Normalizer(spec.mean, spec.std),
        device=device,
        batch_size=batch_size,
        views=views,
        on_answers=counts.add,
        note=note,
    )
    seconds = time.monotonic() - since
    names = spec.class_names or data.class_names
    confusion = Confusion(counts.confusion.counts.cpu())
    cost = measure_cost(spec)
    results = {
        "run": str(subject.folder),
        "dataset": data.name,
        "cell": spec.genotype.name,
        "params": cost.params,
        "mult_adds": cost.mult_adds,
        **asdict(evaluation),
        "calibration_error": counts.reliability.error,
        "classes": spec.classes,
        "classes_in_images": len(torch.unique(test.labels)),
        "skipped": list(test.skipped),
        "views": views.to_dict(),
        "preprocessing": describe_preprocessing(spec, data.preprocessing),
        "images_per_second": round(evaluation.images / max(seconds, 1e-9), 1),
        "batch_size": batch_size,
        "device": device_name(device),
        "weights_sha256": sha256_file(subject.folder / WEIGHTS_FILE),
        "versions": versions(),
        "reliability": [asdict(each) for each in counts.reliability.bins()],
        "per_class": [asdict(each) for each in confusion.by_class(names)],
    }
    return Assessment(results, confusion, names)


@dataclass(frozen=True)
class _Counts:
    """All that is counted beside accuracy and loss."""

    confusion: Confusion
    reliability: Reliability

    def add(self, labels: Tensor, answers: Tensor, confidences: Tensor) -> None:
        """Count a batch: true and answered classes and the probabilities of the latter, (N,) each."""
        self.confusion.add(labels, answers)
        self.reliability.add(labels, answers, confidences)


def _no_weights(folder: Path) -> InputError:
    if (folder / "run.json").is_file():
        return InputError(
            f"{folder}: there are no weights yet, the training has not ended",
            f"nascli train --resume {shlex.quote(str(folder))} ends it",
        )
    return InputError(
        f"{folder}: there is no {WEIGHTS_FILE} in it",
        "Give a folder that nascli train or nascli build --import-weights wrote",
    )


def _placed(spec: NetworkSpec, data: ImageData) -> ImageData:
    """The data with the labels of an ImageNet network, where they are a part of ImageNet; else as they are."""
    if spec.class_names is not None or not data.classes < spec.classes == IMAGENET_CLASSES:
        return data
    wnids = imagenet_wnids()
    return data.among(wnids) if wnids and set(data.class_names) <= set(wnids) else data


def _data_config(folder: Path, asked: dict[str, object]) -> DataConfig:
    """What is asked for of the data; the rest as the run had it."""
    own = DataConfig()
    if (folder / "run.json").is_file():
        own = parse(TrainRecipe, read_run(folder, "train").get("recipe"), f"{folder / 'run.json'}: recipe").data
    elif "dataset" not in asked:
        raise InputError(f"{folder} does not say what it was trained on (there is no run.json)", "Give --dataset")
    return own.model_copy(update=asked)
