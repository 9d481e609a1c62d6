"""The genotype: a cell pair as a frozen, validated, hashable value, JSON in and out.

Numbering of hidden states, everywhere in nascli: 0 is h[i-1], the output two cells back; 1 is h[i], the output
of the previous cell; block k makes state k+2. (The released NASNet code numbers the two inputs the other way.)
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nascli.config import explain
from nascli.errors import CorruptFileError, InputError

SCHEMA_VERSION = 1
MAX_BLOCKS = 12
_MAX_BYTES = 1 << 20

NASNET_OPS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The 13 operations of the paper, section 3, in its order."""

FURTHER_OPS = (
    "avg_pool_2x2",
    "avg_pool_5x5",
    "max_pool_2x2",
    "dil_sep_conv_3x3",
    "dil_sep_conv_5x5",
    "bottleneck_conv_3x3",
    "bottleneck_conv_1x7_7x1",
)
"""What AmoebaNet, NAONet and the DARTS family need besides."""

OP_NAMES = NASNET_OPS + FURTHER_OPS

Combine = Literal["add", "concat"]
JsonScalar = str | int | float | bool | None


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Block(_Value):
    """One step in a cell: an op on each of two hidden states, and how the results are combined."""

    inputs: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    ops: tuple[str, str]
    combine: Combine = "add"

    @field_validator("ops")
    @classmethod
    def _known_ops(cls, ops: tuple[str, str]) -> tuple[str, str]:
        for op in ops:
            if op not in OP_NAMES:
                raise ValueError(f"unknown op {op!r}; known: {', '.join(OP_NAMES)}")
        return ops


class CellSpec(_Value):
    """B blocks, and the hidden states whose concatenation is the cell's output."""

    blocks: tuple[Block, ...] = Field(min_length=1, max_length=MAX_BLOCKS)
    concat: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for k, block in enumerate(self.blocks):
            for state in block.inputs:
                if state > k + 1:
                    raise ValueError(f"block {k} reads state {state}, but only states 0 to {k + 1} exist before it")
        last = len(self.blocks) + 1
        for state in self.concat:
            if not 0 <= state <= last:
                raise ValueError(f"concat names state {state}, but the cell has states 0 to {last}")
        if list(self.concat) != sorted(set(self.concat)):
            raise ValueError(f"concat {list(self.concat)} must be ascending without repeats")
        return self

    @property
    def live(self) -> frozenset[int]:
        """The hidden states that the cell's output depends on, the two inputs included."""
        found: set[int] = set()
        waiting = list(self.concat)
        while waiting:
            state = waiting.pop()
            if state not in found:
                found.add(state)
                waiting += self.blocks[state - 2].inputs if state > 1 else ()
        return frozenset(found)

    @property
    def unused(self) -> tuple[int, ...]:
        """The block outputs that no block reads: what the paper's rule (section 3) would concatenate."""
        used = {state for block in self.blocks for state in block.inputs}
        return tuple(k + 2 for k in range(len(self.blocks)) if k + 2 not in used)


class Genotype(_Value):
    """A normal and a reduction cell, with a name and where they come from.

    `provenance` takes part in equality but not in the hash, and never in the network that is built.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(min_length=1, max_length=200)
    space: str = Field(min_length=1, max_length=200)
    normal: CellSpec
    reduction: CellSpec
    provenance: dict[str, JsonScalar] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.space, self.normal, self.reduction))

    def to_json(self) -> str:
        """The genotype as JSON text, one block a line."""
        return _layout(self.model_dump(mode="json", by_alias=True))


def parse_genotype(text: str | bytes, source: str) -> Genotype:
    """A genotype from JSON text.

    Args:
        text: The JSON.
        source: What to call it in an error message, usually the file's path.

    Raises:
        CorruptFileError: The text is not JSON (for instance truncated).
        InputError: It is JSON but not a possible genotype, or of a newer schema.
    """
    if len(text) > _MAX_BYTES:
        raise InputError(f"{source}: {len(text)} bytes are too many for a genotype", "Is it another file?")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"{source} is not JSON: {error}", "The file is damaged; write it again with nascli decode"
        ) from error
    _refuse_foreign(values, source)
    try:
        return Genotype.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, Genotype) from error


def read_genotype(path: Path) -> Genotype:
    """A genotype from a JSON file; errors as `parse_genotype`, and InputError where there is no such file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"genotype {path}: {error.strerror or error}") from error
    return parse_genotype(text, str(path))


def _refuse_foreign(values: Any, source: str) -> None:  # noqa: ANN401 - any JSON may come
    if not isinstance(values, dict) or "normal" not in values:
        raise InputError(
            f"{source}: JSON, but not a genotype",
            "A genotype has the fields schema, name, space, normal and reduction",
        )
    version = values.get("schema", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{source}: schema {version} is newer than this nascli reads ({SCHEMA_VERSION})", "Upgrade nascli"
        )


def _layout(values: dict[str, Any]) -> str:
    cells = {}
    for role in ("normal", "reduction"):
        blocks = ",\n      ".join(json.dumps(block) for block in values[role]["blocks"])
        cells[role] = (
            f'{{\n    "blocks": [\n      {blocks}\n    ],\n    "concat": {json.dumps(values[role]["concat"])}\n  }}'
        )
    lines = [f'"{key}": {cells.get(key) or _spread(value)}' for key, value in values.items()]
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def _spread(value: object) -> str:
    """JSON of a field: an object one entry a line, anything else on one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    return "{\n    " + ",\n    ".join(f"{json.dumps(key)}: {json.dumps(each)}" for key, each in value.items()) + "\n  }"
