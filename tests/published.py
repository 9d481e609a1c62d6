"""Published architectures by family, and cells typed as cells."""

from pathlib import Path

from nascli.genotype.cells.genotype import CellGenotype, require_cells
from nascli.genotype.genotype import Genotype, read_genotype
from nascli.genotype.resolve import zoo_genotype, zoo_names

CELL_NAMES = tuple(name for name in zoo_names() if zoo_genotype(name).family == "cells")
MOBILE_NAMES = tuple(name for name in zoo_names() if zoo_genotype(name).family == "mobile")


def published_cell(name: str) -> CellGenotype:
    """A cell of the zoo."""
    return as_cells(zoo_genotype(name))


def cell_file(path: Path) -> CellGenotype:
    """A cell from a JSON file."""
    return as_cells(read_genotype(path))


def as_cells(genotype: Genotype) -> CellGenotype:
    """A genotype that has to be one of cells."""
    return require_cells(genotype, "the test")
