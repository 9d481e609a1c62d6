"""NAO's notation: the arc that the scripts of NAONet (V1) hand to `--arch`. As ENAS', with more ops.

References:
    Luo et al., Neural Architecture Optimization, NeurIPS 2018; released PyTorch code, `NAO_V1/model.py`.

Deviation:
    That code adds a row and a column of zeros after the last for its 2x2 pools: an average counts them, and they win
    against negative maxima. nascli's pools leave padding out, as TensorFlow's do. At stride 2 on an even map nothing is
    added, and both are the same.
"""

from nascli.genotype.cells.formats.arcs import read_arc, write_arc
from nascli.genotype.cells.formats.common import Cells, Dialect
from nascli.genotype.cells.genotype import CellGenotype

_NAO = Dialect(
    "NAO",
    {
        "0": "sep_conv_3x3",
        "1": "sep_conv_5x5",
        "2": "avg_pool_3x3",
        "3": "max_pool_3x3",
        "4": "identity",
        "5": "identity",
        "6": "conv_1x1",
        "7": "conv_3x3",
        "8": "conv_1x3_3x1",
        "9": "conv_1x7_7x1",
        "10": "max_pool_2x2",
        "11": "max_pool_3x3",
        "12": "max_pool_5x5",
        "13": "avg_pool_2x2",
        "14": "avg_pool_3x3",
        "15": "avg_pool_5x5",
    },
)


def read_naonet(text: str, which: str | None) -> Cells:
    """The cells that an arc of NAO says; errors as `read_arc`."""
    return read_arc(text, _NAO)


def write_naonet(genotype: CellGenotype) -> str:
    """The arc of a genotype, a line for each cell; errors as `write_arc`."""
    return write_arc(genotype, _NAO)
