"""One set of weights for every child of a search space, and the child networks that inherit from it.

A child is an ordinary `CellNetwork`; what is shared is only where its weights come from. The sharing rule:

- An op's weights are those of (cell position, block, half, op, channels in, stride), whatever hidden state it reads.
  Channels and stride stand in the key since weights of one shape would mean another thing: a state that a block made
  by concat is twice as wide, the stem's output has a width of its own, and an op on an input of a reduction cell
  strides. So an op of a normal cell has one set of weights, or two where the space can concat.
- What reads a cell's output (the 1x1 convolutions, or the factorized reduction, that bring h[i-1] and h[i] to F
  channels; the classifier) reads a concatenation, whose width varies with the states that are joined. Its weight is
  kept in pieces, one for each state that may be joined, and a child takes those of the states that it does join.
- Batch norms share scale and shift like any weight. They have no shared statistics: a child's are its own.
- A weight that a child does not have is not touched by a training step of this child.

References:
    Pham et al. 2018 (ENAS), sections 2.1 to 2.4. Guo et al. 2020, "Single path one-shot", section 3.
    Bender et al. 2018, "Understanding and simplifying one-shot architecture search", section 3.

Deviation:
    ENAS keeps a set of op weights for each input state besides (its released code, `_enas_conv`). There each weight is
    trained in one step out of (ops x states); here in one out of ops, which a short training needs more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nascli.genotype.cells.schema import Combine
from nascli.genotype.cells.space import CellSpace
from nascli.models.cells.cell import Cell, Half, older_input
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.ops import OPS
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.cells.topology import Step
from nascli.models.layers import init_weights, relu_conv_bn, repair


@dataclass(frozen=True)
class _Part:
    """A module of a child, and the name of its weights among the shared ones.

    Args:
        name: Of the shared weights.
        module: As the child has it.
        joined: The states whose concatenation it reads; None where it reads no concatenation.
    """

    name: str
    module: nn.Module
    joined: tuple[int, ...] | None = None

    def weights(self) -> Iterator[tuple[str, nn.Parameter, tuple[str, ...]]]:
        """Each weight: its name in the module, itself, and the shared ones it is made of, joined along axis 1."""
        for name, weight in self.module.named_parameters():
            shared = f"{self.name}/{name}".replace(".", "/")
            pieces = self.joined if self.joined is not None and weight.ndim > 1 else None
            yield name, weight, (shared,) if pieces is None else tuple(f"{shared}/state{s}" for s in pieces)


def shared_parameters(spec: CellNetworkSpec, space: CellSpace) -> nn.ParameterDict:
    """Fresh weights for every child of a space, drawn from torch's global random generator as a `CellNetwork`'s are.

    Args:
        spec: The macro numbers, with any genotype of the space.
        space: Whose children shall find their weights.

    Returns:
        Parameters by name, such as `cells/2/block0/half1/sep_conv_3x3/16s1/body/1/weight`.
    """
    shared = nn.ParameterDict()
    for part in _every_part(spec, space):
        init_weights(part.module)
        for _, weight, names in part.weights():
            for name, piece in zip(names, weight.detach().chunk(len(names), dim=min(1, weight.ndim - 1)), strict=True):
                shared[name] = nn.Parameter(piece.clone())
    return shared


def bare_child(spec: CellNetworkSpec) -> CellNetwork:
    """The child network without storage, to be called with inherited weights; it keeps no batch-norm statistics."""
    with torch.device("meta"):
        child = CellNetwork(spec)
    for module in child.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    return child


def inherited_weights(child: CellNetwork, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a child, by their names in it; gradients flow back into the shared ones.

    Args:
        child: Of the space and macro numbers that `shared` was made for, without auxiliary head.
        shared: What `shared_parameters` made, by name.
    """
    return {
        f"{place}.{name}": shared[names[0]] if len(names) == 1 else torch.cat([shared[each] for each in names], 1)
        for place, part in _parts(child)
        for name, _, names in part.weights()
    }


def extract_child(spec: CellNetworkSpec, shared: Mapping[str, Tensor]) -> CellNetwork:
    """A stand-alone child with copies of its inherited weights; its batch-norm statistics are at their start."""
    with torch.device("meta"):
        child = CellNetwork(spec)
    weights = {name: weight.detach().clone() for name, weight in inherited_weights(child, shared).items()}
    statistics = {name: torch.empty(buffer.shape, dtype=buffer.dtype) for name, buffer in child.named_buffers()}
    child.load_state_dict(weights | statistics, assign=True)
    for module in child.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return child.requires_grad_(True)


def _parts(child: CellNetwork) -> Iterator[tuple[str, _Part]]:
    """Everything in a child that has weights, with its place in the child."""
    genotype, end = child.spec.genotype, len(child.plan)

    def joined(output: int) -> tuple[int, ...] | None:
        return child.plan[output - 1].cell(genotype).concat if output else None

    yield "stem", _Part("stem", child.stem)
    for number, cell in child.cells.items():
        assert isinstance(cell, Cell)
        position = int(number)
        step = child.plan[position]
        for place, part in _cell_parts(cell, step, child.spec, joined(step.older), joined(position)):
            yield f"cells.{number}.{place}", _Part(f"cells/{number}/{part.name}", part.module, part.joined)
    yield "classifier", _Part("classifier", child.classifier, joined(end))


def _cell_parts(
    cell: Cell, step: Step, spec: CellNetworkSpec, older: tuple[int, ...] | None, newer: tuple[int, ...] | None
) -> Iterator[tuple[str, _Part]]:
    """What has weights in a cell whose inputs are the concatenations `older` and `newer`."""
    if cell.older is not None:
        yield "older", _Part("older", cell.older, older)
    if cell.newer is not None:
        yield "newer", _Part("newer", cell.newer, newer)
    plan = step.cell(spec.genotype)
    halves = [(k, h) for k in range(len(plan.blocks)) if k + 2 in plan.live for h in range(2)]
    for index, ((k, h), half) in enumerate(zip(halves, cell.halves, strict=True)):
        assert isinstance(half, Half)
        made_by = plan.blocks[half.state - 2].combine if half.state > 1 else "add"
        channels, stride = _reading(step, spec, half.state, made_by)
        yield f"halves.{index}.op", _Part(_op_name(k, h, plan.blocks[k].ops[h], channels, stride), half.op)
    for index, (state, join) in enumerate(zip(plan.concat, cell.joins, strict=True)):
        yield f"joins.{index}", _Part(f"join{state}", join)


def _every_part(spec: CellNetworkSpec, space: CellSpace) -> Iterator[_Part]:
    """What any child of the space may have; one that reads a concatenation reads all block outputs."""
    child = CellNetwork(spec)  # one as good as another: stem and plan do not depend on the genotype
    plan = child.plan
    states = tuple(range(2, space.blocks + 2))

    def width(output: int) -> int:
        return plan[output - 1].filters * len(states) if output else spec.stem_filters

    def joined(output: int) -> tuple[int, ...] | None:
        return states if output else None

    yield _Part("stem", child.stem)
    for position, step in enumerate(plan):
        here, filters = f"cells/{position}", step.filters
        older = older_input(width(step.older), filters, step.older_size)
        if isinstance(older, nn.Identity) and step.older and space.concat == "unused" and space.blocks > 1:
            older = relu_conv_bn(width(step.older), filters)  # all block outputs have F channels; fewer have not
        yield _Part(f"{here}/older", older, joined(step.older))
        yield _Part(f"{here}/newer", relu_conv_bn(width(position), filters), joined(position))
        for k in range(space.blocks):
            for channels, stride in sorted(_readings(step, spec, space, k)):
                for h in range(2):
                    for op in space.ops:
                        module = OPS[op](channels, filters, stride)
                        yield _Part(f"{here}/{_op_name(k, h, op, channels, stride)}", module)
        if "concat" in space.combines:
            yield from (_Part(f"{here}/join{state}", repair(2 * filters, filters, 1)) for state in states)
    yield _Part("classifier", nn.Linear(width(len(plan)), spec.classes), joined(len(plan)))


def _readings(step: Step, spec: CellNetworkSpec, space: CellSpace, block: int) -> set[tuple[int, int]]:
    """Channels and stride that an op of this block may have."""
    inputs = {_reading(step, spec, state, "add") for state in (0, 1)}
    return inputs | {_reading(step, spec, 2, combine) for combine in space.combines if block > 0}


def _reading(step: Step, spec: CellNetworkSpec, state: int, combine: Combine) -> tuple[int, int]:
    """Channels and stride of an op on a state; `combine` is how the block that made the state does it."""
    if state > 1:
        return step.filters * (2 if combine == "concat" else 1), 1
    is_stem = state == 0 and step.older_size == "stem"
    return spec.stem_filters if is_stem else step.filters, 2 if step.role == "reduction" else 1


def _op_name(block: int, half: int, op: str, channels: int, stride: int) -> str:
    return f"block{block}/half{half}/{op}/{channels}s{stride}"
