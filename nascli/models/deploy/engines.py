"""Engines: what answers with the logits of a trained network.

An engine maps normalized images, float32 (N, 3, H, W), to logits, float32 (N, classes), whatever it computes in.
`ENGINES` has all by name.

Shapes: N batch, H height, W width.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor, nn

from nascli.config import suggestion
from nascli.errors import InputError, NascliError, UnknownStepError
from nascli.models.deploy.fuse import fold, lay_out_input
from nascli.models.deploy.graphs import GraphedEngine, GraphStream
from nascli.models.deploy.openvino import OpenvinoEngine, Precision, require_cpu, supports
from nascli.models.deploy.translation import convert
from nascli.models.interface import ImageClassifier

Engine = Callable[[Tensor], Tensor]
Builder = TypeVar("Builder")
Built = TypeVar("Built")

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest `difference` from the network in float32 that an engine may have."""

MANY_IMAGES = 32
"""Images that pay for making the fastest engine, which takes a second for a network, three for a detector."""

_SHAPES_COMPILED = 64
"""Input shapes that a process may compile a network for; beyond torch's own limit of 8 it would run uncompiled."""


def build_trained(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The network as it was trained."""
    return _in_precision(_move(copy.deepcopy(network).eval(), device, precision), precision)


def build_folded(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The folded network (`nascli.models.deploy.fuse`): the fastest one that needs neither compiler nor package."""
    folded = fold(network)
    lay_out_input(folded)
    return _in_precision(_move(folded, device, precision), precision)


def build_graphed(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The folded network, launched as one CUDA graph per shape of images: the fastest on a GPU without a compiler.

    Raises:
        InputError: The device is no GPU.
    """
    if device.type != "cuda":
        raise InputError(f"the engine graphed needs a CUDA device, not {device}", "Use auto, folded or trained here")
    return GraphedEngine(build_folded(network, device, precision), GraphStream(device))


def build_compiled(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The folded network, compiled by `torch.compile` with frozen weights: minutes for each new input shape.

    Raises:
        InputError: There is no compiler; only once the engine is called.
    """
    module = torch.compile(_move(fold(network), device, precision), dynamic=False)
    compiled: set[torch.Size] = set()

    def run(images: Tensor) -> Tensor:
        if images.shape in compiled:
            return module(images)  # type: ignore[no-any-return]
        limits = torch._dynamo.config.patch(recompile_limit=_SHAPES_COMPILED)
        with torch._inductor.config.patch(freezing=True), limits:
            try:
                logits: Tensor = module(images)
            except Exception as error:  # torch raises its own at every stage, and what the compiler's absence raises
                raise InputError(
                    f"--compile: torch.compile does not work here ({str(error).splitlines()[0]})",
                    "Install a C++ compiler (g++, or name one in the environment variable CXX), or omit --compile",
                ) from error
        compiled.add(images.shape)
        return logits

    return _in_precision(run, precision)


def build_openvino(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The folded network in OpenVINO, the fastest on a CPU: half a second for each new input shape.

    Raises:
        InputError: OpenVINO is not installed, the device is no CPU, or the CPU has no instructions for the precision.
    """
    require_cpu(device)
    return OpenvinoEngine(convert(network), precision)


def list_engines(device: torch.device, precision: Precision = "float32") -> tuple[str, ...]:
    """The engines that answer on this device at once, the fastest last."""
    usual = ("trained", "folded")
    if device.type == "cuda":
        return (*usual, "graphed")
    return (*usual, "openvino") if device.type == "cpu" and supports(precision) else usual


ENGINES: dict[str, Callable[[ImageClassifier, torch.device, Precision], Engine]] = {
    "trained": build_trained,
    "folded": build_folded,
    "graphed": build_graphed,
    "compiled": build_compiled,
    "openvino": build_openvino,
}
"""From a network, a device and what is computed in to an engine; the network is left as it is."""


def build_engine(
    network: ImageClassifier, device: torch.device, name: str = "auto", precision: Precision = "float32"
) -> Engine:
    """The engine of that name; `auto` is the fastest of `list_engines` that knows the network's steps.

    Raises:
        InputError: There is none of that name, or it does not work here.
    """
    return find_engine(name, ENGINES, device, precision, lambda build: build(network, device, precision))[1]


def find_engine(
    name: str,
    engines: Mapping[str, Builder],
    device: torch.device,
    precision: Precision,
    call: Callable[[Builder], Built],
) -> tuple[str, Built]:
    """The name of an engine, and the engine.

    Args:
        name: A key of `engines`, or `auto`: the fastest of `list_engines` that knows the network's steps.
        call: Builds the engine from its entry in `engines`.

    Raises:
        InputError: There is none of that name, or it does not work here.
    """
    if name != "auto":
        if name not in engines:
            raise InputError(f"engine {name!r} is not known", suggestion(name, engines))
        return name, call(engines[name])
    slowest, *others = (each for each in list_engines(device, precision) if each in engines)
    for each in reversed(others):
        with suppress(UnknownStepError):
            return each, call(engines[each])
    return slowest, call(engines[slowest])


def compare_logits(found: Tensor, expected: Tensor, tolerance: float, *, subject: str, hint: str) -> float:
    """The largest difference of a logit, relative to the largest logit.

    Raises:
        NascliError: It is over the tolerance, or not a number.
    """
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    difference = float((found.to(expected) - expected).abs().max() / largest)
    if not difference <= tolerance:
        raise NascliError(
            f"{subject} other logits than the network: they differ by {difference:.1e} of the largest, "
            f"{tolerance:g} is allowed",
            hint,
        )
    return difference


def _move(module: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    dtype = getattr(torch, precision)
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _in_precision(engine: Engine, precision: Precision) -> Engine:
    """An engine that takes and gives float32, around one that takes and gives the precision."""
    dtype = getattr(torch, precision)
    return engine if precision == "float32" else lambda images: engine(images.to(dtype)).float()
