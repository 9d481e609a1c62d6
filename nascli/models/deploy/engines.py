"""Engines: what answers with the logits of a trained network. Each is checked against the network before it is timed.

An engine maps normalized images, float32 (N, 3, H, W), to logits, float32 (N, classes), whatever it computes in.
`ENGINES` has all by name.

Shapes: N batch, H height, W width.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from nascli.config import suggestion
from nascli.errors import InputError, NascliError, UnknownStepError
from nascli.models.cost import Latency, measure_latency
from nascli.models.deploy.fuse import fold, lay_out_input
from nascli.models.deploy.openvino import OpenvinoEngine, Precision, supports
from nascli.models.deploy.program import make_images
from nascli.models.deploy.translation import convert
from nascli.models.interface import ImageClassifier

Engine = Callable[[Tensor], Tensor]
Builder = TypeVar("Builder")
Built = TypeVar("Built")

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest `difference` from the network in float32 that an engine may have."""

_SHAPES_COMPILED = 64
"""Input shapes that a process may compile a network for; beyond torch's own limit of 8 it would run uncompiled."""


@dataclass(frozen=True)
class EngineTiming:
    """The speed of one engine, and how far its logits are from the network's in float32.

    `difference` is the largest of a logit relative to the largest logit, on the images of this batch.
    """

    engine: str
    precision: Precision
    layout: str
    difference: float
    latency: Latency

    @property
    def images_per_second(self) -> float:
        """N over the median of the seconds."""
        return self.latency.batch / self.latency.seconds

    def to_dict(self) -> dict[str, object]:
        """Every number by name; seconds with their quartiles."""
        own = {key: value for key, value in vars(self).items() if key != "latency"}
        return {**own, **asdict(self.latency), "images_per_second": self.images_per_second}


def build_trained(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The network as it was trained."""
    return _in_precision(_move(copy.deepcopy(network).eval(), device, precision), precision)


def build_folded(network: ImageClassifier, device: torch.device, precision: Precision = "float32") -> Engine:
    """The folded network (`nascli.models.deploy.fuse`): the fastest one that needs neither compiler nor package."""
    folded = fold(network)
    lay_out_input(folded)
    return _in_precision(_move(folded, device, precision), precision)


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
    if device.type != "cpu":
        raise InputError(
            f"the engine openvino answers on CPUs, not on {device}", "Give --device cpu, or another engine"
        )
    return OpenvinoEngine(convert(network), precision)


def list_engines(device: torch.device, precision: Precision = "float32") -> tuple[str, ...]:
    """The engines that answer on this device at once, the fastest last."""
    usual = ("trained", "folded")
    return (*usual, "openvino") if device.type == "cpu" and supports(precision) else usual


ENGINES: dict[str, Callable[[ImageClassifier, torch.device, Precision], Engine]] = {
    "trained": build_trained,
    "folded": build_folded,
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
    slowest, *others = list_engines(device, precision)
    for each in reversed(others):
        with suppress(UnknownStepError):
            return each, call(engines[each])
    return slowest, call(engines[slowest])


def time_engines(
    network: ImageClassifier,
    batches: Sequence[int],
    *,
    engines: Sequence[str] | None = None,
    precision: Precision = "float32",
    device: torch.device | None = None,
) -> Iterator[EngineTiming]:
    """Time engines of a network on random images of its size, after their logits were compared with the network's.

    Channels last in memory, without gradients, with the threads of the context.

    Args:
        network: Any weights will do, speed does not depend on them; it is left as it is.
        batches: Every N to measure with.
        engines: Names in `ENGINES`; None is `list_engines`.
        device: None is the CPU.

    Yields:
        One row per engine and N, as soon as it is measured.

    Raises:
        NascliError: An engine gives other logits.
        InputError: An engine does not work here.
    """
    place = device or torch.device("cpu")
    reference = build_trained(network, place)
    images = {
        batch: make_images(network.spec, batch).to(place).contiguous(memory_format=torch.channels_last)
        for batch in batches
    }
    expected = {batch: _run(reference, images[batch]) for batch in batches}
    for name in engines or list_engines(place, precision):
        engine = ENGINES[name](network, place, precision)
        for batch in batches:
            difference = compare_logits(
                _run(engine, images[batch]),
                expected[batch],
                TOLERANCES[precision],
                subject=f"the engine {name} in {precision} gives",
                hint="Nothing is measured of what computes something else",
            )
            latency = measure_latency(engine, network.spec.image_size, batch=batch, device=place)
            yield EngineTiming(name, precision, "channels last", difference, latency)


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


def _run(engine: Engine, images: Tensor) -> Tensor:
    """The logits in full float32: a GPU else rounds the inputs of convolutions, in each engine at other places."""
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return engine(images)
