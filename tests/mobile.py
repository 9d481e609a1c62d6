"""Genotypes and networks of mobile blocks, for tests."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from nascli.config import MobileNetworkConfig
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, require_mobile
from nascli.genotype.resolve import zoo_genotype
from nascli.models.families import build
from nascli.models.mobile.layers import MobileLayer
from nascli.models.mobile.network import MobileNetwork
from nascli.models.mobile.spec import MobileNetworkSpec
from nascli.models.spec import resolve_network


def chain(name: str, stem: int, *blocks: str) -> MobileGenotype:
    """A genotype of blocks as `mbconv3 k5 se0.25 c40 n3 s2`, with a skip `pool` or, by default, `identity`."""
    made = []
    for text in blocks:
        op, *rest = text.split()
        skip = next((word for word in rest if word in ("pool", "none")), "identity")
        numbers = {word.rstrip("0123456789."): word.lstrip("kscne") for word in rest if word != skip}
        made.append(
            MobileBlock(
                op=op,
                kernel=int(numbers.get("k", 3)),
                se=float(numbers.get("se", 0)),
                skip=skip,
                filters=int(numbers["c"]),
                layers=int(numbers.get("n", 1)),
                stride=int(numbers.get("s", 1)),
            )
        )
    return MobileGenotype(name=name, space="mnasnet", stem=stem, blocks=tuple(made))


def published_chain(name: str) -> MobileGenotype:
    """A genotype of the zoo."""
    return require_mobile(zoo_genotype(name), "the test")


SMALL = chain(
    "small",
    8,
    "depthwise c8",
    "mbconv3 k5 se0.25 c8 n2 s2",
    "conv se0.25 c8 pool n2 s2",
    "mbconv6 c16 n2 s2",
    "conv k5 c12 n2",
    "depthwise k5 se0.5 c12 n2 s2 pool",
    "mbconv2 k7 c20 none n2",
)
"""Every op and skip in a network of few weights."""


def resolve_mobile(genotype: MobileGenotype, classes: int | None = None, **numbers: Any) -> MobileNetworkSpec:  # noqa: ANN401
    """A spec by keys of the section `[network]`."""
    spec = resolve_network(genotype, MobileNetworkConfig.model_validate(numbers), classes=classes)
    assert isinstance(spec, MobileNetworkSpec)
    return spec


def trained_mobile(genotype: MobileGenotype = SMALL, **numbers: Any) -> MobileNetwork:  # noqa: ANN401
    """A network of 3 classes with weights and statistics such as a training leaves."""
    torch.manual_seed(0)
    network = build(resolve_mobile(genotype, 3, **{"image_size": 32, "head_filters": 32} | numbers))
    assert isinstance(network, MobileNetwork)
    randomize_norms(network)
    return network.eval()


def randomize_norms(network: nn.Module) -> None:
    """Scales, shifts and statistics such as a training leaves."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean = torch.randn_like(module.weight) / 5
            module.running_var = torch.rand_like(module.weight) + 0.5


def layer_of(network: MobileNetwork, block: int, place: int = 0) -> MobileLayer:
    """A layer by the numbers of its block and its place in that, from 0."""
    layer = network.get_submodule(f"blocks.{block}.{place}")
    assert isinstance(layer, MobileLayer)
    return layer


_blocks = st.builds(
    MobileBlock,
    op=st.sampled_from(["conv", "depthwise", "mbconv2", "mbconv3"]),
    kernel=st.sampled_from([3, 5, 7]),
    se=st.sampled_from([0.0, 0.25]),
    skip=st.sampled_from(["identity", "pool", "none"]),
    filters=st.sampled_from([4, 8]),
    layers=st.integers(1, 2),
    stride=st.sampled_from([1, 2]),
)


@st.composite
def mobile_genotypes(draw: st.DrawFn) -> MobileGenotype:
    """Small genotypes of any blocks."""
    blocks = draw(st.lists(_blocks, min_size=1, max_size=3))
    return MobileGenotype(name="drawn", space="drawn", stem=draw(st.sampled_from([4, 8])), blocks=tuple(blocks))
