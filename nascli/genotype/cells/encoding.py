"""Decision sequences: a genotype as tokens, and back.

Five decisions a block, in the order the controller makes them (paper, section 3): first input, second input,
op on the first, op on the second, combination; B blocks of the normal cell, then B of the reduction cell (none in a
space where one cell serves as both). Where a block's inputs are distinct, the second counts among the states that are
left, so that every sequence stands for a cell.
"""

from collections.abc import Sequence

from nascli.errors import InputError
from nascli.genotype.cells.schema import Block, CellSpec, Genotype, JsonScalar
from nascli.genotype.cells.space import SearchSpace


def decode_tokens(
    tokens: Sequence[int],
    space: SearchSpace,
    name: str = "decoded",
    provenance: dict[str, JsonScalar] | None = None,
) -> Genotype:
    """The genotype that a decision sequence stands for.

    Args:
        tokens: As many integers as `space.decision_sizes` has; token t is in [0, `space.decision_sizes[t]`).
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
            f"Five for each of {space.blocks} blocks{', normal cell first' * (space.cells == 'two')}",
        )
    for position, (token, size) in enumerate(zip(tokens, sizes, strict=True)):
        if not 0 <= token < size:
            raise InputError(f"token {position} is {token}, but that decision has the choices 0 to {size - 1}")
    length = 5 * space.blocks
    normal = _decode_cell(tokens[:length], space)
    return Genotype(
        name=name,
        space=space.name,
        normal=normal,
        reduction=normal if space.cells == "one" else _decode_cell(tokens[length:], space),
        provenance=provenance or {},
    )


def encode_genotype(genotype: Genotype, space: SearchSpace) -> tuple[int, ...]:
    """The decision sequence of a genotype; `decode_tokens` gives the same cells back.

    Raises:
        InputError: The space cannot say this genotype: other ops, another number of blocks, an input twice, two
            different cells, or a concat that the space's rule does not give (as in the published NASNet-A, whose
            concat departs from the paper's rule).
    """
    if space.cells == "one":
        if genotype.normal != genotype.reduction:
            raise InputError(f"normal and reduction cell differ, but in space {space.name!r} one cell serves as both")
        return _encode_cell(genotype.normal, space, "normal")
    return _encode_cell(genotype.normal, space, "normal") + _encode_cell(genotype.reduction, space, "reduction")


def _decode_cell(tokens: Sequence[int], space: SearchSpace) -> CellSpec:
    blocks = []
    for k in range(space.blocks):
        first, second, first_op, second_op, combine = tokens[5 * k : 5 * k + 5]
        if space.inputs == "distinct" and second >= first:
            second += 1
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
            *_encode_inputs(block, space, f"{role}.blocks[{k}]"),
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


def _encode_inputs(block: Block, space: SearchSpace, where: str) -> tuple[int, int]:
    first, second = block.inputs
    if space.inputs == "any":
        return first, second
    if first == second:
        raise InputError(f"{where} reads state {first} twice, but the inputs of space {space.name!r} are distinct")
    return first, second - (second > first)
