"""Network specs: all that is needed, beside weights, to build a network again (`network.json`). No torch."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypedDict, Unpack

from pydantic import ConfigDict, Field, ValidationError

from nascli.config import NETWORK_SECTIONS, NetworkConfig, Preprocessing, Strict, explain
from nascli.errors import CorruptFileError, InputError
from nascli.files import write_text
from nascli.genotype.genotype import CELLS
from nascli.models.latency import Key
from nascli.records import check_schema, format_record, read_record, take_checksum

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier, Supernet
    from nascli.models.pretrained import Importer

SCHEMA_VERSION = 1

LARGEST_CIFAR_IMAGE = 64
"""Largest image side in pixels at which a network keeps the full resolution by default, as for CIFAR."""


class Architecture(Protocol):
    """A genotype, or the name of a fixed network: what a family makes a spec of."""

    @property
    def family(self) -> str:
        """Key of `nascli.models.families.FAMILIES`."""

    @property
    def name(self) -> str:
        """Name of the network in results."""


class NetworkSpec(Strict, ABC):
    """Base of every family's spec: what a network says of its data, and how images are prepared for it.

    An image is resized and cut to `image_size` as `preprocessing` says, its RGB values are brought to [0, 1], `mean` is
    subtracted and the result divided by `std`.
    """

    model_config = ConfigDict(populate_by_name=True)

    family: ClassVar[str]

    schema_version: Literal[1] = Field(default=1, alias="schema")
    classes: int = Field(ge=1, le=1_000_000)
    image_size: int = Field(ge=8, le=16_384)
    dropout: float = Field(ge=0, lt=1)
    batch_norm_momentum: float = Field(gt=0, le=1)
    batch_norm_epsilon: float = Field(gt=0)
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    preprocessing: Preprocessing = Preprocessing()

    @property
    @abstractmethod
    def architecture(self) -> Architecture:
        """The architecture that was built at this size."""

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.architecture.name

    @property
    @abstractmethod
    def size_text(self) -> str:
        """The numbers that decide the size, for tables: `N = 6, F = 32`."""

    def config_values(self) -> dict[str, object]:
        """The numbers as keys of the recipe section `[network]`, from which the same spec is resolved again."""
        return self.model_dump(include=set(NETWORK_SECTIONS[self.family].model_fields))

    def file_values(self) -> dict[str, object]:
        """The content of `network.json`."""
        return {"family": self.family, **self.model_dump(mode="json", by_alias=True, exclude_none=True)}

    def layer_keys(self) -> list[Key] | None:
        """All that the time of each unit of the network depends on, in plain values, in the order of its units.

        Layers with equal keys take equal times, whatever is around them. None where a few values do not say it, as for
        cells.
        """
        return None

    def without_aux_head(self) -> "NetworkSpec":
        """The same network without auxiliary head."""
        return self


class DataFields(TypedDict, total=False):
    """The fields that a data set decides; None and absence mean the family's default."""

    classes: int | None
    image_size: int | None
    class_names: tuple[str, ...] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class SizeKnobs:
    """The config keys that decide a network's cost.

    Args:
        width: Key whose value costs grow with: a whole number of steps.
        depth: Key of the number of layers or cells; None where it is fixed.
        symbols: What tables call each key.
        max_width: Steps of the largest width that is tried.
        depths: The depths that are chosen from where a target may decide depth, too.
        step: Between one width and the next.
    """

    width: str
    depth: str | None = None
    symbols: Mapping[str, str] = field(default_factory=dict)
    max_width: int = 1024
    depths: range = range(0)
    step: int | float = 1

    def values(self, width: int, depth: int) -> dict[str, int | float]:
        """A size as config keys, from its width in steps and its depth."""
        return {self.width: round(width * self.step, 9)} | ({self.depth: depth} if self.depth else {})

    def count_steps(self, width: float) -> int:
        """The nearest width in steps."""
        return max(1, round(width / self.step))


def merge_numbers(defaults: Mapping[str, Any], data: DataFields, config: NetworkConfig) -> dict[str, Any]:
    """The numbers of a network: the defaults, over them what the data say, over all what the config gives."""
    said = {key: value for key, value in data.items() if value is not None}
    return {**defaults, **said, **config.model_dump(exclude_none=True, exclude={"preset", "family"})}


class NetworkFamily(ABC):
    """One kind of architecture as networks: the entry of the family table."""

    spec: type[NetworkSpec]
    knobs: SizeKnobs
    unused_train_keys: tuple[str, ...] = ("aux_weight", "drop_path_prob")
    """Keys of `[train]` that its networks have nothing for."""

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """Published sizes as config keys, by name."""

    default_preset: str | None = None
    """The one that `nascli build` starts from."""

    # architecture and spec are the family's

    @abstractmethod
    def resolve(self, architecture: Any, config: NetworkConfig, aux_head: bool, data: DataFields) -> NetworkSpec:  # noqa: ANN401
        """A complete spec (see `resolve_network`)."""

    @abstractmethod
    def build(self, spec: Any) -> "ImageClassifier":  # noqa: ANN401
        """The network of a spec of this family, with weights from torch's global random generator."""

    def stream_size(self, config: NetworkConfig) -> int | None:
        """Image side that the config implies where it gives none, as its preset's; None where the data decide."""
        preset = getattr(config, "preset", None)
        size = self.presets[preset]["image_size"] if preset else None
        return None if size is None else int(str(size))

    def find(self, name: str) -> Architecture | None:
        """The fixed architecture of this name, where the family has such.

        Raises:
            InputError: The name is nearly one of them.
        """
        return None

    def importer(self) -> "Importer | None":
        """The reader of other tools' weights; None where no tool's are known."""
        return None

    def supernet(self) -> "Supernet | None":
        """The weights that children of a search space share; None where the family has no supernet."""
        return None


def resolve_network(
    architecture: Architecture, config: NetworkConfig, *, aux_head: bool = False, **data: Unpack[DataFields]
) -> NetworkSpec:
    """An architecture and a recipe's network section as a complete spec.

    Args:
        config: Section `[network]`; a number that it does not give comes from its preset or the family.
        aux_head: Build the auxiliary head for training.
        data: What the data set says; an `image_size` in `config` wins.

    Raises:
        InputError: The section is another family's, or such a network cannot be built.
    """
    from nascli.models.families import find_family

    family = find_family(architecture.family)
    section = NETWORK_SECTIONS[architecture.family]
    if not isinstance(config, section):
        if config.model_fields_set:
            raise InputError(
                f"{architecture.name} is of the family {architecture.family}, the section [network] of another",
                f'Write family = "{architecture.family}" into the section, and keys of that family',
            )
        config = section()  # nothing was asked for
    try:
        return family.resolve(architecture, config, aux_head, data)
    except ValidationError as error:
        raise explain(error, f"a network of {architecture.name}", family.spec) from error


def write_network(path: Path, spec: NetworkSpec) -> None:
    """Write `network.json`; a file without the key `family` is of the cells."""
    write_text(path, format_network(spec))


def format_network(spec: NetworkSpec) -> str:
    """The text of `network.json`."""
    return format_record(spec.file_values())


def read_network(path: Path) -> NetworkSpec:
    """Read `network.json`.

    Raises:
        InputError: There is no such file, it is of a newer schema, or a field is impossible.
        CorruptFileError: It is not JSON, or not a network.
    """
    return _check_network(read_record(path), path)


def parse_network(text: str, path: Path) -> NetworkSpec:
    """The network in a text of `format_network`, which a file holds; errors as of `read_network`."""
    values = dict(json.loads(text))
    take_checksum(values, path)
    return _check_network(values, path)


def _check_network(values: dict[str, Any], path: Path) -> NetworkSpec:
    from nascli.models.families import find_family

    if "classes" not in values:
        raise CorruptFileError(f"{path}: JSON, but not a network (no classes in it)")
    check_schema(values, SCHEMA_VERSION, path)
    spec = find_family(str(values.pop("family", CELLS))).spec
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        raise explain(error, str(path), spec) from error


def with_architecture(spec: NetworkSpec, architecture: Architecture) -> NetworkSpec:
    """A network of the same numbers and data, of another architecture of its family; InputError for another family."""
    config = NETWORK_SECTIONS[spec.family].model_validate(spec.config_values())
    return resolve_network(
        architecture,
        config,
        classes=spec.classes,
        class_names=spec.class_names,
        mean=spec.mean,
        std=spec.std,
        preprocessing=spec.preprocessing,
    )
