"""NNI's notation: the architecture dictionary that its NASNet, ENAS, AmoebaNet, PNAS and DARTS spaces export.

Keys are `normal/op_2_0`, `normal/input_2_0`, ..., `reduce/...`: cell, block (by the number of its state), half. Inputs
are numbers, or lists of one (NNI 3). States are numbered as in nascli. `width` and `depth` may stand there too.

The dictionary does not say which states are joined; its space does: DARTS and PNAS join every block, the others those
that no block reads. So the space decides: DARTS has 4 blocks, the others 5, and of these only PNAS joins all.

The DARTS example of NNI 1 and 2 exports other keys: `normal_n3_p0`, `normal_n3_p1`, ...: cell, block (by the number of
its state), and the state that is read; each says an op, or nothing (`[]`). `normal_n3_switch` says which two of them
the block adds. All blocks are joined as output. An op is a name, or a number in the example's order, or a list that is
true at that number; a switch is two keys, or their two numbers, or a list that is true at these. Versions of NNI differ
in this, and all are read.

References:
    NNI `nni/nas/hub/pytorch/nasnet.py` and `nni/nas/nn/pytorch/cell.py`; of the example
    `examples/nas/oneshot/darts/model.py` (2), `examples/nas/darts/model.py` and `nni/nas/pytorch/mutator.py` (1).
"""

import ast
import json
import re
from dataclasses import dataclass, replace
from typing import Literal

from nascli.config import suggestion
from nascli.errors import InputError
from nascli.genotype.cells.formats import darts
from nascli.genotype.cells.formats.common import (
    PASS_ON,
    Cells,
    Dialect,
    Edge,
    count_blocks,
    edges_of,
    make_cell,
    whole_number,
)
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.genotype import JsonScalar


@dataclass(frozen=True)
class _Space:
    """One of NNI's spaces, its ops by NNI's names."""

    blocks: int
    joins: Literal["all", "unused"]
    ops: frozenset[str]

    def concat(self, cell: CellSpec) -> tuple[int, ...]:
        return tuple(range(2, len(cell.blocks) + 2)) if self.joins == "all" else cell.unused


_COMMON = frozenset({"skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3"})
_WIDE = _COMMON | {"sep_conv_7x7", "conv_7x1_1x7"}
_SPACES = {
    "darts": _Space(4, "all", _COMMON | {"dil_conv_3x3", "dil_conv_5x5"}),
    "enas": _Space(5, "unused", _COMMON),
    "pnas": _Space(5, "all", _WIDE | {"dil_conv_3x3"}),
    "amoebanet": _Space(5, "unused", _WIDE),
    "nasnet": _Space(
        5,
        "unused",
        _WIDE | {"dil_conv_3x3", "conv_3x1_1x3", "max_pool_5x5", "max_pool_7x7", "conv_1x1", "conv_3x3"},
    ),
}
_NNI = Dialect("NNI", darts.OPS, darts.LACKING)
_KEY = re.compile(r"(normal|reduce)/(op|input)_(\d{1,2})_([01])")
_EXAMPLE_KEY = re.compile(r"(normal|reduce)_n(\d{1,2})_(?:p\d{1,2}|switch)")

_EXAMPLE = Dialect(
    "NNI's DARTS example",
    {
        "maxpool": "max_pool_3x3",
        "avgpool": "avg_pool_3x3",
        "skipconnect": "identity",
        "sepconv3x3": "sep_conv_3x3",
        "sepconv5x5": "sep_conv_5x5",
        "dilconv3x3": "dil_sep_conv_3x3",
        "dilconv5x5": "dil_sep_conv_5x5",
    },
    {"none": "the zero op"},
)
_NAMES = tuple(_EXAMPLE.ops)
"""In the example's order, in which a number counts."""

_NOT_READ = {
    r"(normal|reduce)/(op|input)_[01]_[01]": "early versions of NNI's Cell count blocks from 0 and join other states",
    r"(normal|reduce)_node_\d+_[xy]_(op|input)": "cells of NNI's ENAS example end in a 1x1 convolution of their own",
    r"r[01]_n\d+_p\d+": "NNI's first DARTS example, whose values are not known here",
}
"""Keys of older versions that are not read, each with the reason."""

_QUOTED_KEY = re.compile(f"[\"'](?:{'|'.join([_KEY.pattern, _EXAMPLE_KEY.pattern, *_NOT_READ])})[\"']")


def recognize_nni(text: str) -> bool:
    """Whether a text holds a key of NNI's dictionary, in quotes."""
    return _QUOTED_KEY.search(text) is not None


def read_nni(text: str, which: str | None) -> Cells:
    """The cells of NNI's dictionary.

    Args:
        text: The dictionary, as JSON or as Python prints it.
        which: The space of NNI it belongs to: darts, enas, pnas, amoebanet or nasnet. None where only one can be meant.
            Older keys are those of darts.

    Raises:
        InputError: It is no such dictionary, or several spaces could be meant and would join other states.
    """
    if which is not None and which not in _SPACES:
        raise InputError(f"NNI has no space {which!r} of this kind", suggestion(which, _SPACES))
    values = _parse_dictionary(text)
    facts: dict[str, JsonScalar] = {}
    for key in ("width", "depth"):
        if key in values:
            size = values.pop(key)
            facts[f"nni_{key}"] = size if isinstance(size, int) else str(size)
    older = bool(values) and all(map(_EXAMPLE_KEY.fullmatch, values))
    if older and which not in (None, "darts"):
        raise InputError(f"those keys are of NNI's DARTS example, not of its space {which}", "Leave --space out")
    if older:
        return Cells(_read_example_cell(values, "normal"), _read_example_cell(values, "reduce"), facts=facts)
    return replace(_read_space(values, which), facts=facts)


def _read_space(values: dict[str, object], which: str | None) -> Cells:
    for key in values:
        _refuse_other_key(key)
    plain = {role: _read_edges(values, role) for role in ("normal", "reduce")}
    if len(plain["normal"]) != len(plain["reduce"]):
        raise InputError("normal and reduce have different numbers of blocks", "In NNI both have as many")
    rule = _choose_space(plain, {str(value) for key, value in values.items() if "/op_" in key}, which)
    normal, reduction = (
        make_cell(edges, rule.concat(make_cell(edges, (2,), role)), role) for role, edges in plain.items()
    )
    return Cells(normal, reduction)


def _refuse_other_key(key: str) -> None:
    for pattern, meaning in _NOT_READ.items():
        if re.fullmatch(pattern, key):
            raise InputError(f"key {key!r} is not read: {meaning}", "Write the cell as genotype JSON")
    if not _KEY.fullmatch(key):
        raise InputError(f"key {key!r} is unknown", "NNI's NASNet-like spaces write normal/op_2_0, reduce/input_5_1")


def write_nni(genotype: CellGenotype) -> str:
    """A genotype as NNI's dictionary, in JSON; InputError where none of its spaces could have made it."""
    count_blocks(genotype, "NNI")
    values: dict[str, object] = {}
    for role, where, cell in (("normal", "normal", genotype.normal), ("reduce", "reduction", genotype.reduction)):
        for k, (state, op) in enumerate(edges_of(cell, where, "NNI")):
            values[f"{role}/op_{k // 2 + 2}_{k % 2}"] = _NNI.write(op, f"{where}.blocks[{k // 2}]")
            values[f"{role}/input_{k // 2 + 2}_{k % 2}"] = [state]
    if not _find_makers(genotype):
        raise InputError(
            f"none of NNI's spaces ({', '.join(_SPACES)}) makes this genotype: blocks, ops or concat differ",
            PASS_ON,
        )
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()) + "\n}\n"


def _find_makers(genotype: CellGenotype) -> list[str]:
    """The spaces of NNI that hold a genotype."""
    cells = (genotype.normal, genotype.reduction)
    ops = {_NNI.write(op, "") for cell in cells for block in cell.blocks for op in block.ops}
    return [
        name
        for name, space in _SPACES.items()
        if ops <= space.ops
        and all(len(cell.blocks) == space.blocks and space.concat(cell) == cell.concat for cell in cells)
    ]


def _parse_dictionary(text: str) -> dict[str, object]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(text.strip())
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            values = None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError("not a dictionary of choices", 'NNI\'s reads {"normal/op_2_0": "sep_conv_3x3", ...}')
    return values


def _read_edges(values: dict[str, object], role: str) -> list[Edge]:
    edges: list[Edge] = []
    last = max((int(key[3]) for key in map(_KEY.fullmatch, values) if key and key[1] == role), default=2)
    for state in range(2, last + 1):
        for half in (0, 1):
            op, read = f"{role}/op_{state}_{half}", f"{role}/input_{state}_{half}"
            for key in (op, read):
                if key not in values:
                    raise InputError(f"{key} is missing", "Give op and input of both edges of every block, from 2 on")
            chosen = values[read]
            if isinstance(chosen, list) and len(chosen) == 1:
                chosen = chosen[0]
            edges.append((whole_number(chosen, read), _NNI.read(values[op], op)))
    return edges


def _choose_space(plain: dict[str, list[Edge]], ops: set[str], which: str | None) -> _Space:
    """The space that is named, else the only one, or any of several that would join the same states."""
    blocks = len(plain["normal"]) // 2
    fitting = {name: space for name, space in _SPACES.items() if which in (None, name) and space.blocks == blocks}
    if not fitting:
        known = ", ".join(f"{name} {space.blocks}" for name, space in _SPACES.items())
        raise InputError(f"{blocks} blocks per cell are not those of NNI's {which or 'spaces'}", f"They have: {known}")
    possible = {name: space for name, space in fitting.items() if which or ops <= space.ops} or fitting
    cells = [make_cell(edges, (2,), role) for role, edges in plain.items()]
    if len({tuple(space.concat(cell) for cell in cells) for space in possible.values()}) > 1:
        raise InputError(
            f"the dictionary could be of NNI's {', '.join(possible)}, which join different states",
            "Say which one, for instance --space nasnet",
        )
    return next(iter(possible.values()))


def _read_example_cell(values: dict[str, object], role: str) -> CellSpec:
    """A cell of a dictionary whose keys all match `_EXAMPLE_KEY`."""
    found = (key for key in map(_EXAMPLE_KEY.fullmatch, values) if key and key[1] == role)
    last = max((int(key[2]) for key in found), default=2)
    edges: list[Edge] = []
    for state in range(2, last + 1):
        block = f"{role}_n{state}"
        for read in _read_switch(_given(values, f"{block}_switch"), block, state):
            place = f"{block}_p{read}"
            edges.append((read, _read_example_op(_given(values, place), place)))
    return make_cell(edges, range(2, last + 1), role)


def _given(values: dict[str, object], key: str) -> object:
    if key not in values:
        raise InputError(f"{key} is missing", "Give the switch of every block, from 2 on, and the ops that it chooses")
    return values[key]


def _read_switch(value: object, block: str, states: int) -> list[int]:
    """The two states that a block reads, of as many as there are before it."""
    items: list[object] = value if isinstance(value, list) else []
    if len(items) == states and _all_bools(items):
        items = [number for number, chosen in enumerate(items) if chosen]
    keys = {f"{block}_p{number}": number for number in range(states)}
    numbers = [keys.get(item) if isinstance(item, str) else item for item in items]
    chosen = [number for number in numbers if type(number) is int and 0 <= number < states]
    if len(numbers) != 2 or len(set(chosen)) != 2:
        raise InputError(
            f"{block}_switch: {str(value)[:60]} does not choose two of {states} states",
            f"For example ['{block}_p0', '{block}_p1']",
        )
    return chosen


def _read_example_op(value: object, place: str) -> str:
    if isinstance(value, list) and len(value) == len(_NAMES) and _all_bools(value) and sum(value) == 1:
        value = value.index(True)
    if type(value) is int:
        if not 0 <= value < len(_NAMES):
            raise InputError(f"{place}: op {value}, but NNI's DARTS example has the ops 0 to {len(_NAMES) - 1}")
        value = _NAMES[value]
    return _EXAMPLE.read(value, place)


def _all_bools(items: list[object]) -> bool:
    return all(isinstance(item, bool) for item in items)
