"""The section `[space]` of a search: the space of architectures, by family."""

from typing import ClassVar, Literal

from pydantic import Field

from nascli.config.section import FamilySection


class SpaceConfig(FamilySection):
    """The search space, of whatever family."""

    name: str = Field(description="search space: a known name, or one for your own")


class CellSpaceConfig(SpaceConfig):
    """A search space of cells: a name, or a user's own with its ops and blocks."""

    name: str = Field(
        "nasnet",
        description="search space: nasnet, enas, darts, mnasnet, nas-bench-201, nas-bench-macro, or one of your own",
    )
    ops: tuple[str, ...] | None = Field(None, description="names of the ops of your own space")
    blocks: int | None = Field(None, ge=1, le=12, description="B, blocks per cell")
    combines: tuple[Literal["add", "concat"], ...] | None = Field(
        None, description="ways in which a block may combine its two inputs"
    )
    concat: Literal["unused", "all"] | None = Field(
        None, description="block outputs that a cell concatenates: those that no block reads, or all"
    )
    inputs: Literal["any", "distinct"] | None = Field(
        None, description="any: a block may read one state twice; distinct: it reads two different ones"
    )
    cells: Literal["two", "one"] | None = Field(
        None, description="two: a normal and a reduction cell; one: the same cell serves as both"
    )


class MobileSpaceConfig(SpaceConfig):
    """A search space of mobile blocks: a name, or a user's own; what that leaves out is as in `mnasnet`."""

    names: ClassVar = ("mnasnet", "nas-bench-macro")

    family: Literal["mobile"] = "mobile"
    name: str = Field("mnasnet", description="search space: mnasnet, nas-bench-macro, or a name for your own")
    stem: int | None = Field(None, description="channels of the first convolution")
    strides: tuple[int, ...] | None = Field(None, description="stride of each block")
    ops: tuple[str, ...] | None = Field(None, description="ops of a block: conv, linear, depthwise, mbconv2 to mbconv9")
    kernels: tuple[int, ...] | None = Field(None, description="kernels of a block: 1, 3, 5, 7")
    se: tuple[float, ...] | None = Field(None, description="ratios of squeeze-and-excitation; 0 is without")
    skips: tuple[str, ...] | None = Field(None, description="skips of a block: identity, pool, none")
    filters: tuple[tuple[int, ...], ...] | None = Field(None, description="choices of filters, a list for each block")
    base_filters: tuple[int, ...] | None = Field(
        None, description="instead of filters: one number for each block, which the multipliers make choices of"
    )
    filter_multipliers: tuple[float, ...] | None = Field(
        None, description="factors of base_filters; what they give is rounded to multiples of 4"
    )
    layers: tuple[tuple[int, ...], ...] | None = Field(
        None, description="choices of the number of layers, a list for each block"
    )


class EdgeSpaceConfig(SpaceConfig):
    """A search space of cells with ops on their edges: `nas-bench-201`, or a user's own with its ops."""

    names: ClassVar = ("nas-bench-201",)

    family: Literal["edges"] = "edges"
    name: str = Field("nas-bench-201", description="search space: nas-bench-201, or a name for your own with its ops")
    ops: tuple[str, ...] | None = Field(
        None, description="ops of your own space: none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"
    )


SPACE_SECTIONS: dict[str, type[SpaceConfig]] = {
    "cells": CellSpaceConfig,
    "mobile": MobileSpaceConfig,
    "edges": EdgeSpaceConfig,
}
"""The section `space` of each family of architectures."""
