"""The table of network families, and what is looked up in it: networks to build, names that `--cell` takes. No torch.

A family from another package adds its entry to `FAMILIES`; the entry point group `nascli.families` names its module.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.config import NETWORK_SECTIONS, load_plugins, parse, suggestion
from nascli.errors import DeviceMemoryError, InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import NETWORK_FILE as NETWORK_FILE
from nascli.genotype.resolve import find_cell_file, is_network_file, load_genotype
from nascli.memory import measure_free_memory
from nascli.models.cells.family import CellFamily
from nascli.models.edges.family import EdgeFamily
from nascli.models.mobile.family import MobileFamily
from nascli.models.resnet.family import ResNetFamily
from nascli.models.spec import Architecture, NetworkFamily, NetworkSpec, read_network, resolve_network
from nascli.text import quote

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier, Supernet

_WEIGHTS = ("weights.safetensors", "supernet.safetensors")
"""Files of weights that may lie beside an architecture's."""

_USUAL = {"filters": 500, "stem_filters": 500, "head_filters": 5000, "cells_per_stage": 100, "classes": 50_000}
"""The numbers up to which a network is small beside any memory."""

FAMILIES: dict[str, NetworkFamily] = {
    "cells": CellFamily(),
    "mobile": MobileFamily(),
    "resnet": ResNetFamily(),
    "edges": EdgeFamily(),
}
"""Every family by name; the same names as `nascli.config.NETWORK_SECTIONS`."""


def find_family(name: str) -> NetworkFamily:
    """The family of this name.

    Raises:
        InputError: There is none.
    """
    load_plugins()
    if name not in FAMILIES:
        raise InputError(f"unknown network family {name!r}", suggestion(name, FAMILIES))
    return FAMILIES[name]


def build(spec: NetworkSpec) -> "ImageClassifier":
    """The network of a spec; weights start from torch's global random generator.

    Raises:
        DeviceMemoryError: Its weights alone take more than the memory that is free.
    """
    family = find_family(spec.family)
    # the system may promise more than there is, and end the process later
    if any(getattr(spec, key, 0) > usual for key, usual in _USUAL.items()):
        import torch  # what lists architectures does without it

        with torch.device("meta"):
            needed = sum(each.numel() * each.element_size() for each in family.build(spec).parameters())
        if torch.empty(0).device.type != "meta" and needed > (free := measure_free_memory()):
            raise DeviceMemoryError(
                f"network {spec.name}: its weights take {needed:,} bytes, and {free:,} of memory are free",
                "Choose fewer filters, cells or classes",
            )
    return family.build(spec)


def find_supernet(family: str) -> "Supernet":
    """The supernet of the networks of a family.

    Raises:
        InputError: It has none.
    """
    supernet = find_family(family).supernet()
    if supernet is None:
        raise InputError(
            f"search.evaluator = one_shot: networks of the family {family} share no weights",
            "Use search.evaluator = proxy",
        )
    return supernet


def advise_depth(spec: NetworkSpec, *others: str) -> str:
    """The hint to make a network deeper, by the key of its family if it has one, or to do something else."""
    depth = find_family(spec.family).knobs.depth
    ways = [*([f"more {depth}"] if depth else []), *others]
    return f"Give {', or '.join(ways)}" if ways else ""


def build_network(
    genotype: Genotype | str,
    preset: str | None = None,
    *,
    classes: int | None = None,
    **numbers: int | float | bool | str,
) -> "ImageClassifier":
    """A network from a genotype, with fresh weights.

    Args:
        genotype: A genotype, or where to find one: a zoo name, a JSON file, a search run; `resnet-20` and its like.
        preset: Published sizes to start from; None chooses by `image_size`.
        classes: Number of classes; None takes the preset's.
        numbers: Keys of the recipe section `[network]`: `filters`, `cells_per_stage`, `image_size`, ...

    Raises:
        InputError: No such genotype, or a number that is out of its range.

    Example:
        >>> sum(p.numel() for p in build_network("nasnet-a", "cifar10").parameters())
        3346538
    """
    architecture = open_architecture(genotype).architecture if isinstance(genotype, str) else genotype
    given = numbers if preset is None else {"preset": preset, **numbers}
    config = parse(NETWORK_SECTIONS[architecture.family], given, "build_network")
    return build(resolve_network(architecture, config, classes=classes))


@dataclass(frozen=True)
class ArchitectureSource:
    """An architecture as `--cell` names it.

    Args:
        file: The file it came from; None for a published one.
        numbers: Recipe values by dotted key (`"network.filters"`): the family, and all macro numbers if the file is a
            `network.json`.
    """

    architecture: Architecture
    file: Path | None
    numbers: dict[str, object]

    @property
    def unused_weights(self) -> str:
        """A sentence about trained weights beside the file, which an architecture does not bring; empty without."""
        beside = [self.file.with_name(name) for name in _WEIGHTS] if self.file else []
        weights = next((each for each in beside if os.path.isfile(each)), None)
        if weights is None:
            return ""
        folder = quote(weights.parent)
        ways = f"nascli train --from {folder} begins with them"
        if weights.name == _WEIGHTS[0]:
            ways += f", nascli detect --backbone {folder} takes them as a backbone"
        return f"{weights} is not used: --cell takes the cell and the sizes alone. {ways}"


def open_architecture(source: str) -> ArchitectureSource:
    """An architecture from a genotype file, a search run, a published name, or a `network.json` (or its folder).

    Raises:
        InputError: There is nothing of that name, or it is not a possible architecture.
        CorruptFileError: The file is damaged.
    """
    file = find_cell_file(source)
    if file is not None and is_network_file(file):
        return source_of_network(read_network(file), file)
    load_plugins()
    fixed = None if file else next(filter(None, (family.find(source) for family in FAMILIES.values())), None)
    architecture = fixed or load_genotype(file or source)
    return ArchitectureSource(architecture, file, {"network.family": architecture.family})


def source_of_network(spec: NetworkSpec, file: Path) -> ArchitectureSource:
    """The architecture of a network that a file holds, with all its macro numbers."""
    values = {"family": spec.family} | spec.config_values()
    return ArchitectureSource(spec.architecture, file, {f"network.{key}": value for key, value in values.items()})
