"""The cells in the table of network families."""

from typing import TYPE_CHECKING, ClassVar

from nascli.config import CellNetworkConfig, NetworkConfig
from nascli.errors import InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.models.cells.spec import PRESETS, STEM_MULTIPLIER, CellNetworkSpec
from nascli.models.spec import LARGEST_CIFAR_IMAGE, DataFields, NetworkFamily, SizeKnobs, merge_numbers

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
        """The preset's numbers where `config` and data give none; without a preset those that fit the image size."""
        assert isinstance(config, CellNetworkConfig)
        side = config.image_size or data.get("image_size")
        fitting = "cifar10" if side is None or side <= LARGEST_CIFAR_IMAGE else "imagenet-mobile"
        numbers = merge_numbers(PRESETS[config.preset or fitting].model_dump(), data, config)
        if numbers["stem_filters"] is None:
            numbers["stem_filters"] = STEM_MULTIPLIER * numbers["filters"]
        spec = CellNetworkSpec(genotype=architecture, aux_head=aux_head, **numbers)
        if spec.stem == "imagenet" and spec.image_size < 32:
            raise InputError(
                f"image_size {spec.image_size} is too small for the ImageNet stem, which reduces by a factor of 8",
                "Use --preset cifar10, whose stem keeps the resolution",
            )
        return spec

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
