"""ENAS' notation: the micro search's arc, as its script hands it to `--child_fixed_arc`.

References:
    Pham et al., Efficient Neural Architecture Search via Parameter Sharing, ICML 2018; released code,
    `scripts/cifar10_micro_final.sh` and `src/cifar10/micro_child.py`.
"""

import re

from nascli.genotype.cells.formats.arcs import read_arc, write_arc
from nascli.genotype.cells.formats.common import Cells, Dialect
from nascli.genotype.cells.genotype import CellGenotype

_ENAS = Dialect(
    "ENAS",
    {"0": "sep_conv_3x3", "1": "sep_conv_5x5", "2": "avg_pool_3x3", "3": "max_pool_3x3", "4": "identity"},
)


def read_enas(text: str, which: str | None) -> Cells:
    """The cells that an ENAS arc says; its digits may also stand in one word. Errors as `read_arc`."""
    digits = text.strip()
    in_one_word = re.fullmatch(r"[0-9]{8,}", digits)  # every number of an arc of up to 8 blocks has one digit
    return read_arc(text, _ENAS, [int(digit) for digit in digits] if in_one_word else None)


def write_enas(genotype: CellGenotype) -> str:
    """The arc of a genotype, a line for each cell; errors as `write_arc`."""
    return write_arc(genotype, _ENAS)
