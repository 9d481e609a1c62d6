"""A cell as a frozen, validated, hashable value.

Numbering of hidden states, everywhere in nascli: 0 is h[i-1], the output two cells back; 1 is h[i], the output
of the previous cell; block k makes state k+2. (The released NASNet code numbers the two inputs the other way.)
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from nascli.config import Strict
from nascli.genotype.cells.op_info import OP_INFO
from nascli.units import shorten

MAX_BLOCKS = 12

Combine = Literal["add", "concat"]


class Block(Strict):
    """One step in a cell: an op on each of two hidden states, and how the results are combined."""

    inputs: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    ops: tuple[str, str]
    combine: Combine = "add"

    @field_validator("ops")
    @classmethod
    def _known_ops(cls, ops: tuple[str, str]) -> tuple[str, str]:
        for op in ops:
            if op not in OP_INFO:
                raise ValueError(f"unknown op {shorten(op)!r}; known: {', '.join(OP_INFO)}")
        return ops


class CellSpec(Strict):
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
        return find_unused_states(self.blocks)


def find_unused_states(blocks: Sequence[Block]) -> tuple[int, ...]:
    """The outputs of blocks that none of them reads."""
    used = {state for block in blocks for state in block.inputs}
    return tuple(state for state in range(2, len(blocks) + 2) if state not in used)
