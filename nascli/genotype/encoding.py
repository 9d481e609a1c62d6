"""Decision sequences: a genotype as 10B tokens, and back.

Five decisions a block, in the order the controller makes them (paper, section 3): first input, second input,
op on the first, op on the second, combination; B blocks of the normal cell, then B of the reduction cell.
"""

from collections.abc import Sequence

from nascli.errors import InputError
from nascli.genotype.schema import Block, CellSpec, Genotype, JsonScalar
from nascli.genotype.space import SearchSpace


def decode_tokens(
    tokens: Sequence[int],
    space: SearchSpace,
    name: str = "decoded",
    provenance: dict[str, JsonScalar] | None = None,
) -> Genotype:
    """The genotype that a decision sequence stands for.

    Args:
        tokens: 10B integers; token t is in [0, `space.decision_sizes[t]`).
        space: The search space the tokens count in.
        name: Name of the genotype.
        provenance: Where it comes from.

    Raises:
        InputError: A wrong number of tokens, or one out of its range.
    """
    sizes = space.decision_sizes
    if len(tokens) != len(sizes):
        raise InputError(
            f"{len(tokens)} tokens, but space {space.name!r} has {len(sizes)} decisions",
            f"Five for each of {space.blocks} blocks, normal cell first",
        )
    for position, (token, size) in enumerate(zip(tokens, sizes, strict=True)):
        if not 0 <= token < size:
            raise InputError(f"token {position} is {token}, but that decision has the choices 0 to {size - 1}")
    half = len(sizes) // 2
    return Genotype(
        name=name,
        space=space.name,
        normal=_decode_cell(tokens[:half], space),
        reduction=_decode_cell(tokens[half:], space),
        provenance=provenance or {},
    )


def encode_genotype(genotype: Genotype, space: SearchSpace) -> tuple[int, ...]:
    """The decision sequence of a genotype; `decode_tokens` gives the same cells back.

    Raises:
        InputError: The space cannot say this genotype: other ops, another number of blocks, or a concat that the
            space's rule does not give (as in the published NASNet-A, whose concat departs from the paper's rule).
    """
    return _encode_cell(genotype.normal, space, "normal") + _encode_cell(genotype.reduction, space, "reduction")


def _decode_cell(tokens: Sequence[int], space: SearchSpace) -> CellSpec:
    blocks = []
    for k in range(space.blocks):
        first, second, first_op, second_op, combine = tokens[5 * k : 5 * k + 5]
        blocks.append(
            Block(
                inputs=(first, second),
                ops=(space.ops[first_op], space.ops[second_op]),
                combine=space.combines[combine],
            )
        )
    return space.cell(tuple(blocks))


def _encode_cell(cell: CellSpec, space: SearchSpace, role: str) -> tuple[int, ...]:
    if len(cell.blocks) != space.blocks:
        raise InputError(f"the {role} cell has {len(cell.blocks)} blocks, space {space.name!r} has {space.blocks}")
    tokens: list[int] = []
    for k, block in enumerate(cell.blocks):
        for op in block.ops:
            if op not in space.ops:
                raise InputError(f"{role}.blocks[{k}]: op {op!r} is not in space {space.name!r}")
        if block.combine not in space.combines:
            raise InputError(f"{role}.blocks[{k}]: combine {block.combine!r} is not in space {space.name!r}")
        tokens += [
            *block.inputs,
            *(space.ops.index(op) for op in block.ops),
            space.combines.index(block.combine),
        ]
    joined = space.cell(cell.blocks).concat
    if joined != cell.concat:
        raise InputError(
            f"{role}.concat is {list(cell.concat)}, but space {space.name!r} would join {list(joined)}",
            "Tokens cannot say another concat; pass the genotype JSON on instead",
        )
    return tuple(tokens)
