"""TF-slim's notation: the lists `operations`, `hiddenstate_indices` and `used_hiddenstates` of each cell.

In these lists **0 is h[i], the newest input, and 1 is h[i-1]**: the other way than in nascli. `used_hiddenstates` has a
1 for every state that is *not* joined as output. `none` is the identity. The lists of the AmoebaNet code are written
alike and are read too; its convolutions (`3x3`, `1x7_7x1`) are bottlenecked.

References:
    Zoph et al. 2018; tensorflow/models `research/slim/nets/nasnet/nasnet_utils.py`.
    Real et al. 2019; tensorflow/tpu `models/official/amoeba_net/model_specs.py`.
"""

import ast
import textwrap
from collections.abc import Sequence

from nascli.errors import InputError
from nascli.genotype.cells.formats.common import (
    PASS_ON,
    Cells,
    Dialect,
    edges_of,
    literal_list,
    make_cell,
    parse_python,
    rows,
    whole_number,
)
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec

_SLIM = Dialect(
    "TF-slim",
    {
        "none": "identity",
        "separable_3x3_2": "sep_conv_3x3",
        "separable_5x5_2": "sep_conv_5x5",
        "separable_7x7_2": "sep_conv_7x7",
        "avg_pool_2x2": "avg_pool_2x2",
        "avg_pool_3x3": "avg_pool_3x3",
        "avg_pool_5x5": "avg_pool_5x5",
        "max_pool_2x2": "max_pool_2x2",
        "max_pool_3x3": "max_pool_3x3",
        "max_pool_5x5": "max_pool_5x5",
        "max_pool_7x7": "max_pool_7x7",
        "1x1": "conv_1x1",
        "3x3": "bottleneck_conv_3x3",
        "1x7_7x1": "bottleneck_conv_1x7_7x1",
        "dil_2_separable_5x5_2": "sep_conv_5x5",  # AmoebaNet's code drops this dilation
    },
)
_LISTS = ("operations", "hiddenstate_indices", "used_hiddenstates")
_BLOCKS = 5  # the released cell always runs five


def recognize_slim(text: str) -> bool:
    """Whether a text holds slim's lists."""
    return all(name in text for name in _LISTS)


def read_slim(text: str) -> Cells:
    """The cells of slim's lists: the first three are the normal cell's, the next three the reduction cell's.

    Args:
        text: Python code that assigns each list twice, for instance a copy of `nasnet_utils.py`. What stands before a
            list's name (`reduction_operations`) does not matter.

    Raises:
        InputError: A list is missing, or they are no possible cells.
    """
    found = _find_assignments(text)
    for name in _LISTS:
        if len(found[name]) != 2:
            raise InputError(
                f"{name} is assigned {len(found[name])} times, not twice",
                f"Give {', '.join(_LISTS)} of the normal cell, then of the reduction cell (the same ones again where "
                "one cell serves as both, as in PNASNet)",
            )
    cells = [
        _read_cell(*(literal_list(found[name][turn], f"{role} {name}") for name in _LISTS), role=role)
        for turn, role in enumerate(("normal", "reduction"))
    ]
    return Cells(cells[0], cells[1])


def write_slim(genotype: CellGenotype) -> str:
    """A genotype as slim's lists; InputError where it has other ops, concatenates in a block, or has not 5 blocks."""
    return "".join(
        _write_cell(cell, role) for role, cell in (("normal", genotype.normal), ("reduction", genotype.reduction))
    )


def _find_assignments(text: str) -> dict[str, list[ast.expr]]:
    """The values of each list's name, in order, without the empty lists that the AmoebaNet code begins with."""
    found: dict[str, list[ast.expr]] = {name: [] for name in _LISTS}
    tree = parse_python(textwrap.dedent(text), "the lists")
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    for node in sorted(assignments, key=lambda node: node.lineno):
        target = node.targets[0]
        if isinstance(target, ast.Name) and isinstance(node.value, ast.List | ast.Tuple) and node.value.elts:
            for name in _LISTS:
                if target.id.endswith(name):
                    found[name].append(node.value)
    return found


def _read_cell(ops: Sequence[object], indices: Sequence[object], used: Sequence[object], *, role: str) -> CellSpec:
    if len(ops) != len(indices) or len(used) != len(ops) // 2 + 2:
        raise InputError(
            f"{role} cell: {len(ops)} operations, {len(indices)} hiddenstate_indices, {len(used)} used_hiddenstates",
            "B blocks have 2B, 2B and B + 2 of them",
        )
    edges = [
        (
            _swap_inputs(whole_number(state, f"{role} hiddenstate_indices[{k}]")),
            _SLIM.read(op, f"{role} operations[{k}]"),
        )
        for k, (state, op) in enumerate(zip(indices, ops, strict=True))
    ]
    flags = [whole_number(flag, f"{role} used_hiddenstates") for flag in used]
    return make_cell(edges, [_swap_inputs(state) for state, flag in enumerate(flags) if not flag], f"{role} cell")


def _write_cell(cell: CellSpec, role: str) -> str:
    if len(cell.blocks) != _BLOCKS:
        raise InputError(f"{role}: {len(cell.blocks)} blocks, but TF-slim's cell always runs {_BLOCKS}", PASS_ON)
    edges = edges_of(cell, role, "TF-slim")
    ops = [repr(_SLIM.write(op, f"{role}.blocks[{k // 2}]")) for k, (_, op) in enumerate(edges)]
    used = [int(_swap_inputs(state) not in cell.concat) for state in range(_BLOCKS + 2)]
    return (
        f"# {role} cell\noperations = [\n{rows(ops, 2).replace('        ', '    ')}]\n"
        f"hiddenstate_indices = {[_swap_inputs(state) for state, _ in edges]}\nused_hiddenstates = {used}\n"
    )


def _swap_inputs(state: int) -> int:
    """A state's number in the other convention: the two inputs change places."""
    return 1 - state if state in (0, 1) else state
