"""Evaluation of trained networks on a data set, as `nascli evaluate` does it."""

import os
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascli.classify.calibration import Reliability
from nascli.classify.confusion import Confusion
from nascli.classify.job import MAY_CHANGE, check_classes
from nascli.classify.metrics import InferenceOptions, evaluate
from nascli.classify.tta import plan_tta
from nascli.config import DataConfig, Preprocessing, TrainRecipe, load_recipe
from nascli.data.dataset import ImageData
from nascli.data.folders.index import list_names
from nascli.data.imagenet import IMAGENET_CLASSES, imagenet_wnids
from nascli.data.issues import Issue
from nascli.data.registry import load_dataset
from nascli.data.transforms import Normalizer
from nascli.engine.dist import device_name
from nascli.engine.graphs import choose_forward
from nascli.errors import InputError
from nascli.models.cost import measure_cost
from nascli.models.deploy.optimized import OpenedEngine
from nascli.models.families import NETWORK_FILE
from nascli.models.serialization import WEIGHTS_FILE, check_weights, load_network
from nascli.models.spec import NetworkSpec, read_network
from nascli.models.tensor_files import digest_tensors
from nascli.reading import expand_home
from nascli.runs.find import read_run, refuse_detector
from nascli.runs.record import RECIPE_FILE, RUN_FILE, check_recipe_file, parse_recipe, versions
from nascli.text import nfc

_ALLOW_UNREADABLE = "--max-unreadable N"
"""The option that allows for more images that cannot be decoded."""


@dataclass(frozen=True)
class TrainedRun:
    """A trained network and the data set to evaluate it on.

    Args:
        folder: Holds `network.json` and `weights.safetensors`.
        data: The data set that is asked for, with all other settings of the training.
        graphs: `train.graphs` of its training.
    """

    folder: Path
    data: DataConfig
    spec: NetworkSpec
    graphs: bool = True

    @property
    def data_key(self) -> Hashable:
        """Equal for runs that see the same evaluation images, and can share them in memory."""
        data = self.data
        splits = data.val_split, data.val_fraction
        place = data.dataset, data.data_dir, data.max_unreadable_images, data.max_megapixels
        return *place, *splits, self.spec.image_size, self.spec.preprocessing


@dataclass(frozen=True)
class EvaluationReport:
    """The results of one network.

    Args:
        results: JSON values of `evaluation.json`.
        confusion: The counts behind them, on the CPU.
        class_names: Names of the network's outputs.
        issues: Those of the data set.
    """

    results: dict[str, Any]
    confusion: Confusion
    class_names: tuple[str, ...]
    issues: tuple[Issue, ...]


def open_trained_run(folder: Path, **asked: object) -> TrainedRun:
    """Check a folder, before anything takes time.

    Args:
        folder: Holds `network.json` and `weights.safetensors`; with a train run's `run.json`, or the
            `recipe.toml` of a published one, `dataset` may be None.
        asked: Keys of `DataConfig`: `dataset`, `data_dir`, `val_split`, and what is allowed. None is as in the
            training; of another data set, the splits are chosen anew.

    Raises:
        InputError: The run has no weights yet, or nothing says which data set.
        CorruptFileError: `network.json` is damaged.
    """
    check_weights(folder)
    recipe = _read_recipe(folder)
    if recipe is None and asked.get("dataset") is None:
        raise InputError(f"{folder} does not say what it was trained on (there is no run.json)", "Give --dataset")
    own = recipe.data if recipe else DataConfig()
    data = _change_data(own, {key: value for key, value in asked.items() if value is not None})
    return TrainedRun(folder, data, read_network(folder / NETWORK_FILE), graphs=recipe is None or recipe.train.graphs)


def evaluate_runs(runs: Sequence[TrainedRun], options: InferenceOptions) -> Iterator[EvaluationReport]:
    """Evaluate each network when its report is asked for: top-1, top-5, loss, per class, calibration.

    Images that several runs see alike are loaded once, and released after the last of these. They are resized, cropped
    and normalized as `network.json` says, whatever data set they are from. For an ImageNet network without class names,
    a data set with some of ImageNet's folders will do: the network still chooses among all 1000 classes.

    Raises:
        InputError: The data set has other classes, or no such crops can be cut.
        CorruptFileError: Weights or data are damaged, or more images cannot be decoded than may be skipped.
        NascliError: The device has not enough memory for one image.
    """
    waiting = Counter(trained.data_key for trained in runs)
    loaded: dict[Hashable, ImageData] = {}
    for trained in runs:
        spec, key = trained.spec, trained.data_key
        engine = options.open_engine(load_network(trained.folder), trained.folder)
        if key not in loaded:
            loaded[key] = load_dataset(
                trained.data,
                spec.image_size,
                preprocessing=spec.preprocessing,
                allow_option=_ALLOW_UNREADABLE,
                measured=True,
            )
        waiting[key] -= 1
        data = loaded[key] if waiting[key] else loaded.pop(key)
        yield _evaluate_run(trained, engine, data, options)


def describe_preprocessing(spec: NetworkSpec, used: Preprocessing) -> dict[str, Any]:
    """The steps from an image to the input of the network of `spec`, as JSON values."""
    return {"image_size": spec.image_size, **used.model_dump(), "mean": spec.mean, "std": spec.std}


def _evaluate_run(
    trained: TrainedRun, engine: OpenedEngine, data: ImageData, options: InferenceOptions
) -> EvaluationReport:
    spec, device, batch_size = trained.spec, options.run.device, options.batch_size
    data = _match_labels(spec, data, trained.folder)
    check_classes(spec, data, trained.folder)
    split, tta = plan_tta(data.val, crops=options.crops, flip=options.flip, padding=trained.data.crop_padding)
    split, confusion, reliability = split.to(device), Confusion.empty(spec.classes, device), Reliability.empty(device)

    def count(labels: Tensor, predictions: Tensor, confidences: Tensor) -> None:
        confusion.add(labels, predictions)
        reliability.add(labels, predictions, confidences)

    since, normalizer = time.monotonic(), Normalizer(spec.mean, spec.std)
    as_trained = engine.name == "trained"  # others are launched as they are asked for
    batches, allowed = tta.count * len(split) / batch_size, as_trained and trained.graphs
    evaluation = evaluate(
        engine.run,
        split,
        normalizer,
        options.run,
        forward=choose_forward(engine.run, batches, options.run, allowed=allowed),
        batch_size=batch_size,
        tta=tta,
        on_predictions=count,
    )
    seconds = time.monotonic() - since
    names = spec.class_names or data.class_names
    cost = measure_cost(spec)
    results = {
        "run": str(trained.folder),
        "dataset": data.name,
        "split": data.val_name,
        "cell": spec.name,
        "params": cost.params,
        "mult_adds": cost.mult_adds,
        **asdict(evaluation),
        "calibration_error": reliability.error,
        "classes": spec.classes,
        "classes_in_images": len(torch.unique(split.labels)),
        "skipped": list(split.skipped),
        "issues": [each.to_dict() for each in data.issues],
        "tta": tta.to_dict(),
        "preprocessing": describe_preprocessing(spec, data.preprocessing),
        "images_per_second": round(evaluation.images / max(seconds, 1e-9), 1),
        "batch_size": batch_size,
        "device": device_name(device),
        "weights_sha256": digest_tensors(trained.folder / WEIGHTS_FILE),
        "versions": versions(),
        "reliability": [asdict(each) for each in reliability.bins()],
        "per_class": [asdict(each) for each in confusion.by_class(names)],
        "engine": engine.name,
        "precision": engine.precision,
    }
    return EvaluationReport(results, Confusion(confusion.counts.cpu()), names, data.issues)


def _match_labels(spec: NetworkSpec, data: ImageData, folder: Path) -> ImageData:
    """Data with the labels of the network, which may know more classes.

    A network without class names has to have the data's own; if it is one of ImageNet, ImageNet's folders will do.

    Raises:
        InputError: The data have classes that the network was not trained for; the message names them.
    """
    if spec.class_names is None:
        wnids = imagenet_wnids() if data.classes < spec.classes == IMAGENET_CLASSES else None
        return data.among(wnids) if wnids and set(data.class_names) <= set(wnids) else data
    known = {nfc(name): name for name in spec.class_names}
    if unknown := [name for name in data.class_names if nfc(name) not in known]:
        raise InputError(
            f"{folder} was trained for {spec.classes} classes, and data set {data.name} has others: "
            f"{list_names(unknown)}",
            f"Give --dataset one with some of its classes: {list_names(spec.class_names)}",
        )
    names = tuple(known[nfc(name)] for name in data.class_names)
    return replace(data, class_names=names).among(spec.class_names)


def _read_recipe(folder: Path) -> TrainRecipe | None:
    """The recipe of a train run, or of a network that `nascli push` wrote; None where the folder has neither."""
    if not (folder / RUN_FILE).is_file():
        refuse_detector(folder)
        published = folder / RECIPE_FILE
        return load_recipe(TrainRecipe, published) if published.is_file() else None
    record = read_run(folder, "train")
    recipe = parse_recipe(TrainRecipe, record, folder)
    check_recipe_file(TrainRecipe, record, folder, MAY_CHANGE)
    return recipe


def _change_data(own: DataConfig, asked: dict[str, object]) -> DataConfig:
    """The data settings that are asked for; the others are those of the run."""
    if _locate(str(asked.get("dataset", own.dataset))) != _locate(own.dataset):
        own = own.model_copy(update={"val_split": None, "val_fraction": 0.0, "strict": False})
    if "val_split" in asked:
        own = own.model_copy(update={"val_fraction": 0.0})
    return own.model_copy(update=asked)


def _locate(dataset: str) -> Path:
    """The path in the name of a data set, by which two names are compared."""
    return Path(os.path.realpath(expand_home(dataset.partition(":")[2] or dataset)))
