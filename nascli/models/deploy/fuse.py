"""Networks in the form that answers fastest: nothing in it that only a training needs.

Shapes: N batch, C channels, H height, W width.

A trained network is traced into a graph (`torch.fx`), and the graph is rewritten, step by step:

1. Dropout and identities go.
2. Each batch norm is folded into the convolution before it; one over the two joined halves of a factorized reduction
   is split between them.
3. What is computed twice on the same tensor is computed once. Inside a cell that is so already; here the ReLUs that two
   cells begin with, on the same output, become one.
4. On a CPU a convolution takes along the padding before it, the addition of another tensor and the ReLU after it, its
   weights are laid out beforehand as oneDNN wants them, and a ReLU whose input nobody else reads works in place.

Every step keeps the outputs, to rounding.
"""

import copy
import math
import operator
from collections.abc import Callable, Hashable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nascli.models import layers as primitives
from nascli.models.cells import ops
from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.interface import ImageClassifier
from nascli.models.layers import EveryOther, SamePad, join, same_padding

_LITTLE_WORK = 2_000_000
"""Multiply-accumulates of a 1x1 convolution up to which the product of matrices is faster than oneDNN's convolution."""

_FEWEST_PIXELS = 30
"""Fewer than in any map worth mentioning; a larger matrix never has little work."""

_LEAST_CHANNELS = 16
"""Of the output; with fewer the product of matrices is the slower one."""


def fold(network: ImageClassifier) -> fx.GraphModule:
    """The same function without batch norms, dropout and repeated work, as plain convolutions on any device.

    Args:
        network: A trained network; it is left as it is.

    Returns:
        A module in evaluation mode, (N, 3, H, W) to logits (N, classes), with weights of its own.
    """
    tracer = _Tracer()
    graph = tracer.trace(copy.deepcopy(network).eval())
    folded = fx.GraphModule(tracer.root, graph, "FoldedNetwork")
    return _rewritten(folded, _drop_idle, _fold_norms, _share)


def pack(folded: fx.GraphModule) -> fx.GraphModule:
    """A folded network made ready for this CPU: larger steps, weights laid out, channels last in memory.

    Args:
        folded: What `fold` gave, on a CPU; it is left as it is.

    Returns:
        A module that computes the same. It can be neither trained nor moved.
    """
    return _rewritten(copy.deepcopy(folded), _begin_channels_last, _move_relus_up, _fuse, _work_in_place)


class FusedConv2d(nn.Module):
    """A convolution; then, where asked for, the addition of another tensor; then, where asked for, a ReLU.

    (N, C_in, H, W), and perhaps (N, C_out, H', W') to be added, to (N, C_out, H', W').

    oneDNN does all of it in one pass over the output, but needs 30 to 40 microseconds before it begins. So a 1x1
    convolution of little work is computed as a plain product of matrices instead, pixels times weights.

    oneDNN pads as much before a map as after it; SAME of a stride may pad one more after it. Then a kernel that is one
    larger, with zeros first, is moved over one more on each side: the same products without a padded copy of the map.

    Args:
        conv: Its weights, which are laid out as oneDNN wants them.
        relu: Whether a ReLU follows.
        same: The SAME padding to compute with, if not the convolution's own.
    """

    weight: Tensor
    larger: Tensor | None  # with a row and a column of zeros first
    bias: Tensor | None
    matrix: Tensor | None  # (C_in, C_out) of a 1x1 convolution whose work may be little

    def __init__(self, conv: nn.Conv2d, *, relu: bool, same: SamePad | None = None) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self._padding, self._rest = list(conv.padding), (list(conv.stride), list(conv.dilation), conv.groups)
        self.relu = relu
        self.same = same
        weight = conv.weight.detach()
        self.register_buffer("weight", self._laid_out(weight))
        larger = F.pad(weight, (1, 0, 1, 0)) if same and conv.dilation == (1, 1) else None
        self.register_buffer("larger", None if larger is None else self._laid_out(larger))
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        plain = conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1 and conv.bias is not None
        small = conv.out_channels >= _LEAST_CHANNELS and weight.numel() <= _LITTLE_WORK / _FEWEST_PIXELS
        self.register_buffer("matrix", weight.flatten(1).t().contiguous() if plain and small else None)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Convolve `x`, add `other`, apply the ReLU."""
        if self.matrix is not None and x.numel() * self.matrix.shape[1] <= _LITTLE_WORK:
            return self._product(x, self.matrix, other)
        compute = torch.ops.mkldnn._convolution_pointwise
        x, weight, padding = self._padded(x)
        geometry = (padding, *self._rest)
        if other is None:
            after = "relu" if self.relu else "none"
            result: Tensor = compute.default(x, weight, self.bias, *geometry, after, [], "")
        else:
            then = "relu" if self.relu else None
            result = compute.binary(x, other, weight, self.bias, *geometry, "add", None, then, [], None)
        return result

    def _laid_out(self, weight: Tensor) -> Tensor:
        reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
        result: Tensor = reorder(weight.to_mkldnn(), self._padding, *self._rest)
        return result

    def _padded(self, x: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """The map, the weights and the padding on both sides that together give SAME."""
        if self.same is None:
            return x, self.weight, self._padding
        rows, columns = (
            same_padding(x.shape[axis], self.same.kernel[axis - 2], self.same.stride[axis - 2]) for axis in (2, 3)
        )
        if rows[0] == rows[1] and columns[0] == columns[1]:
            return x, self.weight, [rows[0], columns[0]]
        if self.larger is not None and rows[0] < rows[1] and columns[0] < columns[1]:
            return x, self.larger, [rows[1], columns[1]]
        return self.same(x), self.weight, self._padding  # dilated, or on a map of even height and odd width

    def _product(self, x: Tensor, matrix: Tensor, other: Tensor | None) -> Tensor:
        count, channels, height, width = x.shape
        assert self.bias is not None
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where channels are last
        result = torch.addmm(self.bias, pixels, matrix).view(count, height, width, -1).permute(0, 3, 1, 2)
        if other is not None:
            result.add_(other)
        return result.relu_() if self.relu else result


class _Tracer(fx.Tracer):
    """Records layers with weights, paddings and pools as single steps, and looks into everything else."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=(math, ops, primitives))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SamePad | EveryOther | Pointwise | Depthwise) or super().is_leaf_module(
            m, module_qualified_name
        )


def _rewritten(network: fx.GraphModule, *steps: Callable[[fx.GraphModule], None]) -> fx.GraphModule:
    for step in steps:
        step(network)
        network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return network.eval()


def _module(network: fx.GraphModule, node: object) -> nn.Module | None:
    """What a step calls, if it is a module."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return network.get_submodule(str(node.target))
    return None


def _replace(node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _drop_idle(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        if isinstance(_module(network, node), nn.Identity | nn.Dropout):
            _replace(node, node.all_input_nodes[0])
        elif node.target is join:  # what it does for gradients is of no use here
            with network.graph.inserting_before(node):
                plain = network.graph.call_function(torch.cat, (*node.args, 1))
            _replace(node, plain)


def _fold_norms(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        norm = _module(network, node)
        if isinstance(norm, nn.BatchNorm2d):
            (before,) = node.all_input_nodes
            assert len(before.users) == 1
            first = 0
            for half in before.all_input_nodes if before.target is torch.cat else [before]:
                conv = _module(network, half)
                assert isinstance(conv, nn.Conv2d)
                network.set_submodule(str(half.target), _folded(conv, norm, first))
                first += conv.out_channels
            _replace(node, before)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, first: int) -> nn.Conv2d:
    """A convolution with a bias that does what it did before the norm's channels from `first` on."""
    part = slice(first, first + conv.out_channels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean[part],
        norm.running_var[part],
        norm.eps,
        norm.weight[part],
        norm.bias[part],
    )
    assert not isinstance(conv.padding, str)
    kernel, stride, padding, dilation = (
        (int(rows), int(columns)) for rows, columns in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    )
    with torch.device("meta"):
        made = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, dilation, conv.groups)
    made.weight, made.bias = weight, bias
    return made


def _share(network: fx.GraphModule) -> None:
    """Every ReLU becomes the same function, and what is called with the same arguments is called once."""
    known: dict[Hashable, fx.Node] = {}
    for node in list(network.graph.nodes):
        if isinstance(_module(network, node), nn.ReLU):
            node.op, node.target, node.kwargs = "call_function", F.relu, {}
        if node.op == "call_function":
            key = (node.target, *map(_hashable, (node.args, sorted(node.kwargs.items()))))
            if key in known:
                _replace(node, known[key])
            else:
                known[key] = node


def _hashable(argument: object) -> Hashable:
    return tuple(map(_hashable, argument)) if isinstance(argument, list | tuple) else argument


def _begin_channels_last(network: fx.GraphModule) -> None:
    (images,) = network.graph.find_nodes(op="placeholder")
    with network.graph.inserting_after(images):
        laid_out = network.graph.call_method("contiguous", (images,), {"memory_format": torch.channels_last})
    images.replace_all_uses_with(laid_out, delete_user_cb=lambda user: user is not laid_out)


def _move_relus_up(network: fx.GraphModule) -> None:
    """A ReLU of joined tensors becomes one of each, which is there already or fits into the convolution before it."""
    for node in list(network.graph.nodes):
        joined = node.all_input_nodes[0] if node.target is F.relu else None
        if joined is not None and joined.target is torch.cat and _only_user(joined, F.relu):
            parts, dimension = joined.args
            assert isinstance(parts, list | tuple)
            with network.graph.inserting_before(joined):
                joined.args = ([network.graph.call_function(F.relu, (part,)) for part in parts], dimension)
            _replace(node, joined)
    _share(network)


def _fuse(network: fx.GraphModule) -> None:
    """Convolutions take along the padding before them, the addition, where both summands are ready before it, and the
    ReLU that follow."""
    for node in list(network.graph.nodes):
        conv = _module(network, node)
        if isinstance(conv, nn.Conv2d):
            same = _without_padding(network, node)
            node = _with_addition(network, node)
            relu = _only_user(node, F.relu)
            network.set_submodule(str(node.target), FusedConv2d(conv, relu=relu is not None, same=same))
            if relu is not None:
                _replace(relu, node)


def _without_padding(network: fx.GraphModule, conv: fx.Node) -> SamePad | None:
    """The padding that a convolution reads, which then reads what was padded."""
    (before,) = conv.all_input_nodes
    same = _module(network, before)
    if not isinstance(same, SamePad):
        return None
    conv.replace_input_with(before, before.all_input_nodes[0])
    return same


def _with_addition(network: fx.GraphModule, conv: fx.Node) -> fx.Node:
    """The convolution's step, moved to where its result is added to another and with that as an argument."""
    addition = _only_user(conv, operator.add)
    if addition is None or addition.args[0] is addition.args[1]:
        return conv
    (other,) = (summand for summand in addition.all_input_nodes if summand is not conv)
    if isinstance(_module(network, other), nn.Conv2d) and _only_user(other, operator.add):
        return conv  # the other one comes later, and takes this one along
    with network.graph.inserting_before(addition):
        moved = network.graph.call_module(str(conv.target), (*conv.args, other))
    _replace(addition, moved)
    network.graph.erase_node(conv)
    return moved


def _only_user(node: fx.Node, function: Callable[..., Tensor]) -> fx.Node | None:
    """The step that alone reads what this one gives, if it calls `function`."""
    (user, *others) = node.users
    return user if not others and user.target is function else None


def _work_in_place(network: fx.GraphModule) -> None:
    """ReLUs and additions write into their first argument where nobody else reads that."""
    for node in network.graph.nodes:
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node) or len(first.users) > 1 or first.op in ("placeholder", "call_method"):
            continue
        if node.target is F.relu:
            node.kwargs = {"inplace": True}
        elif node.target is operator.add:
            node.target = operator.iadd
