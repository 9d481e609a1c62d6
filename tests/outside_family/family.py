"""Chains of three convolutions, each of 3 kernels and 2 widths: the family, without torch.

An entry point names this module; importing it adds the family to the four tables of nascli.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from nascli.config import NETWORK_SECTIONS, SPACE_SECTIONS, NetworkConfig, SpaceConfig, Strict
from nascli.errors import InputError
from nascli.genotype import families
from nascli.genotype.drawing.graph import Arrow, Cluster, Graph, Vertex
from nascli.genotype.drawing.shapes import EDGE_COLOR, INK, Box, Group, Paint, Plate, Scene, Stroke, Words, title_words
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.notations import Notation
from nascli.genotype.space import ChoiceGroup, SearchSpace, check_tokens
from nascli.models import families as networks
from nascli.models.spec import DataFields, NetworkFamily, NetworkSpec, SizeKnobs

if TYPE_CHECKING:
    from nascli.models.interface import ImageClassifier

Kernel = Literal[1, 3, 5]
KERNELS: tuple[Kernel, ...] = (1, 3, 5)
WIDTHS = (1, 2)
LENGTH = 3
PAINT = Paint("#e8e0ff", "#6b4fb3", "#2e1d5e")


class Layer(Strict):
    """A convolution: its kernel, and its width as a multiple of the network's filters."""

    kernel: Kernel
    width: Literal[1, 2]

    @property
    def label(self) -> str:
        """Words for a drawing."""
        return f"conv {self.kernel}×{self.kernel}, {self.width}F"


class ChainGenotype(Strict):
    """Three convolutions in a row."""

    family: Literal["chain"] = "chain"
    name: Annotated[str, Field(min_length=1)]
    space: str
    layers: tuple[Layer, Layer, Layer]
    provenance: dict[str, JsonScalar] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.space, self.layers))

    def canonical(self) -> Self:
        """The same: no two chains are one network."""
        return self

    def canonical_hash(self) -> str:
        """16 digits of the layers alone."""
        layers = [(layer.kernel, layer.width) for layer in self.layers]
        return hashlib.sha256(json.dumps(["chain", layers]).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """All on one level, as pydantic writes it."""
        return self.model_dump_json(indent=2) + "\n"


class ChainSpace(Strict):
    """Chains over some of the kernels."""

    family: Literal["chain"] = "chain"
    name: str
    kernels: tuple[Kernel, ...] = KERNELS

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Kernel and width of each layer."""
        return (len(self.kernels), len(WIDTHS)) * LENGTH

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """Kernel and width of each layer."""
        return ("kernel", "width") * LENGTH

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> ChainGenotype:
        """See `SearchSpace`."""
        check_tokens(tokens, self, f"Two for each of {LENGTH} layers")
        pairs = zip(tokens[::2], tokens[1::2], strict=True)
        layers = [{"kernel": self.kernels[kernel], "width": WIDTHS[width]} for kernel, width in pairs]
        values = {"name": name, "space": self.name, "layers": layers, "provenance": dict(provenance or {})}
        return ChainGenotype.model_validate(values)

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """See `SearchSpace`."""
        layers = require_chain(genotype).layers
        if any(layer.kernel not in self.kernels for layer in layers):
            raise InputError(f"space {self.name!r} has the kernels {self.kernels} alone")
        pairs = [(self.kernels.index(layer.kernel), WIDTHS.index(layer.width)) for layer in layers]
        return tuple(token for pair in pairs for token in pair)

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """Kernel and width of each layer, as numbers."""
        layers = require_chain(genotype).layers
        return {
            ("layer", str(place), name): value
            for place, layer in enumerate(layers)
            for name, value in (("kernel", layer.kernel), ("width", layer.width))
        }

    def choice_groups(self) -> list[ChoiceGroup]:
        """The kernels of all layers."""
        count = len(self.kernels)
        return [
            ChoiceGroup(
                name="kernels",
                title="Kernels of the chain",
                labels=tuple(f"{kernel}×{kernel}" for kernel in self.kernels),
                uniform=(1 / count,) * count,
                read=lambda genotype: [self.kernels.index(layer.kernel) for layer in require_chain(genotype).layers],
            )
        ]

    def summary(self) -> str:
        """One line for the report."""
        return f"{LENGTH} layers, {len(self.kernels)} kernels"


def require_chain(genotype: Genotype) -> ChainGenotype:
    """The genotype as a chain; InputError for another family's."""
    if not isinstance(genotype, ChainGenotype):
        raise InputError(f"{genotype.name} is no chain")
    return genotype


class ChainSpaceConfig(SpaceConfig):
    """The recipe section `[space]` of chains."""

    names: ClassVar[tuple[str, ...]] = ("chain",)
    family: Literal["chain"] = "chain"
    name: str = "chain"
    kernels: tuple[Kernel, ...] = KERNELS


def resolve_chain_space(config: SpaceConfig) -> SearchSpace:
    """The space of a recipe."""
    assert isinstance(config, ChainSpaceConfig)
    return ChainSpace(name=config.name, kernels=config.kernels)


def draw_scene(genotype: ChainGenotype) -> Scene:
    """A column of boxes, the first layer at the bottom."""
    shapes: list[Plate | Stroke | Words] = []
    for place, layer in enumerate(reversed(genotype.layers)):
        box = Box(40, 60.0 * place, 160, 32)
        shapes.append(Plate(box, PAINT, 7, hint=layer.label))
        shapes.append(Words(layer.label, (box.middle, box.top + 21), 13, INK))
        if place:
            start, end = (box.middle, box.top), (box.middle, box.top - 28)
            shapes.append(Stroke((start, start, end, end), EDGE_COLOR))
    groups = (Group(36, 36, title_words(genotype, 240)), Group(36, 100, tuple(shapes)))
    return Scene(genotype.name, 460, 320, groups)


def draw_graph(genotype: ChainGenotype) -> Graph:
    """One cluster of three vertices."""
    vertices = tuple(Vertex(f"layer_{k}", layer.label, "layer") for k, layer in enumerate(genotype.layers))
    arrows = tuple(Arrow(one.key, other.key) for one, other in pairwise(vertices))
    return Graph(genotype.name, (Cluster("chain", "Chain", vertices, arrows),), {"layer": PAINT})


def read_chain(text: str, which: str | None, name: str, facts: Mapping[str, JsonScalar]) -> ChainGenotype:
    """A chain from kernels and widths: `3x1 5x2 1x1`."""
    try:
        pairs = [tuple(map(int, word.split("x"))) for word in text.split()]
        layers = [{"kernel": kernel, "width": width} for kernel, width in pairs]
        return ChainGenotype.model_validate({"name": name, "space": "chain", "layers": layers, "provenance": facts})
    except ValueError as error:
        raise InputError(f"{text!r} is no chain", "For example 3x1 5x2 1x1") from error


def recognize_chain(text: str) -> bool:
    """Kernels and widths alone."""
    return re.fullmatch(r"\s*(\dx\d\s*){3}", text) is not None


def write_chain(genotype: Genotype) -> str:
    """The text of a chain."""
    return " ".join(f"{layer.kernel}x{layer.width}" for layer in require_chain(genotype).layers)


class ChainNetworkConfig(NetworkConfig):
    """The recipe section `[network]` of chains."""

    family: Literal["chain"] = "chain"
    filters: int | None = Field(None, ge=1, description="F")


class ChainNetworkSpec(NetworkSpec):
    """A chain at a size: layer k has stride 2 but for the first, and width times F filters."""

    family = "chain"

    genotype: ChainGenotype
    filters: int = Field(ge=1)

    @property
    def architecture(self) -> ChainGenotype:
        """The genotype."""
        return self.genotype

    @property
    def size_text(self) -> str:
        """F."""
        return f"F = {self.filters}"


class ChainNetworks(NetworkFamily):
    """The entry of the table of networks."""

    spec = ChainNetworkSpec
    knobs = SizeKnobs("filters", symbols={"filters": "F"})

    def resolve(
        self, architecture: ChainGenotype, config: NetworkConfig, aux_head: bool, data: DataFields
    ) -> ChainNetworkSpec:
        """A complete spec; chains have no auxiliary head."""
        defaults = {"filters": 8, "dropout": 0.0, "batch_norm_momentum": 0.1, "batch_norm_epsilon": 1e-5}
        defaults |= {"classes": 10, "image_size": 32}
        given = {key: value for key, value in data.items() if value is not None}
        chosen = config.model_dump(exclude_none=True, exclude={"family"})
        return ChainNetworkSpec.model_validate({"genotype": architecture} | defaults | given | chosen)

    def build(self, spec: ChainNetworkSpec) -> "ImageClassifier":
        """The network; torch is imported here."""
        from tests.outside_family.network import ChainNetwork

        return ChainNetwork(spec)


SPACE_SECTIONS["chain"] = ChainSpaceConfig
NETWORK_SECTIONS["chain"] = ChainNetworkConfig
families.FAMILIES["chain"] = families.Family(
    genotype=ChainGenotype,
    space=ChainSpace,
    spaces={"chain": ChainSpace(name="chain")},
    resolve_space=resolve_chain_space,
    scene=draw_scene,
    graph=draw_graph,
    notations={"chain": Notation("Chain", read_chain, write_chain, recognize_chain)},
)
networks.FAMILIES["chain"] = ChainNetworks()
