"""Mobile networks in the table of network families."""

from typing import TYPE_CHECKING, ClassVar

from nascli.config import MobileNetworkConfig, NetworkConfig
from nascli.errors import InputError
from nascli.genotype.mobile.genotype import MobileGenotype
from nascli.models.mobile.spec import PRESETS, MobileNetworkSpec
from nascli.models.spec import LARGEST_CIFAR_IMAGE, DataFields, NetworkFamily, SizeKnobs, merge_numbers

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier
    from nascli.models.pretrained import Importer

_FEWEST_PIXELS = 32


class MobileFamily(NetworkFamily):
    """Chains of blocks of equal layers: MnasNet, MobileNetV2, and what is searched in their spaces."""

    spec = MobileNetworkSpec
    knobs = SizeKnobs("width", symbols={"width": "width"}, max_width=80, step=0.05)
    unused_train_keys = ("aux_weight",)
    default_preset = "mnasnet"
    presets: ClassVar = {
        name: {key: value for key, value in numbers.items() if key in MobileNetworkConfig.model_fields}
        for name, numbers in PRESETS.items()
    }

    def resolve(
        self, architecture: MobileGenotype, config: NetworkConfig, aux_head: bool, data: DataFields
    ) -> MobileNetworkSpec:
        """The preset's numbers where `config` and data give none; without a preset those that fit the image size."""
        assert isinstance(config, MobileNetworkConfig)
        side = config.image_size or data.get("image_size")
        fitting = "mnasnet-cifar" if side is None or side <= LARGEST_CIFAR_IMAGE else "mnasnet"
        numbers = merge_numbers(PRESETS[config.preset or fitting], data, config)
        spec = MobileNetworkSpec(genotype=architecture, **numbers)
        if spec.stem == "imagenet" and spec.image_size < _FEWEST_PIXELS:
            raise InputError(
                f"image_size {spec.image_size} is too small for the stem imagenet, which halves maps five times",
                "Use --preset mnasnet-cifar, which halves them three times",
            )
        return spec

    def build(self, spec: MobileNetworkSpec) -> "ImageClassifier":
        """A `MobileNetwork`."""
        from nascli.models.mobile.network import MobileNetwork

        return MobileNetwork(spec)

    def importer(self) -> "Importer":
        """The importer of timm's and torchvision's files."""
        from nascli.models.mobile.pretrained import MobileImporter

        return MobileImporter()
