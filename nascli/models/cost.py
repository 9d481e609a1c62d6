"""What a network costs: counted on one traced forward, so that no second formula can drift."""

from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from nascli.models.cells.network import Network
from nascli.models.cells.spec import NetworkSpec
from nascli.models.cells.topology import Step


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
    """One row of the table by cell: `shape` is the output's (C, H, W)."""

    name: str
    filters: int
    shape: tuple[int, int, int]
    params: int
    mult_adds: int


def measure_cost(network: Network | NetworkSpec) -> Cost:
    """The cost of a network. It is traced without computing, so the largest takes about a second."""
    twin = _twin(network)
    counter = _count(twin)
    auxiliary = sum(p.numel() for p in twin.aux_head.parameters()) if twin.aux_head else 0
    params = sum(p.numel() for p in twin.parameters()) - auxiliary
    return Cost(params, auxiliary, counter.get_total_flops() // 2, twin.spec.image_size)


def measure_layers(network: Network | NetworkSpec) -> list[LayerCost]:
    """The cost of the stem, of each cell in order, and of the classifier; they add up to `measure_cost`."""
    twin = _twin(network)
    shapes: dict[str, tuple[int, int, int]] = {}
    layers: dict[str, torch.nn.Module] = {"stem": twin.stem}
    layers |= {f"cells.{k}": cell for k, cell in twin.cells.items()} | {"classifier": twin.classifier}

    def remember(name: str) -> None:
        def hook(module: torch.nn.Module, given: object, output: torch.Tensor) -> None:
            shape = (*output.shape[1:], 1, 1)[:3]
            shapes[name] = (shape[0], shape[1], shape[2])

        layers[name].register_forward_hook(hook)

    for name in layers:
        remember(name)
    counts = _count(twin).get_flop_counts()
    filters = {f"cells.{k}": step.filters for k, step in enumerate(twin.plan)}
    labels = {f"cells.{k}": _label(step) for k, step in enumerate(twin.plan)}
    return [
        LayerCost(
            labels.get(name, name),
            filters.get(name, shapes[name][0]),
            shapes[name],
            sum(p.numel() for p in layer.parameters()),
            sum(counts.get(f"Network.{name}", {}).values()) // 2,
        )
        for name, layer in layers.items()
    ]


def _twin(network: Network | NetworkSpec) -> Network:
    """The same network without storage: shapes alone."""
    spec = network.spec if isinstance(network, Network) else network
    with torch.device("meta"):
        return Network(spec).eval()


def _count(twin: Network) -> FlopCounterMode:
    counter = FlopCounterMode(display=False)
    size = twin.spec.image_size
    with counter, torch.no_grad():
        twin(torch.empty(1, 3, size, size, device="meta"))
    return counter


def _label(step: Step) -> str:
    place = "stem" if step.stage == 0 else f"stage {step.stage}"
    return f"{place} {step.role}"
