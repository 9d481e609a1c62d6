"""Training images that grow over the epochs: `train.image_sizes`."""

from collections.abc import Sequence

from nascli.config import NETWORK_SECTIONS, FineTuneConfig, OptimConfig
from nascli.errors import InputError
from nascli.models.spec import NetworkSpec, resolve_network


def find_side(config: OptimConfig, epoch: int, full: int) -> int:
    """Height and width of training images in an epoch (counted from 0); `full` where the recipe has no sizes.

    Of n sizes in E epochs it is the one at ceil((epoch + 1) n / E), counted from 1: the last epoch has the last size.
    """
    sizes = config.image_sizes if isinstance(config, FineTuneConfig) else ()
    return sizes[-(-(epoch + 1) * len(sizes) // config.epochs) - 1] if sizes else full


def check_sizes(spec: NetworkSpec, sizes: Sequence[int]) -> None:
    """Refuse sizes of training images that are over the network's own, or too small for it."""
    if not sizes:
        return
    smallest, largest = min(sizes), max(sizes)
    if largest > spec.image_size:
        raise InputError(
            f"train.image_sizes has {largest} pixels, and images of {spec.image_size} are there",
            f"Give sizes up to {spec.image_size}, or a larger --image-size",
        )
    least = next(side for side in range(smallest, spec.image_size + 1) if _takes(spec, side))
    if least > smallest:
        raise InputError(
            f"train.image_sizes has {smallest} pixels, which are too few for {spec.name}",
            f"The least size that it takes is {least}",
        )


def _takes(spec: NetworkSpec, side: int) -> bool:
    """Whether a network of these numbers can be made for images of a size."""
    section = NETWORK_SECTIONS[spec.family]
    try:
        config = section.model_validate(spec.config_values() | {"image_size": side})
        resolve_network(spec.architecture, config, classes=spec.classes)
    except InputError:
        return False
    return True
