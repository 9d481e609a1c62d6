"""Engines: what answers with the logits of a trained network. Each is checked against the network before it is timed.

An engine maps normalized images (N, 3, H, W) to logits (N, classes). `ENGINES` has all by name.

Shapes: N batch, H height, W width.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from nascli.errors import InputError, NascliError
from nascli.models.cost import Latency, measure_latency
from nascli.models.deploy.fuse import fold, lay_out_input
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec

Engine = Callable[[Tensor], Tensor]
Precision = Literal["float32", "bfloat16"]

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


def build_trained(network: ImageClassifier, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network as it was trained."""
    return _move(copy.deepcopy(network).eval(), device, dtype)


def build_folded(network: ImageClassifier, device: torch.device, dtype: torch.dtype = torch.float32) -> fx.GraphModule:
    """The folded network (`nascli.models.deploy.fuse`): the fastest one that needs no compiler."""
    folded = fold(network)
    lay_out_input(folded)
    _move(folded, device, dtype)
    return folded


def build_compiled(network: ImageClassifier, device: torch.device, dtype: torch.dtype) -> Engine:
    """The folded network, compiled by `torch.compile` with frozen weights: minutes for each new input shape.

    Raises:
        InputError: There is no compiler; only once the engine is called.
    """
    module = torch.compile(_move(fold(network), device, dtype), dynamic=False)
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

    return run


ENGINES: dict[str, Callable[[ImageClassifier, torch.device, torch.dtype], Engine]] = {
    "trained": build_trained,
    "folded": build_folded,
    "compiled": build_compiled,
}
"""From a network, a device and the type of weights and images to an engine; the network is left as it is."""

DEFAULT_ENGINES = ("trained", "folded")
"""Those that work everywhere, at once."""


def time_engines(
    network: ImageClassifier,
    batches: Sequence[int],
    *,
    engines: Sequence[str] = DEFAULT_ENGINES,
    precision: Precision = "float32",
    device: torch.device | None = None,
) -> Iterator[EngineTiming]:
    """Time engines of a network on random images of its size, after their logits were compared with the network's.

    Channels last in memory, without gradients, with the threads of the context. In bfloat16 weights and images are
    converted; what they are compared with stays float32.

    Args:
        network: Any weights will do, speed does not depend on them; it is left as it is.
        batches: Every N to measure with.
        engines: Names in `ENGINES`.
        device: None is the CPU.

    Yields:
        One row per engine and N, as soon as it is measured.

    Raises:
        NascliError: An engine gives other logits.
        InputError: An engine does not work here.
    """
    place, dtype = device or torch.device("cpu"), getattr(torch, precision)
    reference = build_trained(network, place, torch.float32)
    images = {
        batch: make_images(network.spec, batch).to(place).contiguous(memory_format=torch.channels_last)
        for batch in batches
    }
    expected = {batch: _run(reference, images[batch]) for batch in batches}
    for name in engines:
        engine = ENGINES[name](network, place, dtype)
        for batch in batches:
            difference = compare_logits(
                _run(engine, images[batch].to(dtype)),
                expected[batch],
                TOLERANCES[precision],
                subject=f"the engine {name} in {precision} gives",
                hint="Nothing is measured of what computes something else",
            )
            latency = measure_latency(engine, network.spec.image_size, batch=batch, device=place, dtype=dtype)
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


def make_images(spec: NetworkSpec, batch: int) -> Tensor:
    """The random images (N, 3, H, W) that logits are compared on; the same each time."""
    side = spec.image_size
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def _move(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _run(engine: Engine, images: Tensor) -> Tensor:
    """The logits in full float32: a GPU else rounds the inputs of convolutions, in each engine at other places."""
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return engine(images)
