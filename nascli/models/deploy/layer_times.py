"""Measuring the layers of a latency table: all that networks of a space can have, each in the engine that answers.

A layer is timed between a 1x1 convolution and an average over the map, less the same without it: so neither the call of
the engine nor the copies of its input and output count, and what is before and after it is as in a network. The first
layer of a network is timed from the image on, with all that a call takes besides. Then a few whole networks are
measured, and the table's scale makes the sums meet them.

Shapes: N batch, C channels, H height, W width.
"""

import statistics
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from nascli.config import LatencyConfig
from nascli.locks import lock_machine
from nascli.models.convolutions import Pointwise
from nascli.models.deploy.graphs import GraphedEngine, GraphStream
from nascli.models.deploy.layer_table import LayerTime, as_text, require_keys
from nascli.models.deploy.parts import PART_ENGINES, Program
from nascli.models.deploy.timing import time_alone
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Key, Latency
from nascli.models.layers import global_average

_FRAME = 4
"""Channels that a frame reads."""


def time_layers(network: ImageClassifier, wanted: Collection[Key], form: LatencyConfig) -> Iterator[LayerTime]:
    """The rows of some layers of a network, each measured in a tenth of a second, with the threads of the context.

    Args:
        wanted: Their keys.
        form: Engine, precision and device; none is `auto`.

    Raises:
        InputError: The engine does not work here, or other measurements do not end.
    """
    keys, left = require_keys(network.spec), set(map(as_text, wanted))
    for place, (unit, key) in enumerate(zip(network.eval().units(), keys, strict=True)):
        if (text := as_text(key)) in left:
            left.remove(text)
            yield _time_layer(unit.module, key, form, whole=place == 0)


def fit_scale(measured: Sequence[Latency], sums: Sequence[Latency]) -> float:
    """The factor that makes the sums of layers meet networks that were measured whole: the median of the ratios."""
    return statistics.median(each.seconds / total.seconds for each, total in zip(measured, sums, strict=True))


def _time_layer(module: nn.Module, key: Key, form: LatencyConfig, *, whole: bool) -> LayerTime:
    channels, size, reads = int(key["in"]), int(key["size"]), 3 if whole else _FRAME
    device = torch.device(form.device)

    def time(layer: nn.Module | None) -> tuple[float, float, float]:
        framed = _Framed(None if whole else channels, layer).eval()
        program = _build_program(framed, reads, device, form)
        with lock_machine("latency"):
            return time_alone(program, torch.zeros(1, reads, size, size, device=device))

    frame = (0.0, 0.0, 0.0) if whole else time(None)
    lower, median, upper = (max(0.0, own - least) for own, least in zip(time(module), frame, strict=True))
    return LayerTime(key=dict(key), seconds=lower, median=median, upper=upper)


def _build_program(module: nn.Module, channels: int, device: torch.device, form: LatencyConfig) -> Program:
    if form.engine == "graphed":
        return GraphedEngine(PART_ENGINES["folded"](module, channels, device, form.precision), GraphStream(device))
    return PART_ENGINES[form.engine](module, channels, device, form.precision)


class _Framed(nn.Module):
    """A layer between a 1x1 convolution and an average: (1, C, H, W) to (1, C'); a linear one after the average."""

    def __init__(self, channels: int | None, layer: nn.Module | None) -> None:
        super().__init__()
        self.before = Pointwise(_FRAME, channels) if channels else nn.Identity()
        self.layer = nn.Identity() if layer is None or isinstance(layer, nn.Linear) else layer
        self.classifier = layer if isinstance(layer, nn.Linear) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        vector: Tensor = self.classifier(global_average(self.layer(self.before(x))))
        return vector
