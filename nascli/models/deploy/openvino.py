"""Networks for OpenVINO, the engine that answers fastest on CPUs: the folded network, step by step, as its graph.

Shapes: N batch, C channels, H height, W width.

OpenVINO's own converter takes any network that torch can export, in half a minute of one core for a small NASNet.
Folded networks (`nascli.models.deploy.fuse`) are made of a dozen kinds of steps, which have one step of OpenVINO each;
so they are translated here, in a second. SAME padding is a setting of OpenVINO's steps, so that N, H and W stay free.
A network with any other step goes through the converter.
"""

import importlib.util
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nascli.errors import InputError
from nascli.models import layers
from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.deploy.fuse import SameConv2d, fold
from nascli.models.deploy.program import INPUT, OUTPUT, quiet, trace_program
from nascli.models.interface import ImageClassifier
from nascli.models.layers import Subsample

Precision = Literal["float32", "bfloat16"]

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
_SHAPES_KEPT = 8

Model = Any
Opset = Any
Step = Any
"""OpenVINO's models, its functions that make steps of their graphs, and such a step; mypy knows no types of these."""


def supports(precision: Precision) -> bool:
    """Whether OpenVINO is installed, and this CPU has instructions for the precision."""
    if not importlib.util.find_spec("openvino"):
        return False
    return precision == "float32" or "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def import_openvino() -> Any:  # noqa: ANN401 - the package
    """The package; InputError where it is not installed."""
    try:
        # with this package, which it brings along, it would report over the network that it is used
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
    except ImportError as error:
        raise InputError(
            "the engine openvino needs OpenVINO, which is not installed", 'pip install "nascli[openvino]"'
        ) from error
    return openvino


class OpenvinoEngine:
    """A network's logits, computed by OpenVINO on the CPU.

    For each new shape of images the network is compiled, which takes half a second: a graph whose batch is known is a
    quarter faster than one whose batch is free. The last few shapes are kept.

    Args:
        network: Or a model of OpenVINO; it is left as it is.
        precision: `bfloat16` lets convolutions compute in it; images and logits stay float32.

    Raises:
        InputError: OpenVINO is not installed, or the CPU has no instructions for the precision.
    """

    def __init__(self, network: ImageClassifier | Model, precision: Precision) -> None:
        self._core, self._precision = import_openvino().Core(), precision
        if not supports(precision):
            raise InputError(f"this CPU has no instructions for {precision}", "Give --precision float32")
        self._model = convert(network) if isinstance(network, ImageClassifier) else network
        self._requests: OrderedDict[tuple[torch.Size, int], Any] = OrderedDict()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The logits (N, classes) of images (N, 3, H, W), computed with as many threads as torch has."""
        key = images.shape, torch.get_num_threads()
        request = self._requests.pop(key, None) or self._compile(*key)
        self._requests[key] = request
        if len(self._requests) > _SHAPES_KEPT:
            self._requests.popitem(last=False)
        result = request.infer([images.float().contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(result[0])

    def _compile(self, shape: torch.Size, threads: int) -> Any:  # noqa: ANN401
        model = self._model.clone()
        model.reshape(list(shape))
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        return self._core.compile_model(model, "CPU", options).create_infer_request()


def convert(network: ImageClassifier) -> Model:
    """A network as a model of OpenVINO: `images` (N, 3, H, W) to `logits` (N, classes), any N, H and W.

    Args:
        network: On the CPU, in float32; it is left as it is.

    Raises:
        InputError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    ops = openvino.opset15
    folded = fold(network)
    if not all(map(partial(_is_known, folded), folded.graph.nodes)):
        with quiet():
            model = openvino.convert_model(trace_program(folded, network.spec))
        model.outputs[0].set_names({OUTPUT})
        return model
    made: dict[fx.Node, Step] = {}
    for node in folded.graph.nodes:
        if node.op == "placeholder":
            images = made[node] = ops.parameter([-1, 3, -1, -1], np.float32, INPUT)
            images.output(0).set_names({INPUT})
        elif node.op == "output":
            logits = made[node.args[0]]
        else:
            made[node] = _translate(ops, folded, node, made)
    logits.output(0).set_names({OUTPUT})
    return openvino.Model([ops.result(logits)], [images], "nascli")


def _is_known(folded: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(folded.get_submodule(str(node.target))) in _MODULES
    return node.op in ("placeholder", "output") or node.target in _FUNCTIONS


def _translate(ops: Opset, folded: fx.GraphModule, node: fx.Node, made: dict[fx.Node, Step]) -> Step:
    given = fx.map_arg(node.args, made.__getitem__)
    if node.op == "call_module":
        module = folded.get_submodule(str(node.target))
        return _MODULES[type(module)](ops, module, *given)
    return _FUNCTIONS[node.target](ops, *given)


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


def _pad(ops: Opset, x: Step, sides: Sequence[int]) -> Step:
    before, after = [np.array([0] * (4 - len(sides) // 2) + [*sides[first::2]][::-1]) for first in (0, 1)]
    return ops.pad(x, ops.constant(before), ops.constant(after), "constant", ops.constant(np.float32(0)))


def _mean(ops: Opset, x: Step, axes: Sequence[int] = (2, 3)) -> Step:
    return ops.reduce_mean(x, ops.constant(np.array(axes)), False)


def _constant(ops: Opset, values: Tensor) -> Step:
    return ops.constant(values.detach().contiguous().numpy())


_MODULES: dict[type[nn.Module], Callable[..., Step]] = {
    **dict.fromkeys((nn.Conv2d, Depthwise, Pointwise, SameConv2d), _convolve),
    nn.Linear: _classify,
    Subsample: lambda ops, module, x: _take(ops, x, module.down, module.across),
}
_FUNCTIONS: dict[Any, Callable[..., Step]] = {
    F.relu: lambda ops, x: ops.relu(x),
    operator.add: lambda ops, x, y: ops.add(x, y),
    torch.cat: lambda ops, maps, axis: ops.concat(maps, axis),
    F.pad: _pad,
    layers.avg_pool: _average,
    layers.max_pool: _maximum,
    layers.subsample: _take,
    layers.global_average: _mean,
    "mean": _mean,
}
