"""Arcs: four numbers per block (state, op, state, op), the normal cell first, as the scripts of ENAS and NAO have them.

Both number the states as nascli does (0 is the older input), and both join what nothing reads, the cell's inputs
included: an input that no block reads goes into the output. (The paper's rule, section 3, joins block outputs only.)
An arc cannot express another concat.

References:
    Pham et al., Efficient Neural Architecture Search via Parameter Sharing, ICML 2018; released code,
    `scripts/cifar10_micro_final.sh` and `src/cifar10/micro_child.py`.
    Luo et al., Neural Architecture Optimization, NeurIPS 2018; released PyTorch code, `NAO_V1/model.py`.

Deviation:
    NAO's code adds a row and a column of zeros after the last for its 2x2 pools: an average counts them, and they win
    against negative maxima. nascli's pools skip padding, as TensorFlow's do. At stride 2 on an even map nothing is
    added, and both are the same.
"""

import re

from nascli.errors import InputError
from nascli.genotype.cells.formats.common import (
    PASS_ON,
    Cells,
    Dialect,
    count_blocks,
    edges_of,
    make_cell,
    unread_states,
)
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec

_SHARED = {"0": "sep_conv_3x3", "1": "sep_conv_5x5", "2": "avg_pool_3x3", "3": "max_pool_3x3", "4": "identity"}
ENAS = Dialect("ENAS", _SHARED)
NAO = Dialect(
    "NAO",
    _SHARED
    | {
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

_SCRIPT = re.compile(r"^\s*(?:export\s+)?\w*arc\w*=(?:\"([^\"]*)\"|'([^']*)')", re.MULTILINE)
_LISTS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_NUMBERS = re.compile(r"[\s,]*\d+(?:[\s,]+\d+)+[\s,]*")


def recognize_arc(text: str) -> bool:
    """Whether a text may be an arc: numbers and nothing else, or a script with one. Whose it is cannot be seen."""
    return any(_NUMBERS.fullmatch(each) for each in (text, *_find_in_script(text)))


def read_arc(text: str, dialect: Dialect) -> Cells:
    """The cells of an arc.

    Args:
        text: All numbers between spaces or commas; or two lists in brackets; or the authors' script, which says
            `fixed_arc="..."`. Digits of an ENAS arc may also stand in one word.
        dialect: `ENAS` or `NAO`.

    Raises:
        InputError: Other text, a number that is out of range, or cells that differ in length.
    """
    digits = text.strip()
    in_one_word = dialect is ENAS and re.fullmatch(r"[0-9]{8,}", digits)  # up to 8 blocks each number has one digit
    numbers = [int(digit) for digit in digits] if in_one_word else _find_numbers(text, dialect.tool)
    if len(numbers) % 8 or not numbers:
        raise InputError(
            f"{len(numbers)} numbers are no {dialect.tool} arc",
            "Give four for each block (state, op, state, op): the normal cell, then as many for the reduction cell",
        )
    half = len(numbers) // 2
    return Cells(_read_cell(numbers[:half], "normal", dialect), _read_cell(numbers[half:], "reduction", dialect))


def write_arc(genotype: CellGenotype, dialect: Dialect) -> str:
    """The arc of a genotype, a line per cell.

    Raises:
        InputError: A concat other than the rule's, another op, a block that concatenates, cells that differ in length.
    """
    count_blocks(genotype, dialect.tool)
    cells = {"normal": genotype.normal, "reduction": genotype.reduction}
    return "".join(_write_cell(cell, dialect, role) + "\n" for role, cell in cells.items())


def _find_in_script(text: str) -> list[str]:
    return [re.sub(r"\$\{?\w+\}?", " ", double or single) for double, single in _SCRIPT.findall(text)]


def _find_numbers(text: str, tool: str) -> list[int]:
    script = _find_in_script(text)
    bare = " ".join(script) if script else text
    lengths = [len(re.findall(r"\d+", each)) for each in _LISTS.findall(bare)]
    if len(lengths) == 2 and lengths[0] != lengths[1]:
        raise InputError(
            f"{lengths[0]} numbers for the normal cell and {lengths[1]} for the reduction cell",
            f"In {tool} both have as many blocks",
        )
    words = re.sub(r"[\[\](),;\"']", " ", bare).split()
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= 3):
            raise InputError(f"{word[:20]!r} is no number of an arc", f"An {tool} arc reads 0 2 0 0 0 4 0 1 ...")
    return [int(word) for word in words]


def _read_cell(numbers: list[int], role: str, dialect: Dialect) -> CellSpec:
    edges = [
        (state, dialect.read(op, f"{role} cell, block {k // 2}"))
        for k, (state, op) in enumerate(zip(numbers[::2], numbers[1::2], strict=True))
    ]
    return make_cell(edges, None, f"{role} cell")


def _write_cell(cell: CellSpec, dialect: Dialect, role: str) -> str:
    edges = edges_of(cell, role, dialect.tool)
    joined = unread_states(edges)
    if joined != cell.concat:
        raise InputError(
            f"{role}.concat is {list(cell.concat)}, but an {dialect.tool} arc joins what nothing reads: {list(joined)}",
            PASS_ON,
        )
    return " ".join(f"{state} {dialect.write(op, f'{role}.blocks[{k // 2}]')}" for k, (state, op) in enumerate(edges))
