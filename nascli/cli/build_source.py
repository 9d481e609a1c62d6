"""What build builds: a cell at a size that is chosen, or the network of a folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.options import runs_folder
from nascli.config import NETWORK_SECTIONS, NetworkConfig, Preset, parse
from nascli.errors import InputError
from nascli.models.families import find_family, open_architecture
from nascli.models.spec import NetworkSpec, resolve_network
from nascli.runs import find_run

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier
    from nascli.models.scaling import Quantity, SizeTable, Target


@dataclass(frozen=True)
class Sizes:
    """The options that decide the size of a cell's network, as they were given."""

    preset: Preset | None = None
    cells_per_stage: str | None = None
    filters: int | None = None
    classes: int | None = None
    image_size: int | None = None
    targets: "dict[Quantity, str | None]" = field(default_factory=dict)

    @property
    def auto(self) -> bool:
        """Whether N follows from a target."""
        return self.cells_per_stage == "auto"

    def given(self) -> dict[str, object]:
        """Those that were given, by option."""
        values = {
            "--preset": self.preset,
            "--cells-per-stage": self.cells_per_stage,
            "--filters": self.filters,
            "--classes": self.classes,
            "--image-size": self.image_size,
            **{f"--target-{quantity.replace('_', '-')}": text for quantity, text in self.targets.items()},
        }
        return {option: value for option, value in values.items() if value is not None}


def choose_size(cell: str, sizes: Sizes, *, aux_head: bool) -> "tuple[NetworkSpec, SizeTable | None]":
    """A cell's network at the size that is asked for, and the sizes around the target if there is one.

    Raises:
        InputError: Two options contradict each other, or no such network can be built.
    """
    target = _find_target(sizes)
    depth = sizes.cells_per_stage
    numbers: dict[str, object] = {
        "preset": sizes.preset,
        "filters": sizes.filters,
        "cells_per_stage": None if sizes.auto else int(depth) if depth and depth.isdigit() else depth,
        "image_size": sizes.image_size,
    }
    source = open_architecture(cell)
    architecture = source.architecture
    if source.numbers.keys() == {"network.family"}:  # no network.json, whose numbers are complete
        numbers["preset"] = numbers["preset"] or find_family(architecture.family).default_preset
    given = {key.removeprefix("network."): value for key, value in source.numbers.items()}
    given |= {key: value for key, value in numbers.items() if value is not None}
    del given["family"]
    config = parse(NETWORK_SECTIONS[architecture.family], given, "options")

    def sized(config: NetworkConfig) -> NetworkSpec:
        return resolve_network(architecture, config, classes=sizes.classes, aux_head=aux_head)

    spec = sized(config)
    if target is None:
        return spec, None
    from nascli.models.scaling import scale_to_target

    table = scale_to_target(spec, lambda size: sized(config.model_copy(update=size)), target, vary_depth=sizes.auto)
    return sized(config.model_copy(update=table.chosen.values)), table


def open_folder(folder: str) -> "tuple[Path, ImageClassifier]":
    """The network of a train run (`latest` is the newest) or of a folder of build, with its weights.

    Raises:
        InputError: There is none, or it has no weights.
        CorruptFileError: A file is damaged.
    """
    from nascli.models.serialization import WEIGHTS_FILE, load_network

    path = find_run(folder, "train", runs_folder())
    if not (path / WEIGHTS_FILE).is_file():
        raise InputError(
            f"{path}: there is no {WEIGHTS_FILE} in it",
            "Give a folder that nascli train has finished, or that nascli build --import-weights wrote",
        )
    return path, load_network(path)


def _find_target(sizes: Sizes) -> "Target | None":
    """The one target that is given, if one is."""
    from nascli.models.scaling import parse_target

    targets = [parse_target(quantity, text) for quantity, text in sizes.targets.items() if text is not None]
    if len(targets) > 1:
        raise InputError(
            f"two targets: {targets[0]} and {targets[1]}", "Give one; the table shows params and mult-adds alike"
        )
    if targets and sizes.filters is not None:
        raise InputError(
            f"--filters {sizes.filters} and a target of {targets[0]}: both decide F", "Leave one of them out"
        )
    if sizes.auto and not targets:
        raise InputError("--cells-per-stage auto needs a target", "For example --target-mult-adds 600M")
    return targets[0] if targets else None
