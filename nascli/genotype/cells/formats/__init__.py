"""Other tools' notations of cells, both ways: text in, genotype out, and back where the notation can express it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from nascli.config import suggestion
from nascli.errors import InputError
from nascli.genotype.cells.formats.arcs import looks_like_arc as looks_like_arc
from nascli.genotype.cells.formats.arcs import read_enas, read_naonet, write_enas, write_naonet
from nascli.genotype.cells.formats.common import Cells
from nascli.genotype.cells.formats.darts import read_darts, recognise_darts, write_darts
from nascli.genotype.cells.formats.nni import read_nni, recognise_nni, write_nni
from nascli.genotype.cells.formats.slim import read_slim, recognise_slim, write_slim
from nascli.genotype.cells.genotype import CellGenotype, require_cells
from nascli.genotype.cells.space import SPACES, CellSpace
from nascli.genotype.genotype import Genotype, JsonScalar

_LONGEST = 1 << 24  # a search log of days stays below


@dataclass(frozen=True)
class Notation:
    """A way of writing cells down.

    Args:
        title: Name for readers.
        read: The cells of a text; the second argument chooses where the text leaves something open.
        write: A genotype as text that `read` reads back.
        space: The search space that its genotypes usually belong to.
        asks: What a text may leave open: the name of one genotype of several, or the space.
        recognises: Whether a text is in this notation beyond doubt; None where that cannot be seen.
    """

    title: str
    read: Callable[[str, str | None], Cells]
    write: Callable[[CellGenotype], str]
    space: str
    asks: Literal["name", "space"] | None = None
    recognises: Callable[[str], bool] | None = None


NOTATIONS: Mapping[str, Notation] = {
    "darts": Notation("DARTS", read_darts, write_darts, "darts", "name", recognise_darts),
    "enas": Notation("ENAS", read_enas, write_enas, "enas"),
    "slim": Notation("TF-slim", read_slim, write_slim, "nasnet", None, recognise_slim),
    "nni": Notation("NNI", read_nni, write_nni, "nasnet", "space", recognise_nni),
    "naonet": Notation("NAO", read_naonet, write_naonet, "nasnet"),
}


def find_notation(name: str) -> Notation:
    """A notation by name; InputError with the nearest name where there is none."""
    if name not in NOTATIONS:
        raise InputError(f"notation {name!r} is unknown", suggestion(name, NOTATIONS))
    return NOTATIONS[name]


def recognise(text: str) -> str | None:
    """The one notation that a text is in beyond doubt, or None."""
    fitting = [name for name, each in NOTATIONS.items() if each.recognises and each.recognises(text)]
    return fitting[0] if len(fitting) == 1 else None


def read_notation(
    text: str,
    notation: str,
    *,
    which: str | None = None,
    name: str = "decoded",
    provenance: Mapping[str, JsonScalar] | None = None,
) -> CellGenotype:
    """A genotype out of a text in another tool's notation. The text is parsed, never run.

    Args:
        text: The text.
        notation: A key of `NOTATIONS`.
        which: What the text leaves open (`Notation.asks`): one name of several, or the space.
        name: What to call the genotype if the text does not name it.
        provenance: Added to what is known from the text.

    Raises:
        InputError: The notation is unknown, or the text is not in it, or says what nascli cannot build.
    """
    chosen = find_notation(notation)
    if len(text) > _LONGEST:
        raise InputError(f"{len(text)} letters are too many for a cell", "Cut out the part that holds it")
    cells = chosen.read(text, which)
    said = {"source": f"{chosen.title} notation", **(provenance or {}), **cells.facts}
    return CellGenotype(
        name=(cells.name or name)[:200],
        space=_space(cells, chosen.space),
        normal=cells.normal,
        reduction=cells.reduction,
        provenance=said,
    )


def write_notation(genotype: Genotype, notation: str) -> str:
    """A genotype in another tool's notation; reading it back gives the same canonical hash.

    Raises:
        InputError: The notation is unknown, or cannot say this genotype.
    """
    return find_notation(notation).write(require_cells(genotype, f"notation {notation}"))


def _space(cells: Cells, usual: str) -> str:
    """The space that holds both cells by ops and number of blocks, the usual one first and in doubt.

    The concat is left aside, as in the zoo: NASNet-A's departs from its own space's rule.
    """
    spaces = [SPACES[usual], *SPACES.values()]
    return next((space.name for space in spaces if _holds(space, cells)), usual)


def _holds(space: CellSpace, cells: Cells) -> bool:
    return all(
        len(cell.blocks) == space.blocks and all(op in space.ops for block in cell.blocks for op in block.ops)
        for cell in (cells.normal, cells.reduction)
    )
