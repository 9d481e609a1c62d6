"""One set of weights for every child of a search space, and the child networks that inherit from it.

A child is an ordinary `CellNetwork`; what is shared is only where its weights come from. The sharing rule:

- An op's weights are those of (cell position, block, branch, op, channels in, stride), whatever hidden state it reads.
  Channels and stride stand in the key since weights of one shape would mean another thing: a state that a block made
  by concat is twice as wide, the stem's output has a width of its own, and an op on an input of a reduction cell
  strides. So an op of a normal cell has one set of weights, or two where the space can concat.
- What reads a cell's output (the 1x1 convolutions, or the factorized reduction, that bring h[i-1] and h[i] to F
  channels; the classifier) reads a concatenation, whose width varies with its states. Its weight is kept in
  pieces, one for each state that may be concatenated, and a child takes those of the states that it has.
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
from nascli.models.cells.cell import Branch, Cell, align_prev_prev
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.ops import OPS
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.cells.topology import CellSlot
from nascli.models.layers import align, init_weights, relu_conv_bn


@dataclass(frozen=True)
class _SharedLayer:
    """A module of a child, and the name of its weights among the shared ones.

    Args:
        concat: The states whose concatenation it reads; None where it reads no concatenation.
    """

    name: str
    module: nn.Module
    concat: tuple[int, ...] | None = None

    def weights(self) -> Iterator[tuple[str, nn.Parameter, tuple[str, ...]]]:
        """Each weight: its name in the module, itself, and the shared ones it is made of, concatenated along axis 1."""
        for name, weight in self.module.named_parameters():
            shared = f"{self.name}/{name}".replace(".", "/")
            pieces = self.concat if self.concat is not None and weight.ndim > 1 else None
            yield name, weight, (shared,) if pieces is None else tuple(f"{shared}/state{s}" for s in pieces)


def build_shared_parameters(spec: CellNetworkSpec, space: CellSpace) -> nn.ParameterDict:
    """Fresh weights for every child of a space, from torch's global random generator as a `CellNetwork`'s are.

    Args:
        spec: The macro numbers, with any genotype of the space.

    Returns:
        Parameters by name, such as `cells/2/block0/branch1/sep_conv_3x3/16s1/body/1/weight`.
    """
    shared = nn.ParameterDict()
    for layer in _space_layers(spec, space):
        init_weights(layer.module)
        for _, weight, names in layer.weights():
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


def inherit_weights(child: CellNetwork, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a child, by their names in it; gradients flow back into the shared ones.

    Args:
        child: One of the space and macro numbers that `shared` was made for, without auxiliary head.
    """
    return {
        f"{place}.{name}": shared[names[0]] if len(names) == 1 else torch.cat([shared[each] for each in names], 1)
        for place, layer in _child_layers(child)
        for name, _, names in layer.weights()
    }


def extract_child(spec: CellNetworkSpec, shared: Mapping[str, Tensor]) -> CellNetwork:
    """A stand-alone child with copies of its inherited weights; its batch-norm statistics are at their start."""
    with torch.device("meta"):
        child = CellNetwork(spec)
    weights = {name: weight.detach().clone() for name, weight in inherit_weights(child, shared).items()}
    statistics = {name: torch.empty(buffer.shape, dtype=buffer.dtype) for name, buffer in child.named_buffers()}
    child.load_state_dict(weights | statistics, assign=True)
    for module in child.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return child.requires_grad_(True)


def _child_layers(child: CellNetwork) -> Iterator[tuple[str, _SharedLayer]]:
    """The modules of a child that have weights, with their places in it."""
    genotype = child.spec.genotype

    def concat(output: int) -> tuple[int, ...] | None:
        return child.slots[output - 1].cell(genotype).concat if output else None

    yield "stem", _SharedLayer("stem", child.stem)
    for number, cell in child.cells.items():
        assert isinstance(cell, Cell)
        slot, here = child.slots[int(number)], f"cells/{number}"
        if cell.prev_prev is not None:
            layer = _SharedLayer(f"{here}/prev_prev", cell.prev_prev, concat(slot.prev_prev))
            yield f"cells.{number}.prev_prev", layer
        if cell.prev is not None:
            yield f"cells.{number}.prev", _SharedLayer(f"{here}/prev", cell.prev, concat(int(number)))
        for place, name, module in _cell_layers(cell, slot, child.spec):
            yield f"cells.{number}.{place}", _SharedLayer(f"{here}/{name}", module)
    yield "classifier", _SharedLayer("classifier", child.classifier, concat(len(child.slots)))


def _cell_layers(cell: Cell, slot: CellSlot, spec: CellNetworkSpec) -> Iterator[tuple[str, str, nn.Module]]:
    """Place, shared name and module of a cell's ops and of what joins its outputs."""
    made = slot.cell(spec.genotype)
    branches = [(k, h) for k in range(len(made.blocks)) if k + 2 in made.live for h in range(2)]
    for index, ((k, h), branch) in enumerate(zip(branches, cell.branches, strict=True)):
        assert isinstance(branch, Branch)
        combine = made.blocks[branch.state - 2].combine if branch.state > 1 else "add"
        name = _op_name(k, h, made.blocks[k].ops[h], *_op_input(slot, spec, branch.state, combine))
        yield f"branches.{index}.op", name, branch.op
    for index, (state, join) in enumerate(zip(made.concat, cell.aligns, strict=True)):
        yield f"aligns.{index}", f"join{state}", join


def _space_layers(spec: CellNetworkSpec, space: CellSpace) -> Iterator[_SharedLayer]:
    """The modules that any child of the space may have; one that reads a concatenation reads all block outputs."""
    child = CellNetwork(spec)  # one as good as another: stem and slots do not depend on the genotype
    slots, states = child.slots, tuple(range(2, space.blocks + 2))

    def width(output: int) -> int:
        return slots[output - 1].filters * len(states) if output else spec.stem_filters

    yield _SharedLayer("stem", child.stem)
    for position, slot in enumerate(slots):
        here, filters = f"cells/{position}", slot.filters
        before = slot.prev_prev
        prev_prev = align_prev_prev(width(before), filters, slot.prev_prev_size)
        if isinstance(prev_prev, nn.Identity) and before and space.concat == "unused" and space.blocks > 1:
            prev_prev = relu_conv_bn(width(before), filters)  # all block outputs have F channels; fewer have not
        yield _SharedLayer(f"{here}/prev_prev", prev_prev, states if before else None)
        yield _SharedLayer(f"{here}/prev", relu_conv_bn(width(position), filters), states if position else None)
        for k in range(space.blocks):
            for channels, stride in sorted(_op_inputs(slot, spec, space, k)):
                for h in range(2):
                    for op in space.ops:
                        module = OPS[op](channels, filters, stride)
                        yield _SharedLayer(f"{here}/{_op_name(k, h, op, channels, stride)}", module)
        if "concat" in space.combines:
            yield from (_SharedLayer(f"{here}/join{state}", align(2 * filters, filters, 1)) for state in states)
    yield _SharedLayer("classifier", nn.Linear(width(len(slots)), spec.classes), states)


def _op_inputs(slot: CellSlot, spec: CellNetworkSpec, space: CellSpace, block: int) -> set[tuple[int, int]]:
    """Channels and stride that an op of this block may have."""
    inputs = {_op_input(slot, spec, state, "add") for state in (0, 1)}
    return inputs | {_op_input(slot, spec, 2, combine) for combine in space.combines if block > 0}


def _op_input(slot: CellSlot, spec: CellNetworkSpec, state: int, combine: Combine) -> tuple[int, int]:
    """Channels and stride of an op on a state; `combine` is how the block that made the state does it."""
    if state > 1:
        return slot.filters * (2 if combine == "concat" else 1), 1
    is_stem = state == 0 and slot.prev_prev_size == "stem"
    return spec.stem_filters if is_stem else slot.filters, 2 if slot.role == "reduction" else 1


def _op_name(block: int, branch: int, op: str, channels: int, stride: int) -> str:
    return f"block{block}/branch{branch}/{op}/{channels}s{stride}"
