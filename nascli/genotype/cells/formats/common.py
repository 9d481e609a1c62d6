"""Shared by the notations: op names, Python literals, cells out of foreign numbers, refusals that say where."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from nascli.config import explain, suggestion
from nascli.errors import InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.genotype import JsonScalar
from nascli.units import shorten

Edge = tuple[int, str]
"""One input of a block: the hidden state that is read (numbered as in the schema), and the op on it."""

_LARGEST = 1000  # more than any cell needs; range(10**9) is not spelled out

PASS_ON = "The genotype JSON says everything: pass that on instead (--out FILE.json)"


@dataclass(frozen=True)
class Cells:
    """The content of a text in a notation: a cell pair, a name if it gives one, and facts for the provenance."""

    normal: CellSpec
    reduction: CellSpec
    name: str | None = None
    facts: Mapping[str, JsonScalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """The op names of one tool.

    Args:
        tool: Its name in a refusal.
        ops: Its names, each with nascli's; where several mean the same op, the first is written.
        lacking: Its names for what nascli does not have, each with what it is.
    """

    tool: str
    ops: Mapping[str, str]
    lacking: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: object, where: str) -> str:
        """nascli's name of an op; InputError if it has none like it."""
        known = str(name)
        if known in self.ops:
            return self.ops[known]
        if known in self.lacking:
            raise InputError(
                f"{where}: {self.tool}'s op {known} is {self.lacking[known]}, which nascli does not have",
                "Put another op in its place",
            )
        raise InputError(f"{where}: {known!r} is no op of {self.tool} that is known", suggestion(known, self.ops))

    def write(self, op: str, where: str) -> str:
        """The tool's name of an op; InputError if it has none like it."""
        for name, meaning in self.ops.items():
            if meaning == op:
                return name
        raise InputError(f"{where}: {self.tool} has no op like {op}", PASS_ON)


def whole_number(value: object, where: str) -> int:
    """The value, if it is a whole number and not a truth value."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: {value!r} is no whole number", "States are counted 0, 1, 2, ...")
    return value


def make_cell(edges: Sequence[Edge], concat: Sequence[int] | None, where: str) -> CellSpec:
    """A cell whose blocks each add two consecutive edges.

    Args:
        concat: The states joined as output, in any order; None for all that nothing reads, the cell's inputs included
            (the rule of the ENAS and NAO code, which is not quite the paper's).

    Raises:
        InputError: An odd number of edges, or no possible cell.
    """
    if len(edges) % 2 or not edges:
        raise InputError(f"{where}: {len(edges)} ops, but a block has two", "Give two for each block")
    if concat is None:
        concat = unread_states(edges)
    try:
        blocks = tuple(
            Block(inputs=(first[0], second[0]), ops=(first[1], second[1]))
            for first, second in zip(edges[::2], edges[1::2], strict=True)
        )
        return CellSpec(blocks=blocks, concat=tuple(sorted(concat)))
    except ValidationError as error:
        raise explain(error, where, CellSpec) from error


def unread_states(edges: Sequence[Edge]) -> tuple[int, ...]:
    """All states that no block reads, the cell's two inputs included."""
    read = {state for state, _ in edges}
    return tuple(state for state in range(len(edges) // 2 + 2) if state not in read)


def edges_of(cell: CellSpec, where: str, tool: str) -> list[Edge]:
    """The edges of all blocks in order; InputError where a block does not add."""
    for k, block in enumerate(cell.blocks):
        if block.combine != "add":
            raise InputError(f"{where}.blocks[{k}] combines by {block.combine}, but {tool} only adds", PASS_ON)
    return [edge for block in cell.blocks for edge in zip(block.inputs, block.ops, strict=True)]


def count_blocks(genotype: CellGenotype, tool: str) -> int:
    """The number of blocks of both cells; InputError where they differ."""
    normal, reduction = len(genotype.normal.blocks), len(genotype.reduction.blocks)
    if normal != reduction:
        raise InputError(
            f"the normal cell has {normal} blocks and the reduction cell {reduction}, but in {tool} both have as many",
            PASS_ON,
        )
    return normal


def parse_python(text: str, where: str) -> ast.Module:
    """The syntax tree of Python text; InputError where it is none."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise InputError(f"{where}{line}: not Python", "Copy it again, from its beginning to its end") from error


def literal(node: ast.expr, where: str) -> object:
    """The value of a written-out expression: numbers, words, None, lists (tuples too) and ranges of these.

    Raises:
        InputError: Anything else, for instance a name or a call.
    """
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [literal(part, where) for part in parts]
        case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]):
            return _range(bounds, where)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]):
            return literal(inner, where)
    raise InputError(
        f"{where}: {shorten(ast.unparse(node), 40)} is not written out",
        "The text is read and never run: write it as a literal",
    )


def literal_list(node: ast.expr, where: str) -> list[object]:
    """A written-out list; InputError for anything else."""
    value = literal(node, where)
    if not isinstance(value, list):
        raise InputError(f"{where}: {shorten(ast.unparse(node), 40)} is no list")
    return value


def rows(items: Iterable[str], each: int) -> str:
    """Items as the inside of a Python list, `each` per line."""
    words = list(items)
    lines = [", ".join(words[k : k + each]) for k in range(0, len(words), each)]
    return "".join(f"        {line},\n" for line in lines)


def _range(bounds: list[ast.expr], where: str) -> list[object]:
    numbers = [literal(bound, where) for bound in bounds]
    whole = [number for number in numbers if type(number) is int and 0 <= number <= _LARGEST]
    if len(whole) != len(numbers) or len(whole) > 3 or whole[2:] == [0]:
        raise InputError(f"{where}: not a possible range", "For example range(2, 6)")
    return list(range(*whole))
