"""Folded networks as graphs of OpenVINO, step by step.

Shapes: N batch, C channels, H height, W width.

OpenVINO's own converter takes any network that torch can export, in half a minute of one core for a small NASNet.
Folded networks (`nascli.models.deploy.fuse`) are made of two dozen kinds of steps, which have one step of OpenVINO
each; so they are translated here, in a second. SAME padding is a setting of OpenVINO's steps, so that N, H and W stay
free. A network with any other step goes through the converter.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from nascli.models import layers
from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.deploy.fuse import SameConv2d, fold
from nascli.models.deploy.openvino import Model, import_openvino
from nascli.models.deploy.program import INPUT, OUTPUT, quiet, trace_program
from nascli.models.interface import ImageClassifier
from nascli.models.layers import Subsample
from nascli.models.max_pool import max_pool2d

Opset = Any
Step = Any
"""OpenVINO's functions that make steps of its graphs, and such a step; mypy knows no types of these."""


def convert(network: ImageClassifier) -> Model:
    """A network as a model of OpenVINO: `images` (N, 3, H, W) to `logits` (N, classes), any N, H and W.

    Args:
        network: On the CPU, in float32; it is left as it is.

    Raises:
        InputError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    folded = fold(network)
    model = translate(folded, 3)
    if model is None:
        with quiet():
            model = openvino.convert_model(trace_program(folded, network.spec))
    model.outputs[0].set_names({OUTPUT})
    return model


def translate(folded: fx.GraphModule, channels: int) -> Model | None:
    """A folded module step by step as a model of OpenVINO; None where one of its steps is not known here.

    The input `images` is (N, `channels`, H, W), of any N, H and W. The outputs are those of the module, in order.

    Raises:
        InputError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    ops = openvino.opset15
    if not all(map(partial(_is_known, folded), folded.graph.nodes)):
        return None
    made: dict[fx.Node, Step] = {}
    for node in folded.graph.nodes:
        if node.op == "placeholder":
            images = made[node] = ops.parameter([-1, channels, -1, -1], np.float32, INPUT)
            images.output(0).set_names({INPUT})
        elif node.op == "output":
            outputs = [made[each] for each in tree_leaves(node.args[0])]
        else:
            made[node] = _translate(ops, folded, node, made)
    return openvino.Model([ops.result(each) for each in outputs], [images], "nascli")


def _is_known(folded: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(folded.get_submodule(str(node.target))) in _MODULES
    return node.op in ("placeholder", "output") or node.target in _FUNCTIONS


def _translate(ops: Opset, folded: fx.GraphModule, node: fx.Node, made: dict[fx.Node, Step]) -> Step:
    given, named = fx.map_arg((node.args, node.kwargs), made.__getitem__)
    if node.op == "call_module":
        module = folded.get_submodule(str(node.target))
        return _MODULES[type(module)](ops, module, *given)
    return _FUNCTIONS[node.target](ops, *given, **named)


def _convolve(ops: Opset, conv: nn.Conv2d, x: Step) -> Step:
    strides, dilations = list(conv.stride), list(conv.dilation)
    same, pads = ("same_upper", [0, 0]) if isinstance(conv, SameConv2d) else ("explicit", list(conv.padding))
    weight = conv.weight.detach()
    if conv.groups == 1:
        result = ops.convolution(x, _constant(ops, weight), strides, pads, pads, dilations, same)
    else:
        split = weight.reshape(conv.groups, -1, *weight.shape[1:])  # (groups, C_out of a group, C_in of a group, H, W)
        result = ops.group_convolution(x, _constant(ops, split), strides, pads, pads, dilations, same)
    return result if conv.bias is None else ops.add(result, _constant(ops, conv.bias.detach()[None, :, None, None]))


def _classify(ops: Opset, linear: nn.Linear, x: Step) -> Step:
    product = ops.matmul(x, _constant(ops, linear.weight), False, True)
    return ops.add(product, _constant(ops, linear.bias[None]))


def _average(ops: Opset, x: Step, kernel: int, stride: int) -> Step:
    sides, strides = [kernel, kernel], [stride, stride]
    return ops.avg_pool(x, strides, [0, 0], [0, 0], sides, True, "floor", "same_upper")


def _maximum(ops: Opset, x: Step, kernel: int, stride: int) -> Step:
    sides, strides = [kernel, kernel], [stride, stride]
    return ops.max_pool(x, strides, [1, 1], [0, 0], [0, 0], sides, "floor", "same_upper").output(0)


def _take(ops: Opset, x: Step, down: int, across: int) -> Step:
    return ops.max_pool(x, [down, across], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)


def _pool_plainly(
    ops: Opset,
    x: Step,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    **_: bool,
) -> Step:
    sides, strides, pads, dilations = ([each] * 2 for each in (kernel_size, stride, padding, dilation))
    rounding = "ceil" if ceil_mode else "floor"
    return ops.max_pool(x, strides, dilations, pads, pads, sides, rounding).output(0)


def _resize(ops: Opset, x: Step, size: Step, mode: str, **_: object) -> Step:
    assert mode == "nearest"
    axes = ops.constant(np.array([2, 3]))
    return ops.interpolate(x, size, "nearest", "sizes", [0, 0], [0, 0], "asymmetric", "floor", axes=axes)


def _take_item(ops: Opset, x: Step, key: int | slice) -> Step:
    """One of several tensors, or the last lengths of a shape."""
    if isinstance(key, int):
        return x.output(key)
    length = x.output(0).partial_shape[0].get_length()
    return ops.gather(x, ops.constant(np.arange(length)[key]), ops.constant(0))


def _split(ops: Opset, x: Step, lengths: Sequence[int], dim: int) -> Step:
    return ops.variadic_split(x, ops.constant(dim), ops.constant(np.array(lengths)))


def _flatten(ops: Opset, x: Step, start_dim: int, end_dim: int = -1) -> Step:
    """Join axes; those after them have lengths that are known."""
    shape = list(x.output(0).partial_shape)
    after = [each.get_length() for each in shape[end_dim % len(shape) + 1 :]]
    return ops.reshape(x, ops.constant(np.array([0] * start_dim + [-1, *after])), True)


def _pad(ops: Opset, x: Step, sides: Sequence[int], **_: object) -> Step:
    before, after = [np.array([0] * (4 - len(sides) // 2) + [*sides[first::2]][::-1]) for first in (0, 1)]
    return ops.pad(x, ops.constant(before), ops.constant(after), "constant", ops.constant(np.float32(0)))


def _pad_same(ops: Opset, x: Step, kernel: int, stride: int) -> Step:
    """Zeros around a map whose H and W are free: how many is computed in the graph."""
    zero, one, two, length, step = (ops.constant(np.int64(number)) for number in (0, 1, 2, kernel, stride))
    sides = ops.gather(ops.shape_of(x), ops.constant(np.array([2, 3])), zero)
    last = ops.multiply(ops.divide(ops.subtract(sides, one), step), step)  # where the last window begins
    total = ops.maximum(ops.subtract(ops.add(last, length), sides), zero)
    before = ops.divide(total, two)
    none = ops.constant(np.zeros(2, np.int64))  # of N and C
    first, second = (ops.concat([none, each], 0) for each in (before, ops.subtract(total, before)))
    return ops.pad(x, first, second, "constant", ops.constant(np.float32(0)))


def _mean(ops: Opset, x: Step, axes: int | Sequence[int] = (2, 3), *, keep: bool = False) -> Step:
    return ops.reduce_mean(x, ops.constant(np.array(axes)), keep)


def _average_plainly(
    ops: Opset, x: Step, kernel: int, stride: int, padding: int = 0, count_include_pad: bool = True
) -> Step:
    sides, strides, pads = ([each] * 2 for each in (kernel, stride, padding))
    return ops.avg_pool(x, strides, pads, pads, sides, not count_include_pad)


def _constant(ops: Opset, values: Tensor) -> Step:
    return ops.constant(values.detach().contiguous().numpy())


_MODULES: dict[type[nn.Module], Callable[..., Step]] = {
    **dict.fromkeys((nn.Conv2d, Depthwise, Pointwise, SameConv2d), _convolve),
    nn.Linear: _classify,
    nn.MaxPool2d: lambda ops, pool, x: _pool_plainly(
        ops, x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode
    ),
    nn.ReLU6: lambda ops, module, x: ops.clamp(x, 0.0, 6.0),
    Subsample: lambda ops, module, x: _take(ops, x, module.down, module.across),
}
_FUNCTIONS: dict[Any, Callable[..., Step]] = {
    F.relu: lambda ops, x: ops.relu(x),
    operator.add: lambda ops, x, y: ops.add(x, y),
    operator.mul: lambda ops, x, y: ops.multiply(x, y),
    torch.cat: lambda ops, maps, axis: ops.concat(maps, axis),
    F.pad: _pad,
    F.max_pool2d: _pool_plainly,
    max_pool2d: _pool_plainly,
    F.avg_pool2d: _average_plainly,
    F.interpolate: _resize,
    getattr: lambda ops, x, _: ops.shape_of(x),
    operator.getitem: _take_item,
    torch.split: _split,
    "contiguous": lambda ops, x, **_: x,
    "permute": lambda ops, x, *axes: ops.transpose(x, ops.constant(np.array(axes))),
    "flatten": _flatten,
    layers.avg_pool: _average,
    layers.max_pool: _maximum,
    layers.subsample: _take,
    layers.pad_same: _pad_same,
    layers.global_average: _mean,
    layers.average_map: partial(_mean, keep=True),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "mean": _mean,
}
