"""DARTS' notation: `NAME = Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)`.

Two consecutive (op, state) pairs are one block, which adds; `normal_concat` says which states are joined. States are
numbered as in nascli: 0 is the older input. PC-DARTS, P-DARTS and unnas write the same; AutoDL-Projects (GDAS, SETN)
puts the two pairs of a block into brackets; some logs add a weight to each pair. All of these are read. The text may
be a whole `genotypes.py`, or a log in which such a line stands.

References:
    Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019; released code, `cnn/genotypes.py`.
"""

import ast
import re

from nascli.config import suggestion
from nascli.errors import InputError
from nascli.genotype.cells.formats.common import (
    Cells,
    Dialect,
    Edge,
    edges_of,
    literal_list,
    make_cell,
    parse_python,
    rows,
    whole_number,
)
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec

OPS = {
    "max_pool_2x2": "max_pool_2x2",
    "max_pool_3x3": "max_pool_3x3",
    "max_pool_5x5": "max_pool_5x5",
    "max_pool_7x7": "max_pool_7x7",
    "avg_pool_2x2": "avg_pool_2x2",
    "avg_pool_3x3": "avg_pool_3x3",
    "avg_pool_5x5": "avg_pool_5x5",
    "skip_connect": "identity",
    "conv_1x1": "conv_1x1",
    "conv_3x3": "conv_3x3",
    "conv_3x1_1x3": "conv_1x3_3x1",
    "conv_7x1_1x7": "conv_1x7_7x1",
    "sep_conv_3x3": "sep_conv_3x3",
    "sep_conv_5x5": "sep_conv_5x5",
    "sep_conv_7x7": "sep_conv_7x7",
    "dil_conv_3x3": "dil_sep_conv_3x3",
    "dil_conv_5x5": "dil_sep_conv_5x5",
    "nor_conv_1x1": "conv_1x1",
    "nor_conv_3x3": "conv_3x3",
}
"""DARTS' op names, and those of the code that took them over (unnas, AutoDL-Projects, NNI)."""

LACKING = {
    "none": "the zero op",
    "dil_sep_conv_3x3": "a dilated separable convolution applied twice",
}

_DARTS = Dialect("DARTS", OPS, LACKING)
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_OPENING = re.compile(r"(?:\b(\w+)\s*=\s*(?:\w+\.)?)?(?<!\bclass )(?<!\bdef )\b\w*Genotype\s*\(")
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|#[^\n]*|[()]")


def recognize_darts(text: str) -> bool:
    """Whether a text holds a DARTS genotype; one that only stands somewhere in a JSON object does not count."""
    return not text.lstrip().startswith("{") and bool(_find_genotypes(text))


def read_darts(text: str, which: str | None) -> Cells:
    """The cells of a text in DARTS' notation.

    Args:
        text: One `Genotype(...)`, with a name or without, or Python code or a log that holds some. Of several with one
            name the last counts, as it would in Python (a search log holds one per epoch).
        which: The name of the one that is meant.

    Raises:
        InputError: There is none, or several and none is named, or it is no possible genotype.
    """
    found = _find_genotypes(text)
    if not found:
        raise InputError("no Genotype(...) in the text", "DARTS' notation reads Genotype(normal=[...], ...)")
    if which is not None and which not in found:
        raise InputError(f"no genotype {which!r} in the text", suggestion(which, filter(None, found)))
    if which is None and len(found) > 1:
        names = ", ".join(name or "one without a name" for name in found)
        raise InputError(f"the text holds {len(found)} genotypes: {names}", "Choose one with --select NAME")
    name = which if which is not None else next(iter(found))
    values = _parse_arguments(found[name], name or "Genotype")
    normal, reduction = (
        _read_cell(values[cell], values[f"{cell}_concat"], f"{name or 'Genotype'}.{cell}")
        for cell in ("normal", "reduce")
    )
    return Cells(normal, reduction, name=name or None)


def write_darts(genotype: CellGenotype) -> str:
    """A genotype in DARTS' notation; InputError where it concatenates in a block, or has an op that DARTS has not."""
    lines = []
    for role, where, cell in (("normal", "normal", genotype.normal), ("reduce", "reduction", genotype.reduction)):
        edges = [
            f"({_DARTS.write(op, f'{where}.blocks[{k // 2}]')!r}, {state})"
            for k, (state, op) in enumerate(edges_of(cell, where, "DARTS"))
        ]
        lines.append(f"    {role}=[\n{rows(edges, 2)}    ],\n    {role}_concat={list(cell.concat)},\n")
    return f"{_identifier(genotype.name)} = Genotype(\n{''.join(lines)})\n"


def _identifier(name: str) -> str:
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return plain if plain.isidentifier() else f"cell_{plain}".rstrip("_")


def _find_genotypes(text: str) -> dict[str, str]:
    """Each `Genotype(...)` of a text by the name it is assigned to, "" without; the last of a name stays."""
    found = {}
    openings = list(_OPENING.finditer(text))
    ends = [*(each.start() for each in openings[1:]), len(text)]  # no genotype stands inside another
    for opening, end in zip(openings, ends, strict=False):
        before = text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()]
        inside = _read_inside(text, opening.end(), end)
        if "#" not in before and inside is not None and re.search(r"\bnormal\b|\[", inside):
            found[opening[1] or ""] = inside
    return found


def _read_inside(text: str, start: int, end: int) -> str | None:
    """The text up to the bracket that closes the one before `start`; None if that is not closed before `end`."""
    depth = 1
    for mark in _QUOTED.finditer(text, start, end):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if depth == 0:
            return text[start : mark.start()]
    return None


def _parse_arguments(inside: str, where: str) -> dict[str, ast.expr]:
    (statement,) = parse_python(f"Genotype({inside}\n)", where).body
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or len(call.args) > len(_FIELDS):
        raise InputError(f"{where}: not a Genotype(...)", f"It has the fields {', '.join(_FIELDS)}")
    values = dict(zip(_FIELDS, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg in _FIELDS:
            values[keyword.arg] = keyword.value
        elif not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None):
            raise InputError(f"{where}: field {keyword.arg} is unknown", f"Known: {', '.join(_FIELDS)}; leave it out")
    for name in _FIELDS:
        if name not in values:
            raise InputError(f"{where}: {name} is missing", f"Give {', '.join(_FIELDS)}")
    return values


def _read_cell(edges: ast.expr, concat: ast.expr, where: str) -> CellSpec:
    found: list[Edge] = []
    for item in literal_list(edges, where):
        if not isinstance(item, list) or not item:
            raise InputError(f"{where}: {item!r} is no pair of op and state", "For example ('sep_conv_3x3', 1)")
        if isinstance(item[0], str):
            found.append(_edge(item, f"{where}[{len(found)}]"))
        elif len(item) == 2 and len(found) % 2 == 0:
            found += [_edge(edge, f"{where}[{len(found) + k}]") for k, edge in enumerate(item)]
        else:
            raise InputError(f"{where}: a block of {len(item)} ops", "nascli's blocks have two")
    joined = [whole_number(state, f"{where}_concat") for state in literal_list(concat, f"{where}_concat")]
    return make_cell(found, joined, where)


def _edge(edge: object, where: str) -> Edge:
    match edge:
        case [str() as name, state] | [str() as name, state, int() | float()]:
            return whole_number(state, where), _DARTS.read(name, where)
    raise InputError(f"{where}: {edge!r} is no pair of op and state", "For example ('sep_conv_3x3', 1)")
