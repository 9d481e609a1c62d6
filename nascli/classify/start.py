"""The weights that a classifier's training begins with, taken from a source: class by class, with statistics."""

from collections.abc import Sequence

import torch

from nascli.classify.norms import measure_batch_norms
from nascli.config import TrainRecipe
from nascli.data.dataset import ImageData
from nascli.data.imagenet import IMAGENET_CLASSES, imagenet_wnids, is_wnid
from nascli.data.transforms import Normalizer
from nascli.engine.device import cpu_threads, generator_for
from nascli.engine.start import Start
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec
from nascli.models.start import StartWeights, match_classes, take_weights


def take_start(network: ImageClassifier, weights: StartWeights, recipe: TrainRecipe, data: ImageData) -> Start:
    """Take the weights of a source into a network of fresh ones, in place.

    Raises:
        InputError: They are of another network, or the classes are to be kept and are others.
        CorruptFileError: They are damaged.
    """
    names = _name_outputs(weights.spec, data.class_names)
    classes = match_classes(names, weights.spec.classes, data.class_names, recipe.start.classes)
    taken = take_weights(network, weights, classes)
    text = f"{weights.origin}: {taken}"
    if weights.calibration_images:
        images = _measure_statistics(network, weights.calibration_images, recipe, data)
        text += f"; statistics of batch norms measured on {images:,} training images"
    record = {"weights": recipe.start.weights, "origin": weights.origin, **taken.to_dict()}
    return Start.of(network, record, text)


def _name_outputs(spec: NetworkSpec, classes: Sequence[str]) -> Sequence[str] | None:
    """The classes of a source's outputs; of another tool's network of ImageNet they are its folders' names."""
    if spec.class_names is None and spec.classes == IMAGENET_CLASSES and any(map(is_wnid, classes)):
        return imagenet_wnids()
    return spec.class_names


def _measure_statistics(network: ImageClassifier, count: int, recipe: TrainRecipe, data: ImageData) -> int:
    """Measure the statistics of batch norms on training images, on the CPU, where each process gets the same.

    Returns:
        The images that they were measured on, in whole batches.
    """
    size = min(recipe.train.batch_size, len(data.train))
    images = min(count, len(data.train)) // size * size
    order = torch.randperm(len(data.train), generator=generator_for(recipe.seed, "start"))[:images]
    normalizer = Normalizer(network.spec.mean, network.spec.std)
    with cpu_threads(recipe.train.threads):
        measure_batch_norms(network, data.train.take(order), size, normalizer, torch.device("cpu"))
    return images
