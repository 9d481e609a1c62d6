"""The cells in the table of network families."""

from typing import TYPE_CHECKING, ClassVar

from nascli.config import CellNetworkConfig, NetworkConfig
from nascli.genotype.cells.genotype import CellGenotype
from nascli.models.cells.spec import PRESETS, CellNetworkSpec, resolve_cells
from nascli.models.spec import DataFields, NetworkFamily, SizeKnobs

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier, Supernet
    from nascli.models.pretrained import Importer


class CellFamily(NetworkFamily):
    """Networks of normal and reduction cells."""

    spec = CellNetworkSpec
    knobs = SizeKnobs("filters", "cells_per_stage", {"filters": "F", "cells_per_stage": "N"}, depths=range(1, 21))
    unused_train_keys = ()
    default_preset = "cifar10"
    presets: ClassVar = {
        name: preset.model_dump(include=set(CellNetworkConfig.model_fields), exclude_none=True)
        for name, preset in PRESETS.items()
    }

    def resolve(
        self, architecture: CellGenotype, config: NetworkConfig, aux_head: bool, data: DataFields
    ) -> CellNetworkSpec:
        """See `resolve_cells`."""
        assert isinstance(config, CellNetworkConfig)
        return resolve_cells(architecture, config, aux_head, data)

    def stream_size(self, config: NetworkConfig) -> int | None:
        """The preset's."""
        assert isinstance(config, CellNetworkConfig)
        return PRESETS[config.preset].image_size if config.preset else None

    def build(self, spec: CellNetworkSpec) -> "ImageClassifier":
        """A `CellNetwork`."""
        from nascli.models.cells.network import CellNetwork

        return CellNetwork(spec)

    def importer(self) -> "Importer":
        """The importer of NASNet and PNASNet files."""
        from nascli.models.cells.pretrained import CellImporter

        return CellImporter()

    def supernet(self) -> "Supernet":
        """Weights by position, block, branch and op."""
        from nascli.models.cells import supernet

        return supernet
