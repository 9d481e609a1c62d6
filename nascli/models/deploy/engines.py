"""The forms of one network: as it is trained, folded, packed, compiled. All give the same logits; how fast is each?

Shapes: N batch, C channels, H height, W width.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from nascli.errors import InputError, NascliError
from nascli.models.deploy.fuse import fold, pack
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency, measure_latency

Form = Literal["training", "folded", "packed", "compiled"]
Precision = Literal["float32", "bfloat16"]

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 5e-2}
"""The largest `difference` from the training form in float32 that a form may have."""

_DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_BATCHES_COMPILED = 64
"""How many batches a process may compile a network for; torch's own limit is 8, and then it computes without."""


@dataclass(frozen=True)
class FormSpeed:
    """How fast one form is, and how far its logits are from those of the training form in float32.

    `difference` is the largest of a logit relative to the largest logit, on the images of this batch.
    """

    form: Form
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
        own = {"form": self.form, "precision": self.precision, "layout": self.layout, "difference": self.difference}
        return {**own, **asdict(self.latency), "images_per_second": self.images_per_second}


def inference_form(network: ImageClassifier, device: torch.device) -> fx.GraphModule:
    """The form that answers fastest without a compiler: packed on a CPU, folded elsewhere; channels last in memory.

    Args:
        network: A trained network; it is left as it is.
        device: Where to put the form.

    Returns:
        A module in evaluation mode, normalised images (N, 3, H, W) to logits (N, classes).
    """
    folded = fold(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return pack(folded) if _packs(device, torch.float32) else folded


def measure_forms(
    network: ImageClassifier,
    batches: Sequence[int],
    *,
    precision: Precision = "float32",
    device: torch.device | None = None,
    compiled: bool = False,
) -> Iterator[FormSpeed]:
    """Time each form of a network on random images of its size; each is first compared with the training form.

    Channels last in memory, without gradients, with the threads of the context. In bfloat16 weights and images are
    converted; what they are compared with stays float32.

    Args:
        network: Any weights will do, speed does not depend on them; it is left as it is.
        batches: Every N to measure with.
        precision: The type of weights and images.
        device: Where to compute; None is the CPU.
        compiled: Measure the folded form compiled too (`torch.compile`, weights frozen); compiling takes minutes.

    Yields:
        One row a form and N, as soon as it is measured.

    Raises:
        NascliError: A form gives other logits.
        InputError: It shall be compiled, and there is no compiler.
    """
    place = device or torch.device("cpu")
    reference = _placed(copy.deepcopy(network).eval(), place, torch.float32)
    expected = {batch: _logits(reference, _images(network, batch, place)) for batch in batches}
    for form in _forms(place, _DTYPES[precision], compiled=compiled):
        module = _built(form, network, place, _DTYPES[precision])
        with torch._inductor.config.patch(freezing=True), torch._dynamo.config.patch(recompile_limit=_BATCHES_COMPILED):
            measured = [_measure(form, module, network, expected[batch], precision) for batch in batches]
        yield from measured


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of a logit, relative to the largest logit."""
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((found.to(expected) - expected).abs().max() / largest)


def _measure(
    form: Form, module: nn.Module, network: ImageClassifier, expected: Tensor, precision: Precision
) -> FormSpeed:
    images = _images(network, len(expected), expected.device).to(_DTYPES[precision])
    try:
        difference = relative_difference(_logits(module, images), expected)
    except Exception as error:  # torch raises its own at every stage, and what the compiler's absence raises
        if form != "compiled":
            raise
        raise InputError(
            f"--compile: torch.compile does not work here ({str(error).splitlines()[0]})",
            "Install a C++ compiler (g++, or name one in the environment variable CXX), or leave --compile out",
        ) from error
    if not difference <= TOLERANCES[precision]:
        raise NascliError(
            f"the {form} form in {precision} gives other logits than the training form: they differ by "
            f"{difference:.1e} of the largest, {TOLERANCES[precision]:g} is allowed",
            "Nothing is measured of what computes something else",
        )
    latency = measure_latency(module, network.spec.image_size, batch=len(expected))
    return FormSpeed(form, precision, "channels last", difference, latency)


def _forms(device: torch.device, dtype: torch.dtype, *, compiled: bool) -> Iterator[Form]:
    yield "training"
    yield "folded"
    if _packs(device, dtype):
        yield "packed"
    if compiled:
        yield "compiled"


def _built(form: Form, network: ImageClassifier, device: torch.device, dtype: torch.dtype) -> nn.Module:
    if form == "training":
        return _placed(copy.deepcopy(network).eval(), device, dtype)
    folded = fold(network)
    module: nn.Module = _placed(folded, device, dtype)
    if form == "packed":
        return pack(folded)
    if form == "compiled":
        module = torch.compile(module, dynamic=False)  # type: ignore[assignment]
    return module


def _packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN can be used: it packs for CPUs, and bfloat16 only on those that have instructions for it."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _placed(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _images(network: ImageClassifier, batch: int, device: torch.device) -> Tensor:
    side = network.spec.image_size
    images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    return images.contiguous(memory_format=torch.channels_last)


def _logits(module: nn.Module, images: Tensor) -> Tensor:
    """In full float32: a GPU else rounds the inputs of its convolutions, in each form at other places."""
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        logits: Tensor = module(images)
        return logits
