"""Engines of a part of a network: what computes any module that takes one tensor, once it is trained.

Shapes: N batch, C channels, H height, W width.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_structure, tree_unflatten

from nascli.errors import UnknownStepError
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.openvino import OpenvinoProgram, Precision, require_cpu
from nascli.models.deploy.translation import translate

Program = Callable[[Tensor], Any]
"""From one tensor to what a module gives for it."""


def _build_trained(module: nn.Module, channels: int, device: torch.device, precision: Precision) -> Program:
    return module if precision == "float32" else _in_precision(copy.deepcopy(module), device, precision)


def _build_folded(module: nn.Module, channels: int, device: torch.device, precision: Precision) -> Program:
    return _in_precision(fold(module), device, precision)


def _build_openvino(module: nn.Module, channels: int, device: torch.device, precision: Precision) -> Program:
    require_cpu(device)
    folded = fold(module)
    model = translate(folded, channels)
    if model is None:
        raise UnknownStepError(
            "this network has steps that are not translated for OpenVINO", "Give --engine folded or trained"
        )
    (output,) = folded.graph.find_nodes(op="output")
    outputs, program = tree_structure(output.args[0]), OpenvinoProgram(model, precision)
    return lambda x: tree_unflatten(program(x), outputs)


def _in_precision(module: nn.Module, device: torch.device, precision: Precision) -> Program:
    """A module that takes and gives float32, whatever it computes in."""
    dtype = getattr(torch, precision)
    moved = module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda x: tree_map(Tensor.float, moved(x.to(dtype)))


PART_ENGINES: dict[str, Callable[[nn.Module, int, torch.device, Precision], Program]] = {
    "trained": _build_trained,
    "folded": _build_folded,
    "openvino": _build_openvino,
}
"""From a module, the channels it reads, a device and what is computed in to a program."""
