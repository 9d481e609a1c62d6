"""OpenVINO, the engine that answers fastest on CPUs. This module alone imports it.

Shapes: N batch, C channels, H height, W width.
"""

import importlib.util
import sys
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from nascli.errors import InputError

Precision = Literal["float32", "bfloat16"]

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
_SHAPES_COMPILED = 4

Model = Any
"""OpenVINO's models; mypy knows no types of them."""


def supports(precision: Precision) -> bool:
    """Whether OpenVINO is installed, and this CPU has instructions for the precision."""
    if not importlib.util.find_spec("openvino"):
        return False
    return precision == "float32" or "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require_cpu(device: torch.device) -> None:
    """InputError where a network is to answer on another device."""
    if device.type != "cpu":
        raise InputError(
            f"the engine openvino answers on CPUs, not on {device}", "Give --device cpu, or another engine"
        )


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


def open_core() -> Any:  # noqa: ANN401 - the package's Core
    """The object that reads and compiles models, one per process; InputError where OpenVINO is not installed.

    Each `Core` that computes on a CPU gives this thread another stack for signals, and takes it back when it goes. Of
    two that go in the order in which they came, the second puts back a stack that is freed: the next Ctrl-C is then a
    segmentation fault.
    """
    return _make_core(import_openvino())


@cache
def _make_core(openvino: Any) -> Any:  # noqa: ANN401
    return openvino.Core()


class OpenvinoProgram:
    """A model of OpenVINO, computed on the CPU with as many threads as torch has.

    The model is compiled for each of the first few shapes of its input, which takes half a second and is a quarter
    faster than one for free shapes; that one is compiled for all further shapes together.

    Args:
        model: Has one input (N, C, H, W).
        precision: `bfloat16` lets convolutions compute in it; input and outputs stay float32.

    Raises:
        InputError: OpenVINO is not installed, or the CPU has no instructions for the precision.
    """

    def __init__(self, model: Model, precision: Precision) -> None:
        self._core, self._precision = open_core(), precision
        if not supports(precision):
            raise InputError(f"this CPU has no instructions for {precision}", "Give --precision float32")
        self._model = model
        self._requests: dict[tuple[torch.Size | None, int], Any] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        """The outputs for one input."""
        threads = torch.get_num_threads()
        known = (x.shape, threads) in self._requests or len(self._requests) < _SHAPES_COMPILED
        key = (x.shape if known else None, threads)
        if key not in self._requests:
            self._requests[key] = self._compile(*key)
        result = self._requests[key].infer([x.float().contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(result[place]) for place in range(len(self._model.outputs))]

    def _compile(self, shape: torch.Size | None, threads: int) -> Any:  # noqa: ANN401
        model = self._model
        if shape is not None:
            model = model.clone()
            model.reshape(list(shape))
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        return self._core.compile_model(model, "CPU", options).create_infer_request()


class OpenvinoEngine:
    """The logits of a model of OpenVINO, computed as by `OpenvinoProgram`.

    Args:
        model: Images (N, 3, H, W) to logits (N, classes).
        precision: As for `OpenvinoProgram`.

    Raises:
        InputError: OpenVINO is not installed, or the CPU has no instructions for the precision.
    """

    def __init__(self, model: Model, precision: Precision) -> None:
        self._program = OpenvinoProgram(model, precision)

    def __call__(self, images: Tensor) -> Tensor:
        """The logits (N, classes) of images (N, 3, H, W)."""
        (logits,) = self._program(images)
        return logits
