"""ImageNet's 1000 classes: the names of their folders, and of the classes, in the order of the outputs."""

import hashlib
import re
from collections.abc import Sequence

IMAGENET_CLASSES = 1000

_WNIDS_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""SHA-256 of the sorted names of the class folders, one per line, for where timm, which lists them, is missing."""


def imagenet_wnids() -> tuple[str, ...] | None:
    """The names of ImageNet's 1000 class folders, sorted: the order of the outputs of every published network.

    Returns:
        None where timm, which has the list, is not installed.
    """
    try:
        from timm.data.imagenet_info import ImageNetInfo  # takes seconds
    except ImportError:
        return None
    return tuple(ImageNetInfo("imagenet-1k").label_names())  # type: ignore[no-untyped-call]


def is_wnid(name: str) -> bool:
    """Whether a name has the form of ImageNet's class folders: n01440764."""
    return re.fullmatch(r"n\d{8}", name) is not None


def imagenet_categories() -> tuple[str, ...]:
    """Common names of the 1000 classes, in the same order: tench, goldfish and so on, as torchvision has them."""
    from torchvision.models import ResNet18_Weights  # takes a second; nothing is downloaded

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def are_imagenet_wnids(names: Sequence[str]) -> bool:
    """True for the names of ImageNet's 1000 class folders, in the order of the outputs."""
    return (
        len(names) == IMAGENET_CLASSES
        and hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest() == _WNIDS_SHA256
    )
