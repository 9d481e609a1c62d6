"""Other tools' notations of cells, both ways: text in, genotype out, and back where the notation can say it."""

from nascli.genotype.cells.formats.arcs import looks_like_arc
from nascli.genotype.cells.formats.registry import (
    NOTATIONS,
    Notation,
    find_notation,
    read_notation,
    recognise,
    write_notation,
)

__all__ = ["NOTATIONS", "Notation", "find_notation", "looks_like_arc", "read_notation", "recognise", "write_notation"]
