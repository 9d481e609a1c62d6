"""Networks of cells under their own types, for tests that look inside them."""

from pathlib import Path
from typing import Any

from nascli.config import CellNetworkConfig, NetworkConfig
from nascli.genotype.genotype import Genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.spec import NetworkSpec, read_network, resolve_network


def cell_config(config: NetworkConfig) -> CellNetworkConfig:
    """A recipe's network section that is of the cells."""
    assert isinstance(config, CellNetworkConfig)
    return config


def as_cells(spec: NetworkSpec) -> CellNetworkSpec:
    """A spec that is of the cells."""
    assert isinstance(spec, CellNetworkSpec)
    return spec


def resolve_cells(genotype: Genotype, config: NetworkConfig, **data: Any) -> CellNetworkSpec:  # noqa: ANN401
    """`resolve_network` for a genotype of cells."""
    return as_cells(resolve_network(genotype, config, **data))


def read_cells(path: Path) -> CellNetworkSpec:
    """`read_network` of a network of cells."""
    return as_cells(read_network(path))


def build_cells(genotype: Genotype, config: NetworkConfig, **data: Any) -> CellNetwork:  # noqa: ANN401
    """A network of cells with fresh weights."""
    return CellNetwork(resolve_cells(genotype, config, **data))
