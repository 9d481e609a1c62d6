"""The macro numbers of a network: all that is needed, beside weights, to build it again (`network.json`). No torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nascli.config import NetworkConfig, Preprocessing, Preset, explain
from nascli.errors import CorruptFileError, InputError
from nascli.files import read_json, write_json
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.genotype import Genotype

SCHEMA_VERSION = 1
STEM_MULTIPLIER = 3
"""The CIFAR stem has this many times F channels (released code)."""

LARGEST_CIFAR_IMAGE = 64
"""Up to this side in pixels the CIFAR preset is the default: its stem keeps the resolution."""


class NetworkSpec(BaseModel):
    """A genotype with the macro numbers that turn it into one network.

    The network is: stem, then three stages of `cells_per_stage` (N) normal cells with a reduction cell before the
    second and the third, then ReLU, global average pool, dropout, classifier. Ops have `filters` (F) channels in the
    first stage, doubled at every reduction. With `reduction_placement` `in_place` (PNASNet) the reduction cell is the
    first of the N cells of its stage; with `added` (NASNet) it stands before them.

    What is done to an image before is part of it: `image_size`, `preprocessing`, `mean` and `std`. A file without
    `preprocessing` gets the default.

    References: Zoph et al. 2018, section 3 and figure 2; what the paper leaves open follows the released code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    genotype: CellGenotype
    filters: int = Field(ge=1)
    cells_per_stage: int = Field(ge=1)
    stem: Literal["cifar", "imagenet"]
    stem_filters: int = Field(ge=1)
    classes: int = Field(ge=1)
    image_size: int = Field(ge=8)
    dropout: float = Field(ge=0, lt=1)
    skip_reduction_input: bool
    reduction_placement: Literal["added", "in_place"] = "added"
    batch_norm_momentum: float = Field(gt=0, le=1)
    batch_norm_epsilon: float = Field(gt=0)
    aux_head: bool = False
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    preprocessing: Preprocessing = Preprocessing()


class _Preset(BaseModel):
    filters: int
    cells_per_stage: int
    image_size: int
    classes: int
    stem: Literal["cifar", "imagenet"]
    stem_filters: int | None
    dropout: float
    skip_reduction_input: bool
    batch_norm_momentum: float
    batch_norm_epsilon: float
    reduction_placement: Literal["added", "in_place"] = "added"


_CIFAR = _Preset(
    filters=32,
    cells_per_stage=6,
    image_size=32,
    classes=10,
    stem="cifar",
    stem_filters=None,
    dropout=0.0,
    skip_reduction_input=False,
    batch_norm_momentum=0.1,
    batch_norm_epsilon=1e-5,
)
_MOBILE = _Preset(
    filters=44,
    cells_per_stage=4,
    image_size=224,
    classes=1000,
    stem="imagenet",
    stem_filters=32,
    dropout=0.5,
    skip_reduction_input=False,
    batch_norm_momentum=3e-4,
    batch_norm_epsilon=1e-3,
)
_LARGE = _MOBILE.model_copy(
    update={"filters": 168, "cells_per_stage": 6, "image_size": 331, "stem_filters": 96, "skip_reduction_input": True}
)
_IN_PLACE = {"reduction_placement": "in_place", "skip_reduction_input": False}

PRESETS: dict[str, _Preset] = {
    "cifar10": _CIFAR,
    "imagenet-mobile": _MOBILE,
    "imagenet-large": _LARGE,
    "pnasnet-large": _LARGE.model_copy(update={"filters": 216, "cells_per_stage": 4, **_IN_PLACE}),
    "pnasnet-mobile": _MOBILE.model_copy(update={"filters": 54, "cells_per_stage": 3, **_IN_PLACE}),
}
"""The published sizes: NASNet's 6 @ 768, 4 @ 1056 and 6 @ 4032 in the paper's notation, and PNASNet-5's two on ImageNet
(settings of the released code)."""


def resolve_network(
    genotype: Genotype,
    config: NetworkConfig,
    *,
    classes: int | None = None,
    image_size: int | None = None,
    aux_head: bool = False,
    class_names: tuple[str, ...] | None = None,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    preprocessing: Preprocessing | None = None,
) -> NetworkSpec:
    """A genotype and a recipe's network section as a complete spec.

    Args:
        genotype: The cell pair.
        config: What the recipe says; what it leaves out comes from its preset, and without one from the preset that
            fits the image size.
        classes: Number of classes of the data; None takes the preset's.
        image_size: Side of the data's images in pixels, used where `config` gives none; None takes the preset's.
        aux_head: Build the auxiliary head for training.
        class_names: Names of the classes, in the order of the outputs.
        mean: Mean that is subtracted from an image in [0, 1], a channel.
        std: Standard deviation that it is then divided by, a channel.
        preprocessing: How an image is brought to its size; None is the default.

    Raises:
        InputError: The image is too small for the stem and three stages.
    """
    side = config.image_size or image_size
    preset = PRESETS[config.preset or _fitting_preset(side)]
    given = config.model_dump(exclude_none=True, exclude={"preset"})
    numbers: dict[str, Any] = {**preset.model_dump(), "image_size": side or preset.image_size, **given}
    numbers["classes"] = classes or preset.classes
    numbers["preprocessing"] = preprocessing or Preprocessing()
    if numbers["stem_filters"] is None:
        numbers["stem_filters"] = STEM_MULTIPLIER * numbers["filters"]
    numbers["genotype"] = genotype
    spec = NetworkSpec(aux_head=aux_head, class_names=class_names, mean=mean, std=std, **numbers)
    if spec.stem == "imagenet" and spec.image_size < 32:
        raise InputError(
            f"image_size {spec.image_size} is too small for the ImageNet stem, which reduces by a factor of 8",
            "Use --preset cifar10, whose stem keeps the resolution",
        )
    return spec


def write_network(path: Path, spec: NetworkSpec) -> None:
    """Write `network.json`."""
    write_json(path, spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def read_network(path: Path) -> NetworkSpec:
    """Read `network.json`.

    Raises:
        InputError: There is no such file, it is of a newer schema, or a field is impossible.
        CorruptFileError: It is not JSON, or not a network.
    """
    values = read_json(path)
    if "genotype" not in values:
        raise CorruptFileError(f"{path}: JSON, but not a network (no genotype in it)")
    version = values.get("schema", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema {version} is newer than this nascli reads ({SCHEMA_VERSION})", "Upgrade nascli"
        )
    try:
        return NetworkSpec.model_validate(values)
    except ValidationError as error:
        raise explain(error, str(path), NetworkSpec) from error


def _fitting_preset(image_size: int | None) -> Preset:
    return "cifar10" if image_size is None or image_size <= LARGEST_CIFAR_IMAGE else "imagenet-mobile"
