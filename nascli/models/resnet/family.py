"""The residual networks of He et al. 2016 for CIFAR, `resnet-20` and its like: names, spec and family. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from nascli.config import NetworkConfig, ResNetConfig
from nascli.errors import InputError
from nascli.models.spec import DataFields, NetworkFamily, NetworkSpec, SizeKnobs, merge_numbers

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
"""6n + 2 layers: a stem, three stages of n blocks of two convolutions, a classifier. 20 to 110 are published."""


@dataclass(frozen=True)
class ResNetDepth:
    """The architecture `resnet-<depth>`: not searched for, so without a genotype."""

    family: ClassVar[str] = "resnet"

    depth: int

    @property
    def name(self) -> str:
        """`resnet-20`."""
        return f"resnet-{self.depth}"


class ResNetSpec(NetworkSpec):
    """Depth, and channels of the three stages; the paper's are 16, 32 and 64."""

    family = "resnet"

    depth: int = Field(ge=8)
    widths: tuple[int, int, int]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.depth % 6 != 2:
            raise ValueError(f"depth {self.depth} is not 6n + 2")
        if not 1 <= self.widths[0] <= self.widths[1] <= self.widths[2]:
            raise ValueError(f"widths {self.widths} do not rise from 1")
        return self

    @property
    def architecture(self) -> ResNetDepth:
        """The depth."""
        return ResNetDepth(self.depth)

    @property
    def size_text(self) -> str:
        """Channels by stage."""
        return f"widths {', '.join(map(str, self.widths))}"

    def config_values(self) -> dict[str, object]:
        """Every number; of the widths that of the first stage."""
        return {"filters": self.widths[0], **super().config_values()}


class ResNetFamily(NetworkFamily):
    """Residual networks of a fixed shape, to compare with."""

    spec = ResNetSpec
    knobs = SizeKnobs("filters", symbols={"filters": "F"})

    def find(self, name: str) -> ResNetDepth | None:
        """A depth by its name."""
        prefix, _, depth = name.partition("-")
        if prefix != "resnet":
            return None
        if depth not in map(str, DEPTHS):
            raise InputError(f"cell {name!r}: no such network", f"Known: {', '.join(f'resnet-{n}' for n in DEPTHS)}")
        return ResNetDepth(int(depth))

    def resolve(self, architecture: ResNetDepth, config: NetworkConfig, aux_head: bool, data: DataFields) -> ResNetSpec:
        """The paper's numbers where `config` and data give none."""
        assert isinstance(config, ResNetConfig)
        defaults: dict[str, Any] = {"classes": 10, "image_size": 32, "dropout": 0.0}
        defaults |= {"batch_norm_momentum": 0.1, "batch_norm_epsilon": 1e-5, "filters": 16}
        numbers = merge_numbers(defaults, data, config)
        filters = numbers.pop("filters")
        return ResNetSpec(depth=architecture.depth, widths=(filters, 2 * filters, 4 * filters), **numbers)

    def build(self, spec: ResNetSpec) -> "ImageClassifier":
        """A `ResNet`."""
        from nascli.models.resnet.network import ResNet

        return ResNet(spec)
