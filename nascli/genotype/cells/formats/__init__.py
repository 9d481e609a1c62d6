"""The notations of cells that other tools write: DARTS, ENAS, TF-slim, NNI, NAO."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from nascli.genotype.cells.formats.arcs import ENAS, NAO, read_arc, recognize_arc, write_arc
from nascli.genotype.cells.formats.common import Cells, Dialect
from nascli.genotype.cells.formats.darts import read_darts, recognize_darts, write_darts
from nascli.genotype.cells.formats.nni import read_nni, recognize_nni, write_nni
from nascli.genotype.cells.formats.slim import read_slim, recognize_slim, write_slim
from nascli.genotype.cells.genotype import CellGenotype, require_cells
from nascli.genotype.cells.space import SPACES, CellSpace
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.notations import Notation


def _notation(
    title: str,
    read: Callable[[str, str | None], Cells],
    write: Callable[[CellGenotype], str],
    usual: str,
    recognizes: Callable[[str], bool],
    asks: Literal["name", "space"] | None = None,
) -> Notation:
    """A notation whose genotypes usually belong to the search space `usual`."""

    def read_genotype(text: str, which: str | None, name: str, facts: Mapping[str, JsonScalar]) -> Genotype:
        cells = read(text, which)
        return CellGenotype(
            name=(cells.name or name)[:200],
            space=_find_space(cells, usual),
            normal=cells.normal,
            reduction=cells.reduction,
            provenance={**facts, **cells.facts},
        )

    def write_genotype(genotype: Genotype) -> str:
        return write(require_cells(genotype, f"{title} notation"))

    return Notation(title, read_genotype, write_genotype, recognizes, asks)


def _arc_notation(dialect: Dialect, usual: str) -> Notation:
    def read(text: str, which: str | None) -> Cells:
        return read_arc(text, dialect)

    return _notation(dialect.tool, read, partial(write_arc, dialect=dialect), usual, recognize_arc)


NOTATIONS: Mapping[str, Notation] = {
    "darts": _notation("DARTS", read_darts, write_darts, "darts", recognize_darts, "name"),
    "enas": _arc_notation(ENAS, "enas"),
    "slim": _notation("TF-slim", lambda text, which: read_slim(text), write_slim, "nasnet", recognize_slim),
    "nni": _notation("NNI", read_nni, write_nni, "nasnet", recognize_nni, "space"),
    "naonet": _arc_notation(NAO, "nasnet"),
}


def _find_space(cells: Cells, usual: str) -> str:
    """The space that holds both cells by ops and number of blocks, the usual one first and in doubt.

    The concat is left aside, as in the zoo: NASNet-A's departs from its own space's rule.
    """
    spaces = [SPACES[usual], *SPACES.values()]
    return next((space.name for space in spaces if _fits(space, cells)), usual)


def _fits(space: CellSpace, cells: Cells) -> bool:
    return all(
        len(cell.blocks) == space.blocks and all(op in space.ops for block in cell.blocks for op in block.ops)
        for cell in (cells.normal, cells.reduction)
    )
