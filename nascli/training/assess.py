"""A trained network measured on a data set, as `nascli evaluate` does it."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nascli.artifacts import read_run, sha256_file, versions
from nascli.config import DataConfig, TrainRecipe, parse
from nascli.data.arrays import Normalizer
from nascli.data.datasets import IMAGENET_CLASSES, ImageData, imagenet_wnids, load_dataset
from nascli.errors import InputError
from nascli.models.folders import WEIGHTS_FILE, load_network
from nascli.models.spec import NetworkSpec
from nascli.training.job import check_classes, device_name
from nascli.training.metrics import evaluate


def evaluate_run(
    folder: Path, dataset: str | None, data_dir: str | None, *, batch_size: int, device: torch.device
) -> dict[str, Any]:
    """Top-1, top-5 and loss of the network in `folder` on the test images of a data set.

    The images are resized, cropped and normalised as `network.json` says, whatever data set they are from. Where the
    network is one of ImageNet without class names, a data set with some of ImageNet's folders will do: the network
    still chooses among all 1000.

    Args:
        folder: Holds `network.json` and `weights.safetensors`; with a train run's `run.json`, `dataset` may be None.
        dataset: Its name; None is the one the run was trained on.
        data_dir: Where it lies; None is where the run found its own.
        batch_size: Images at once.
        device: Where to compute.

    Raises:
        InputError: The run has no weights yet, or the data set has other classes.
        CorruptFileError: Weights or data are damaged.
    """
    weights = folder / WEIGHTS_FILE
    config = _data_config(folder, dataset, data_dir)
    if not weights.is_file():
        raise _no_weights(folder)
    network = load_network(folder, device)
    spec = network.spec
    data = _placed(spec, load_dataset(config, spec.image_size, preprocessing=spec.preprocessing))
    check_classes(spec, data, folder)
    test = data.test.to(device)
    since = time.monotonic()
    evaluation = evaluate(
        network, test, normalizer=Normalizer(spec.mean, spec.std), device=device, batch_size=batch_size
    )
    seconds = time.monotonic() - since
    return {
        "run": str(folder),
        "dataset": data.name,
        "cell": spec.genotype.name,
        **asdict(evaluation),
        "classes": spec.classes,
        "classes_in_images": len(torch.unique(test.labels)),
        "preprocessing": {
            "image_size": spec.image_size,
            **data.preprocessing.model_dump(),
            "mean": spec.mean,
            "std": spec.std,
        },
        "images_per_second": round(evaluation.images / max(seconds, 1e-9), 1),
        "batch_size": batch_size,
        "device": device_name(device),
        "weights_sha256": sha256_file(weights),
        "versions": versions(),
    }


def _no_weights(folder: Path) -> InputError:
    if (folder / "run.json").is_file():
        return InputError(
            f"{folder}: there are no weights yet, the training has not ended", f"nascli train --resume {folder} ends it"
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


def _data_config(folder: Path, dataset: str | None, data_dir: str | None) -> DataConfig:
    """The data set that is asked for; what is not, as the run had it."""
    own = DataConfig()
    if (folder / "run.json").is_file():
        own = parse(TrainRecipe, read_run(folder, "train").get("recipe"), f"{folder / 'run.json'}: recipe").data
    elif dataset is None:
        raise InputError(f"{folder} does not say what it was trained on (there is no run.json)", "Give --dataset")
    asked = {"dataset": dataset, "data_dir": data_dir}
    return own.model_copy(update={key: value for key, value in asked.items() if value is not None})
