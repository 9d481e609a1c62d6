"""Folded networks: the same function with nothing in it that only a training needs.

Shapes: N batch, C channels, H height, W width.

A trained network is traced into a graph (`torch.fx`), and the graph is rewritten, step by step:

1. Dropout and identities go.
2. Each batch norm is folded into the convolution before it; one over the two concatenated halves of a factorized
   reduction is split between them. One that follows no convolution becomes a depthwise one of one pixel.
3. What is computed twice on the same tensor is computed once. Inside a cell that is so already; here the ReLUs that two
   cells begin with, on the same output, become one.
4. The SAME padding before a convolution moves into it; where it is as large before the map as after it, which depends
   on the map's size, no padded copy is made.

Every step keeps the outputs, to rounding. The graph serves any device, N, H and W.
"""

import copy
import math
import operator
from collections.abc import Hashable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nascli.errors import UnknownStepError
from nascli.models import layers
from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.layers import BatchNorm, SamePad, Subsample, concat_channels


def fold(network: nn.Module) -> fx.GraphModule:
    """The same function without batch norms, dropout and repeated work, as plain convolutions.

    Args:
        network: A trained network, or a part of one: any function of one tensor, to tensors in dicts and sequences. It
            is left as it is.

    Returns:
        A module in evaluation mode, (N, 3, H, W) to logits (N, classes) for a network, with weights of its own.

    Raises:
        UnknownStepError: What it computes depends on the input in a way that cannot be recorded.
    """
    tracer, modes = _Tracer(), [(module, module.training) for module in network.modules()]
    try:
        graph = tracer.trace(network.eval())
    except Exception as error:  # of any kind, since what cannot be recorded is run with records in place of tensors
        raise UnknownStepError(
            f"{type(network).__name__} cannot be folded: its steps depend on its input ({error})",
            "Use the engine trained",
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    folded = fx.GraphModule(tracer.root, graph, "FoldedNetwork")
    for step in (_drop_idle, _fold_norms, _drop_ways, _share, _pad_inside):
        step(folded)
        folded.graph.eliminate_dead_code()
    folded.delete_all_unused_submodules()
    folded.graph.lint()
    folded.recompile()
    return copy.deepcopy(folded).eval()  # only now, when there is little left to copy


def lay_out_input(folded: fx.GraphModule) -> None:
    """Let a folded network lay out its images channels last in memory, in whichever layout they come."""
    (images,) = folded.graph.find_nodes(op="placeholder")
    with folded.graph.inserting_after(images):
        laid_out = folded.graph.call_method("contiguous", (images,), {"memory_format": torch.channels_last})
    images.replace_all_uses_with(laid_out, delete_user_cb=lambda user: user is not laid_out)
    folded.recompile()


class SameConv2d(nn.Conv2d):
    """A strided convolution with SAME padding, which depends on the input's size.

    (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride)).

    Args:
        conv: Its weights and geometry; it has no padding.
        same: The padding.
    """

    def __init__(self, conv: nn.Conv2d, same: SamePad) -> None:
        with torch.device("meta"):
            super().__init__(
                conv.in_channels, conv.out_channels, _pair(conv.kernel_size), _pair(conv.stride), groups=conv.groups
            )
        self.weight, self.bias, self.dilation = conv.weight, conv.bias, conv.dilation
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, with padding inside the convolution where it is the same on both sides."""
        (top, bottom), (left, right) = self.same.sides(x)
        if top == bottom and left == right:
            return F.conv2d(
                x, self.weight, self.bias, _pair(self.stride), (top, left), _pair(self.dilation), self.groups
            )
        return super().forward(self.same(x))


class _Tracer(fx.Tracer):
    """Records layers with weights, paddings and pools as single steps, and looks into everything else."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=(math, layers))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SamePad | Subsample | Pointwise | Depthwise | BatchNorm) or super().is_leaf_module(
            m, module_qualified_name
        )


def _module_of(network: fx.GraphModule, node: object) -> nn.Module | None:
    """The module that a step calls, if it calls one."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return network.get_submodule(str(node.target))
    return None


def _replace(node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _drop_idle(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        if isinstance(_module_of(network, node), nn.Identity | nn.Dropout):
            _replace(node, node.all_input_nodes[0])
        elif node.target is concat_channels:  # its own backward pass is of no use here
            with network.graph.inserting_before(node):
                plain = network.graph.call_function(torch.cat, (*node.args, 1))
            _replace(node, plain)


def _fold_norms(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        norm = _module_of(network, node)
        if isinstance(norm, nn.BatchNorm2d):
            (before,) = node.all_input_nodes
            sources = before.all_input_nodes if before.target is torch.cat else [before]
            convs = [_module_of(network, each) for each in sources]
            if len(before.users) > 1 or not all(isinstance(conv, nn.Conv2d) for conv in convs):
                network.set_submodule(str(node.target), _as_convolution(norm))
                continue
            first = 0
            for each, conv in zip(sources, convs, strict=True):
                assert isinstance(conv, nn.Conv2d)
                network.set_submodule(str(each.target), _fold_norm(conv, norm, first))
                first += conv.out_channels
            _replace(node, before)


def _as_convolution(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A norm that follows no convolution, as the factor and the offset of each channel that it is."""
    channels = norm.num_features
    with torch.device("meta"):
        plain = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    plain.weight = nn.Parameter(torch.ones(channels, 1, 1, 1, device=norm.weight.device, dtype=norm.weight.dtype))
    return _fold_norm(plain, norm, 0)


def _fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, first: int) -> nn.Conv2d:
    """A convolution with a bias that does what it did before the norm's channels from `first` on."""
    own = slice(first, first + conv.out_channels)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    statistics = mean[own], variance[own]
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.eps, norm.weight[own], norm.bias[own])
    return _make_plain(conv, weight, bias)


def _make_plain(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution of PyTorch's own kind, of the same geometry."""
    assert not isinstance(conv.padding, str)
    kernel, stride, padding, dilation = map(_pair, (conv.kernel_size, conv.stride, conv.padding, conv.dilation))
    with torch.device("meta"):
        made = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, dilation, conv.groups)
    made.weight = nn.Parameter(weight)
    made.bias = None if bias is None else nn.Parameter(bias)
    return made


def _drop_ways(network: fx.GraphModule) -> None:
    """1x1 convolutions that no norm follows stop to choose a way by the number of images, which is free in a graph."""
    for node in list(network.graph.nodes):
        conv = _module_of(network, node)
        if isinstance(conv, Pointwise):
            network.set_submodule(str(node.target), _make_plain(conv, conv.weight, conv.bias))


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = numbers
    return int(rows), int(columns)


def _share(network: fx.GraphModule) -> None:
    """Every ReLU becomes the same function, and what is called with the same arguments is called once."""
    known: dict[Hashable, fx.Node] = {}
    for node in list(network.graph.nodes):
        if isinstance(_module_of(network, node), nn.ReLU):
            node.op, node.target = "call_function", F.relu
        if node.target is F.relu:
            node.kwargs = {}  # in place or not makes no difference here
        if node.op == "call_function" and node.target is not operator.getitem:  # a slice cannot be a key
            key = (node.target, node.args, node.kwargs)
            if key in known:
                _replace(node, known[key])
            else:
                known[key] = node


def _pad_inside(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        conv = _module_of(network, node)
        if isinstance(conv, nn.Conv2d):
            (before,) = node.all_input_nodes
            same = _module_of(network, before)
            if isinstance(same, SamePad):
                network.set_submodule(str(node.target), SameConv2d(conv, same))
                node.replace_input_with(before, before.all_input_nodes[0])
