"""The numbers that make a network of an architecture, by family, and how an image becomes its input."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from nascli.config.section import FamilySection, Section, one_of

CELL_PRESETS = ("cifar10", "imagenet-mobile", "imagenet-large", "pnasnet-large", "pnasnet-mobile")
MOBILE_PRESETS = ("mnasnet", "mnasnet-small", "mnasnet-cifar", "nas-bench-macro", "mobilenetv2")
"""The published settings that a network of each family can start from; `PRESETS` in `nascli.models.cells.spec` and
`nascli.models.mobile.spec` have their numbers."""

_PRESETS_HELP = (
    f"published settings to start from; default: by image size. For cells {', '.join(CELL_PRESETS)}; "
    f"for mobile networks {', '.join(MOBILE_PRESETS)}"
)


class NetworkConfig(FamilySection):
    """Section `[network]`: what every family has; a number that is not given gets the family's default."""

    image_size: int | None = Field(None, ge=8, le=16_384, description="height and width of the input in pixels")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="probability of dropping a feature before the classifier"
    )
    batch_norm_momentum: float | None = Field(
        None, gt=0, le=1, description="weight of a batch in the running statistics of batch normalization; 1 - decay"
    )
    batch_norm_epsilon: float | None = Field(None, gt=0, description="added to the variance in batch normalization")


class CellNetworkConfig(NetworkConfig):
    """The macro numbers of a network of cells; one that is not given comes from the preset."""

    preset: Annotated[str, one_of(CELL_PRESETS)] | None = Field(None, description=_PRESETS_HELP)
    filters: int | None = Field(None, ge=1, le=16_384, description="filters of an op in the first stage, F")
    cells_per_stage: int | None = Field(None, ge=1, le=200, description="normal cells in each of the three stages, N")
    stem: Literal["cifar", "imagenet"] | None = Field(
        None, description="layers before the first cell: cifar keeps the resolution, imagenet reduces it eightfold"
    )
    stem_filters: int | None = Field(None, ge=1, le=16_384, description="channels of the stem's convolution")
    skip_reduction_input: bool | None = Field(
        None, description="the cell after a reduction reads two cells before it instead of one"
    )
    reduction_placement: Literal["added", "in_place"] | None = Field(
        None,
        description="the reduction cell of a stage is added to its normal cells, or stands in for the first (PNASNet)",
    )
    zero_padded_pools: tuple[Literal["avg", "max"], ...] | None = Field(
        None, description="pools with a stride that count zeros around the map, as those of timm's weights do"
    )


class ResNetConfig(NetworkConfig):
    """The numbers of a residual network of He et al. 2016 for CIFAR; its depth is in its name."""

    family: Literal["resnet"] = "resnet"
    filters: int | None = Field(None, ge=1, le=16_384, description="channels of the first stage; default: 16")


class MobileNetworkConfig(NetworkConfig):
    """The macro numbers of a mobile network (MnasNet, MobileNetV2); one that is not given comes from the preset."""

    family: Literal["mobile"] = "mobile"
    preset: Annotated[str, one_of(MOBILE_PRESETS)] | None = Field(None, description=_PRESETS_HELP)
    width: float | None = Field(
        None, gt=0, le=20, description="factor of the channels of stem and blocks, then rounded to multiples of 8"
    )
    stem: Literal["cifar", "imagenet", "whole"] | None = Field(
        None,
        description="cifar leaves out the first two strides, so that maps are halved three times, not five times; "
        "whole leaves out that of the first convolution",
    )
    head_filters: int | None = Field(None, ge=1, le=65_536, description="channels of the last 1x1 convolution")
    padding: Literal["same", "symmetric"] | None = Field(
        None, description="zeros around a map before a stride: as TensorFlow (same) or PyTorch (symmetric) puts them"
    )
    activation: Literal["relu", "relu6"] | None = Field(None, description="what follows a batch norm")


class EdgeNetworkConfig(NetworkConfig):
    """The macro numbers of a network of cells with ops on their edges; by default those of NAS-Bench-201."""

    family: Literal["edges"] = "edges"
    filters: int | None = Field(None, ge=1, le=16_384, description="channels of the first stage, C; default: 16")
    cells_per_stage: int | None = Field(
        None, ge=1, le=200, description="cells in each of the three stages, N; default: 5"
    )


NETWORK_SECTIONS: dict[str, type[NetworkConfig]] = {
    "cells": CellNetworkConfig,
    "mobile": MobileNetworkConfig,
    "resnet": ResNetConfig,
    "edges": EdgeNetworkConfig,
}
"""The section `network` of each family; the same names as `nascli.models.families.FAMILIES`."""


def follow_family(section: object, family: str) -> tuple[object, list[str]]:
    """A recipe's `[network]` for an architecture of this family, which it need not name, and its unused keys.

    Where it names another family, or its keys, or presets, are those of another alone, its numbers would mean something
    else: only the image size stays.
    """
    if not isinstance(section, Mapping):
        return section, []
    keys = set(section) - {"family"}
    fitting = [name for name, each in NETWORK_SECTIONS.items() if keys <= each.model_fields.keys()]
    fitting = [name for name in fitting if _is_valid(section, name)] or fitting
    own = family if family in fitting or not fitting else fitting[0]  # a key of none is refused as this family's
    if section.get("family", own) == family:
        return {"family": family, **section}, []
    kept = {key: section[key] for key in ("image_size",) if key in section}
    return {"family": family} | kept, [key for key in section if key in keys - kept.keys()]


def _is_valid(section: Mapping[str, object], family: str) -> bool:
    try:
        NETWORK_SECTIONS[family].model_validate({key: value for key, value in section.items() if key != "family"})
    except ValidationError:
        return False
    return True


class Preprocessing(Section):
    """Steps from an image file to the input of a network that is evaluated; its size, mean and std stand beside it.

    The image is resized, and the central square of the network's size is cut out. The defaults are what our own
    networks are measured with.
    """

    resize: Literal["shorter_side", "both_sides"] = Field(
        "shorter_side", description="which sides get the length size / crop: both make a square of any image"
    )
    crop: float = Field(0.875, gt=0, le=1, description="side of the central square over that length; 1 is all of it")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="filter of the resizing")
