"""NNI's older dictionary: what the DARTS example of NNI 1 and 2 exports.

`normal_n3_p0`, `normal_n3_p1`, ...: cell, block (by the number of its state), and the state that is read; each says an
op, or nothing (`[]`). `normal_n3_switch` says which two of them the block adds. All blocks are joined as output.

An op is a name, or a number in the example's order, or a list that is true at that number; a switch is two keys, or
their two numbers, or a list that is true at these. Versions of NNI differ in this, and all are read.

References:
    NNI `examples/nas/oneshot/darts/model.py` (2), `examples/nas/darts/model.py` and `nni/nas/pytorch/mutator.py` (1).
"""

import re

from nascli.errors import InputError
from nascli.genotype.cells.formats.common import Cells, Dialect, Half, make_cell
from nascli.genotype.cells.schema import CellSpec

KEY = re.compile(r"(normal|reduce)_n(\d{1,2})_(?:p\d{1,2}|switch)")

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


def read_example(values: dict[str, object]) -> Cells:
    """The cells that the dictionary says, whose keys all match `KEY`.

    Raises:
        InputError: A key is missing, or says nothing that is possible.
    """
    normal, reduction = (_read_cell(values, role) for role in ("normal", "reduce"))
    return Cells(normal, reduction)


def _read_cell(values: dict[str, object], role: str) -> CellSpec:
    found = (key for key in map(KEY.fullmatch, values) if key and key[1] == role)
    last = max((int(key[2]) for key in found), default=2)
    halves: list[Half] = []
    for state in range(2, last + 1):
        block = f"{role}_n{state}"
        for read in _switch(_given(values, f"{block}_switch"), block, state):
            place = f"{block}_p{read}"
            halves.append((read, _op(_given(values, place), place)))
    return make_cell(halves, range(2, last + 1), role)


def _given(values: dict[str, object], key: str) -> object:
    if key not in values:
        raise InputError(f"{key} is missing", "Give the switch of every block, from 2 on, and the ops that it chooses")
    return values[key]


def _switch(value: object, block: str, states: int) -> list[int]:
    """The two states that a block reads, of as many as there are before it."""
    items: list[object] = value if isinstance(value, list) else []
    if len(items) == states and _truths(items):
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


def _op(value: object, place: str) -> str:
    if isinstance(value, list) and len(value) == len(_NAMES) and _truths(value) and sum(value) == 1:
        value = value.index(True)
    if type(value) is int:
        if not 0 <= value < len(_NAMES):
            raise InputError(f"{place}: op {value}, but NNI's DARTS example has the ops 0 to {len(_NAMES) - 1}")
        value = _NAMES[value]
    return _EXAMPLE.read(value, place)


def _truths(items: list[object]) -> bool:
    return all(isinstance(item, bool) for item in items)
