"""The macro numbers of a network of cells, and the published ones. No torch."""

from typing import Literal

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from nascli.genotype.cells.genotype import CellGenotype
from nascli.models.spec import NetworkSpec

STEM_MULTIPLIER = 3
"""The CIFAR stem has this many times F channels (released code)."""


class CellNetworkSpec(NetworkSpec):
    """A genotype with the macro numbers that turn it into one network.

    The network is: stem, then three stages of `cells_per_stage` (N) normal cells with a reduction cell before the
    second and the third, then ReLU, global average pool, dropout, classifier. Ops have `filters` (F) channels in the
    first stage, doubled at every reduction. With `reduction_placement` `in_place` (PNASNet) the reduction cell is the
    first of the N cells of its stage; with `added` (NASNet) it stands before them. Pools look at the map alone; those
    that have a stride and are in `zero_padded_pools` count zeros around it, too, as in tools whose weights were
    imported.

    References: Zoph et al. 2018, section 3 and figure 2; what the paper leaves open follows the released code.
    """

    family = "cells"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    genotype: CellGenotype
    filters: int = Field(ge=1, le=16_384)
    cells_per_stage: int = Field(ge=1, le=200)
    stem: Literal["cifar", "imagenet"]
    stem_filters: int = Field(ge=1, le=65_536)
    skip_reduction_input: bool
    reduction_placement: Literal["added", "in_place"] = "added"
    zero_padded_pools: tuple[Literal["avg", "max"], ...] = ()
    aux_head: bool = False

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """All fields; that of imported weights alone only where there are such."""
        values: dict[str, object] = handler(self)
        if not self.zero_padded_pools:
            values.pop("zero_padded_pools", None)
        return values

    @property
    def architecture(self) -> CellGenotype:
        """The genotype."""
        return self.genotype

    @property
    def size_text(self) -> str:
        """N and F."""
        return f"N = {self.cells_per_stage}, F = {self.filters}"

    def config_values(self) -> dict[str, object]:
        """Every macro number; `stem_filters` only where it does not follow from `filters`."""
        values = super().config_values()
        if self.stem_filters == STEM_MULTIPLIER * self.filters:
            del values["stem_filters"]
        return values

    def file_values(self) -> dict[str, object]:
        """The content of `network.json`, which says no family."""
        values = super().file_values()
        del values["family"]
        return values

    def without_aux_head(self) -> "CellNetworkSpec":
        """The same network without auxiliary head."""
        return self.model_copy(update={"aux_head": False})


class _Preset(BaseModel):
    filters: int
    cells_per_stage: int
    image_size: int
    classes: int
    stem: Literal["cifar", "imagenet"] = "imagenet"
    stem_filters: int | None
    dropout: float = 0.5
    skip_reduction_input: bool = False
    batch_norm_momentum: float = 3e-4
    batch_norm_epsilon: float = 1e-3
    reduction_placement: Literal["added", "in_place"] = "added"


_CIFAR = _Preset(
    filters=32,
    cells_per_stage=6,
    image_size=32,
    classes=10,
    stem="cifar",
    stem_filters=None,
    dropout=0.0,
    batch_norm_momentum=0.1,
    batch_norm_epsilon=1e-5,
)
_MOBILE = _Preset(filters=44, cells_per_stage=4, image_size=224, classes=1000, stem_filters=32)
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
