"""Python text as values, without running any of it: only what is written out as a literal is taken."""

import ast
from collections.abc import Iterable

from nascli.errors import InputError
from nascli.units import shorten

_LARGEST = 1000  # more than any cell needs; range(10**9) is not spelled out


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
