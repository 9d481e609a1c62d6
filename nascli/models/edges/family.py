"""Networks of cells of edges in the table of network families, and their macro numbers. No torch."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from nascli.config import EdgeNetworkConfig, NetworkConfig
from nascli.genotype.edges.genotype import EdgeGenotype
from nascli.models.spec import DataFields, NetworkFamily, NetworkSpec, SizeKnobs, merge_numbers

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier

STAGES = 3

_NUMBERS: dict[str, Any] = {
    "filters": 16,
    "cells_per_stage": 5,
    "classes": 10,
    "image_size": 32,
    "dropout": 0.0,
    "batch_norm_momentum": 0.1,
    "batch_norm_epsilon": 1e-5,
}
"""Those of NAS-Bench-201."""


class EdgeNetworkSpec(NetworkSpec):
    """A cell with the macro numbers that turn it into one network.

    The network is: a 3x3 convolution to `filters` (C) channels and batch norm, then three stages of `cells_per_stage`
    (N) cells with C, 2C and 4C channels, a residual block with stride 2 before the second and the third, then batch
    norm, ReLU, global average pool, dropout, classifier.

    References: Dong and Yang 2020, "NAS-Bench-201", section 2.1 and figure 1.
    """

    family = "edges"

    genotype: EdgeGenotype
    filters: int = Field(ge=1, le=16_384)
    cells_per_stage: int = Field(ge=1, le=200)

    @property
    def architecture(self) -> EdgeGenotype:
        """The genotype."""
        return self.genotype

    @property
    def size_text(self) -> str:
        """N and C."""
        return f"N = {self.cells_per_stage}, C = {self.filters}"

    @property
    def stage_filters(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.filters * 2**stage for stage in range(STAGES))


class EdgeFamily(NetworkFamily):
    """Networks of cells with ops on their edges."""

    spec = EdgeNetworkSpec
    knobs = SizeKnobs("filters", "cells_per_stage", {"filters": "C", "cells_per_stage": "N"}, depths=range(1, 21))

    def resolve(
        self, architecture: EdgeGenotype, config: NetworkConfig, aux_head: bool, data: DataFields
    ) -> EdgeNetworkSpec:
        """The published numbers where `config` and data give none."""
        assert isinstance(config, EdgeNetworkConfig)
        return EdgeNetworkSpec(genotype=architecture, **merge_numbers(_NUMBERS, data, config))

    def build(self, spec: EdgeNetworkSpec) -> "ImageClassifier":
        """An `EdgeNetwork`."""
        from nascli.models.edges.network import EdgeNetwork

        return EdgeNetwork(spec)
