"""Exact sizes of the published networks: the paper's tables, the released code, public summaries of its ports."""

import pytest

from nascli.config import CellNetworkConfig, MobileNetworkConfig
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cost import measure_cost, measure_layers
from nascli.models.families import build_network
from nascli.models.spec import resolve_network
from tests.cells import resolve_cells
from tests.published import CELL_NAMES, MOBILE_NAMES

NASNET_A = [
    # preset, classes, params, auxiliary head, mult-adds in millions, image size
    ("cifar10", 10, 3_346_538, 1_631_498, 544.33, 32),
    ("imagenet-mobile", 1000, 5_289_978, 2_411_240, 563.6, 224),
    ("imagenet-mobile", 1001, 5_291_035, 2_412_009, 563.6, 224),
    ("imagenet-large", 1000, 88_753_150, 4_567_784, 23_783.4, 331),
    ("imagenet-large", 1001, 88_757_183, 4_568_553, 23_783.4, 331),
]


@pytest.mark.parametrize(("preset", "classes", "params", "auxiliary", "mult_adds", "size"), NASNET_A)
def test_nasnet_a(preset: str, classes: int, params: int, auxiliary: int, mult_adds: float, size: int) -> None:
    config = CellNetworkConfig.model_validate({"preset": preset})
    spec = resolve_cells(zoo_genotype("nasnet-a"), config, classes=classes, aux_head=True)
    cost = measure_cost(spec)
    assert (cost.params, cost.params_auxiliary, cost.image_size) == (params, auxiliary, size)
    assert cost.mult_adds / 1e6 == pytest.approx(mult_adds, abs=0.06)


@pytest.mark.parametrize(
    ("preset", "params", "mult_adds"), [("pnasnet-large", 86_057_668, 24_937.4), ("pnasnet-mobile", 5_064_487, 587.3)]
)
def test_pnasnet_5(preset: str, params: int, mult_adds: float) -> None:
    """Large is timm's count; the paper says 86.1M and 25.0 billion, and 5.1M and 588M for mobile."""
    cost = measure_cost(resolve_cells(zoo_genotype("pnasnet-5"), CellNetworkConfig.model_validate({"preset": preset})))
    assert cost.params == params
    assert cost.mult_adds / 1e6 == pytest.approx(mult_adds, abs=0.06)


@pytest.mark.parametrize("preset", ["cifar10", "imagenet-mobile"])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_every_published_cell_keeps_its_stated_cost(name: str, preset: str) -> None:
    genotype = zoo_genotype(name)
    cost = measure_cost(resolve_cells(genotype, CellNetworkConfig.model_validate({"preset": preset})))
    key = preset.replace("-", "_")
    assert cost.params == genotype.provenance[f"params_{key}"]
    assert cost.mult_adds == genotype.provenance[f"mult_adds_{key}"]


@pytest.mark.parametrize("name", MOBILE_NAMES)
def test_every_published_mobile_network_keeps_its_stated_cost(name: str) -> None:
    genotype = zoo_genotype(name)
    cost = measure_cost(resolve_network(genotype, MobileNetworkConfig(preset="mnasnet")))
    assert cost.params == genotype.provenance["params_mnasnet"]
    assert cost.mult_adds == genotype.provenance["mult_adds_mnasnet"]


def test_layers_add_up_to_the_whole() -> None:
    spec = resolve_cells(zoo_genotype("nasnet-a"), CellNetworkConfig(preset="imagenet-mobile"), aux_head=True)
    layers, cost = measure_layers(spec), measure_cost(spec)
    assert sum(layer.params for layer in layers) == cost.params
    assert sum(layer.mult_adds for layer in layers) == cost.mult_adds
    assert [layer.shape for layer in layers[:4]] == [(32, 111, 111), (44, 56, 56), (88, 28, 28), (264, 28, 28)]
    assert layers[-2].shape == (1056, 7, 7)


def test_a_real_network_costs_what_its_spec_says() -> None:
    network = build_network("enas", "cifar10", filters=8, cells_per_stage=1)
    assert measure_cost(network).params == sum(p.numel() for p in network.parameters())


def test_feature_widths_of_the_published_sizes() -> None:
    spec = resolve_cells(zoo_genotype("nasnet-a"), CellNetworkConfig(preset="cifar10"))
    shapes = {layer.shape for layer in measure_layers(spec)}
    assert {(96, 32, 32), (192, 32, 32), (256, 16, 16), (384, 16, 16), (512, 8, 8), (768, 8, 8)} <= shapes
