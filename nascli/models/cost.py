"""The cost of a network: params and mult-adds, counted on one traced forward: no second formula can drift from it."""

from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec


@dataclass(frozen=True)
class Cost:
    """Size and work of a network.

    `params` are trainable parameters without the auxiliary head, `params_auxiliary` those of the head alone;
    `mult_adds` are multiply-accumulates of convolutions and the classifier for one image of `image_size` pixels a side.
    """

    params: int
    params_auxiliary: int
    mult_adds: int
    image_size: int

    def to_dict(self) -> dict[str, int]:
        """The four numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class LayerCost:
    """One row of the table by unit: `shape` is the output's (C, H, W)."""

    name: str
    filters: int
    shape: tuple[int, int, int]
    params: int
    mult_adds: int


def measure_cost(network: ImageClassifier | NetworkSpec) -> Cost:
    """The cost of a network. It is traced without computing, so the largest takes about a second."""
    twin = _twin(network)
    counter = _count(twin)
    auxiliary = sum(p.numel() for p in twin.aux_head.parameters()) if twin.aux_head else 0
    params = sum(p.numel() for p in twin.parameters()) - auxiliary
    return Cost(params, auxiliary, counter.get_total_flops() // 2, twin.spec.image_size)


def measure_layers(network: ImageClassifier | NetworkSpec) -> list[LayerCost]:
    """The cost of each unit of the network; they add up to `measure_cost`."""
    twin = _twin(network)
    shapes: dict[torch.nn.Module, tuple[int, int, int]] = {}
    units = twin.units()

    def remember(module: torch.nn.Module, given: object, output: torch.Tensor) -> None:
        channels, height, width = (*output.shape[1:], 1, 1)[:3]
        shapes[module] = (channels, height, width)

    for unit in units:
        unit.module.register_forward_hook(remember)
    counts, root = _count(twin).get_flop_counts(), type(twin).__name__
    return [
        LayerCost(
            unit.label,
            unit.filters or shapes[unit.module][0],
            shapes[unit.module],
            sum(p.numel() for p in unit.module.parameters()),
            sum(counts.get(f"{root}.{unit.path}", {}).values()) // 2,
        )
        for unit in units
    ]


def _twin(network: ImageClassifier | NetworkSpec) -> ImageClassifier:
    """The same network without storage: shapes alone."""
    spec = network.spec if isinstance(network, ImageClassifier) else network
    with torch.device("meta"):
        return build(spec).eval()


def _count(twin: ImageClassifier) -> FlopCounterMode:
    counter = FlopCounterMode(display=False)
    size = twin.spec.image_size
    with counter, torch.no_grad():
        twin(torch.empty(1, 3, size, size, device="meta"))
    return counter
