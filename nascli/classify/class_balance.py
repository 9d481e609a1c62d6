"""Classes of unequal size: their weights in the loss, and batches that have each equally often.

Shapes: N images, K classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nascli.config import suggestion
from nascli.data.dataset import ImageData, Split
from nascli.data.folders.index import list_names
from nascli.errors import InputError


def find_class_weights(data: ImageData, asked: str | Mapping[str, float]) -> Tensor | None:
    """The weight of each class in the loss, float32 (K,), with a mean of 1 over the training images; None without.

    `balanced` gives a class of n_c of n images n / (K n_c). A table gives those in it their number and others 1, all
    divided by the mean over the images, so that the learning rate keeps its meaning.

    Raises:
        InputError: The table has a name that is no class, or a class has no images to balance it by.
    """
    if not asked:
        return None
    counts = torch.bincount(data.train.labels.cpu(), minlength=data.classes).double()
    if isinstance(asked, str):
        check_class_images(data, "train.class_weights = balanced")
        weights = 1 / counts
    else:
        if unknown := next((name for name in asked if name not in data.class_names), None):
            hint = suggestion(unknown, data.class_names)
            raise InputError(f"train.class_weights: {unknown!r} is no class of {data.name}", hint)
        weights = torch.tensor([asked.get(name, 1.0) for name in data.class_names], dtype=torch.float64)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def check_class_images(data: ImageData, setting: str) -> None:
    """InputError where a class has no training images, by which it could be balanced."""
    if empty := find_empty_classes(data, data.train):
        raise InputError(
            f"{setting}: data set {data.name} has no training images of {list_names(empty)}",
            "Add some, or leave the class out",
        )


def find_empty_classes(data: ImageData, split: Split) -> list[str]:
    """The classes without an image in a split."""
    counts = torch.bincount(split.labels.cpu(), minlength=data.classes).tolist()
    return [name for name, count in zip(data.class_names, counts, strict=True) if not count]


def weigh_targets(targets: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Targets whose cross-entropy is each image's own times the weight of its class.

    For an image of class a with smoothing s it is w_a ((1 - s) onehot(a) + s / K); for probabilities p of a mixed image
    the mean of that over p. So neither smoothing nor the other image of a mixture brings in a weight of its own.

    Args:
        targets: Labels int64 (N,), or probabilities (N, K).
        weights: (K,).

    Returns:
        float32 (N, K); a row adds up to the image's weight.
    """
    weighted = weights.diag()[targets] if targets.ndim == 1 else targets * weights
    return (1 - smoothing) * weighted + smoothing * weighted.mean(dim=1, keepdim=True)


def draw_balanced_order(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` images in random order, of each class equally many: all of a class once, before one comes again.

    A remainder goes to classes drawn at random. Classes without images are passed over.

    Returns:
        int64 (count,): the position of an image, plus N for each time that it came before, by which random crops of
        streamed images differ.
    """
    sizes = torch.bincount(labels)
    classes = sizes.nonzero().squeeze(1)
    shares = torch.full((len(classes),), count // len(classes))
    shares[torch.randperm(len(classes), generator=generator)[: count % len(classes)]] += 1
    members = torch.split(labels.argsort(stable=True), sizes[classes].tolist())
    drawn = []
    for own, share in zip(members, shares.tolist(), strict=True):
        rounds = range(-(-share // len(own)))
        turns = [own[torch.randperm(len(own), generator=generator)] + len(labels) * turn for turn in rounds]
        drawn.append(torch.cat(turns)[:share] if turns else own[:0])
    return torch.cat(drawn)[torch.randperm(count, generator=generator)]
