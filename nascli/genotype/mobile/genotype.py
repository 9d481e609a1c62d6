"""The genotype of the mobile family: a chain of blocks, each of which repeats one layer."""

import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from nascli.config import Strict
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar, spread_json
from nascli.records import sha256_json

MOBILE = "mobile"

Kernel = Literal[1, 3, 5, 7]
Skip = Literal["identity", "pool", "none"]
Op = Annotated[str, StringConstraints(pattern="^(conv|linear|depthwise|mbconv[2-9])$")]
Ratio = Annotated[float, Field(ge=0, le=1), AfterValidator(abs)]  # -0.0 is 0.0: two texts, one network


class MobileBlock(Strict):
    """Equal layers in a row; the first of them has the stride, and takes the channels of the block before.

    Args:
        op: `conv`: a dense convolution. `linear`: one without activation. `depthwise`: a depthwise convolution, then
            1x1 to the filters. `mbconvE`: 1x1 to E times the input's channels, a depthwise convolution, then 1x1 to the
            filters.
        kernel: Height and width of that convolution.
        se: Channels of squeeze-and-excitation as a share of the layer's input channels; 0 is without.
        skip: What is added to a layer's output: its input, its input averaged over 3x3 pixels, or nothing. Where the
            channels differ, and for the identity where there is a stride, nothing is.
        filters: Channels of every layer's output.
    """

    op: Op
    kernel: Kernel
    se: Ratio = 0.0
    skip: Skip
    filters: int = Field(ge=1, le=16_384)
    layers: int = Field(ge=1, le=12)
    stride: Literal[1, 2]

    @property
    def expansion(self) -> int:
        """Channels of the depthwise convolution over those of the input; 1 where there is no expansion."""
        return expansion_of(self.op)

    def skips(self, channels_in: int, stride: int) -> bool:
        """Whether a layer of this block with this input has something added to its output."""
        return self.skip != "none" and channels_in == self.filters and (stride == 1 or self.skip == "pool")


class MobileGenotype(Strict):
    """A chain of blocks with a name and an origin; see `nascli.genotype.genotype.Genotype`.

    Args:
        stem: Channels of the first convolution, which has stride 2 at full resolution.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[2] = Field(default=2, alias="schema")  # 1 is that of files without a family
    family: Literal["mobile"] = "mobile"
    name: str = Field(min_length=1, max_length=200)
    space: str = Field(min_length=1, max_length=200)
    stem: int = Field(ge=1, le=16_384)
    blocks: tuple[MobileBlock, ...] = Field(min_length=1, max_length=32)
    provenance: dict[str, JsonScalar] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.space, self.stem, self.blocks))

    @property
    def inputs(self) -> tuple[int, ...]:
        """Channels that each block reads."""
        return (self.stem, *(block.filters for block in self.blocks[:-1]))

    def canonical(self) -> Self:
        """The genotype with skip `none` wherever a block has no layer that a skip could be in.

        Decided by the genotype's own widths and strides: a network of another width, or at another resolution, has its
        skips in the same layers.
        """
        blocks = (
            block if block.layers > 1 or block.skips(channels, block.stride) else _without_skip(block)
            for channels, block in zip(self.inputs, self.blocks, strict=True)
        )
        return self.model_copy(update={"blocks": tuple(blocks)})

    def canonical_hash(self) -> str:
        """16 hexadecimal digits that are equal exactly for genotypes that build the same network."""
        canonical = self.canonical()
        return sha256_json([MOBILE, canonical.stem, [block.model_dump() for block in canonical.blocks]])[:16]

    def to_json(self) -> str:
        """The genotype as JSON text, one block per line."""
        values = self.model_dump(mode="json", by_alias=True)
        blocks = ",\n    ".join(json.dumps(block) for block in values["blocks"])
        lines = [
            f'"{key}": [\n    {blocks}\n  ]' if key == "blocks" else f'"{key}": {spread_json(value)}'
            for key, value in values.items()
        ]
        return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def expansion_of(op: str) -> int:
    """E of `mbconvE`, 1 of other ops."""
    return int(op.removeprefix("mbconv")) if op.startswith("mbconv") else 1


def op_words(op: str) -> str:
    """An op for readers: `MBConv6` for `mbconv6`, as papers write it."""
    return op.replace("mbconv", "MBConv")


def require_mobile(genotype: Genotype, purpose: str) -> MobileGenotype:
    """The genotype as one of mobile blocks; InputError, with the purpose that needs them, for another family's."""
    if not isinstance(genotype, MobileGenotype):
        raise InputError(f"{genotype.name} is of family {genotype.family}, but {purpose} needs mobile blocks")
    return genotype


def _without_skip(block: MobileBlock) -> MobileBlock:
    return block.model_copy(update={"skip": "none"})
