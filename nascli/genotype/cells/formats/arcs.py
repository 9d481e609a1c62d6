"""Arcs: four numbers a block (state, op, state, op), the normal cell first, as ENAS and NAO write them.

Both number the states as nascli does (0 is the older input), and both join what nothing reads, the cell's inputs
included: where an input is read by no block it goes into the output. (The paper's rule, section 3, joins block outputs
only.) An arc cannot say another concat.
"""

import re

from nascli.errors import InputError
from nascli.genotype.cells.formats.common import (
    PASS_ON,
    Cells,
    Dialect,
    Half,
    equal_blocks,
    halves_of,
    make_cell,
    unread,
)
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec

_SCRIPT = re.compile(r"^\s*(?:export\s+)?\w*arc\w*=(?:\"([^\"]*)\"|'([^']*)')", re.MULTILINE)
_LISTS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_NUMBERS = re.compile(r"[\s,]*\d+(?:[\s,]+\d+)+[\s,]*")


def looks_like_arc(text: str) -> bool:
    """Whether a text may be an arc: numbers and nothing else, or a script with one. Whose it is cannot be seen."""
    return _NUMBERS.fullmatch(text) is not None or _SCRIPT.search(text) is not None


def read_arc(text: str, dialect: Dialect, numbers: list[int] | None = None) -> Cells:
    """The cells that an arc says.

    Args:
        text: All numbers between spaces or commas; or two lists in brackets; or the authors' script, which says
            `fixed_arc="..."`.
        dialect: What the op numbers mean.
        numbers: The numbers, where the caller has read them.

    Raises:
        InputError: Other text, a number that is out of range, or cells that differ in length.
    """
    said = numbers if numbers is not None else _numbers(text, dialect.tool)
    if len(said) % 8 or not said:
        raise InputError(
            f"{len(said)} numbers are no {dialect.tool} arc",
            "Give four for each block (state, op, state, op): the normal cell, then as many for the reduction cell",
        )
    half = len(said) // 2
    return Cells(
        _read_cell(said[:half], dialect, "normal"),
        _read_cell(said[half:], dialect, "reduction"),
    )


def write_arc(genotype: CellGenotype, dialect: Dialect) -> str:
    """The arc of a genotype, a line for each cell.

    Raises:
        InputError: A concat other than the rule's, another op, a block that concatenates, cells that differ in length.
    """
    equal_blocks(genotype, dialect.tool)
    return "".join(
        _write_cell(cell, dialect, role) + "\n"
        for role, cell in (("normal", genotype.normal), ("reduction", genotype.reduction))
    )


def _numbers(text: str, tool: str) -> list[int]:
    script = [re.sub(r"\$\{?\w+\}?", " ", double or single) for double, single in _SCRIPT.findall(text)]
    bare = " ".join(script) if script else text
    lists = _LISTS.findall(bare)
    lengths = [len(re.findall(r"\d+", each)) for each in lists]
    if len(lists) == 2 and lengths[0] != lengths[1]:
        raise InputError(
            f"{lengths[0]} numbers for the normal cell and {lengths[1]} for the reduction cell",
            f"In {tool} both have as many blocks",
        )
    words = re.sub(r"[\[\](),;\"']", " ", bare).split()
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= 3):
            raise InputError(f"{word[:20]!r} is no number of an arc", f"An {tool} arc reads 0 2 0 0 0 4 0 1 ...")
    return [int(word) for word in words]


def _read_cell(numbers: list[int], dialect: Dialect, role: str) -> CellSpec:
    halves: list[Half] = [
        (state, dialect.read(op, f"{role} cell, block {k // 2}"))
        for k, (state, op) in enumerate(zip(numbers[::2], numbers[1::2], strict=True))
    ]
    return make_cell(halves, None, f"{role} cell")


def _write_cell(cell: CellSpec, dialect: Dialect, role: str) -> str:
    halves = halves_of(cell, role, dialect.tool)
    joined = unread(halves)
    if joined != cell.concat:
        raise InputError(
            f"{role}.concat is {list(cell.concat)}, but an {dialect.tool} arc joins what nothing reads: {list(joined)}",
            PASS_ON,
        )
    return " ".join(f"{state} {dialect.write(op, f'{role}.blocks[{k // 2}]')}" for k, (state, op) in enumerate(halves))
