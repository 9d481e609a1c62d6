"""nascli: search a convolutional cell, build networks of any size from it, train, evaluate, detect.

From Python three names are enough; each is loaded when first used, so that importing `nascli` is instant:

- `nascli.load_genotype(source)`: a genotype from a zoo name, a JSON file or a search run.
- `nascli.build_network(genotype, preset="cifar10", **numbers)`: a torch module from a genotype.
- `nascli.load_network(folder)`: a trained network in evaluation mode, ready for (N, 3, H, W); with `inference=True` the
  engine for normalized images that is fastest here without a compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nascli.genotype.resolve import load_genotype as load_genotype
    from nascli.models.families import build_network as build_network
    from nascli.models.serialization import load_network as load_network

__version__ = "0.1.0"
__all__ = ["build_network", "load_genotype", "load_network"]

_HOMES = {
    "load_genotype": "nascli.genotype.resolve",
    "build_network": "nascli.models.families",
    "load_network": "nascli.models.serialization",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'nascli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
