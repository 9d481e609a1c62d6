"""Every engine that a GPU has gives the network's logits, in each precision."""

import pytest
import torch

from nascli.config import CellNetworkConfig
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.deploy.engines import ENGINES, TOLERANCES, build_engine, compare_logits
from nascli.models.deploy.graphs import GraphedEngine
from nascli.models.deploy.openvino import Precision
from tests.cells import build_cells
from tests.gpu.devices import on_gpu, without_tf32


def settled_network() -> CellNetwork:
    """NASNet-A whose batch norms have the statistics of noise."""
    torch.manual_seed(0)
    network = build_cells(zoo_genotype("nasnet-a"), CellNetworkConfig(filters=8, cells_per_stage=1), classes=10)
    for norm in (each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(16, 3, 32, 32))
    return network.eval()


@on_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("engine", [each for each in ENGINES if each not in ("openvino", "compiled")])
def test_logits_are_those_of_a_cpu(device: torch.device, engine: str, precision: Precision) -> None:
    network, images = settled_network(), torch.randn(5, 3, 32, 32)
    with torch.no_grad(), without_tf32():
        expected, answer = network(images), build_engine(network, device, engine, precision)
        for count in (1, 5, 1, 5, 1):
            found = answer(images[:count].to(device)).cpu()
            compare_logits(found, expected[:count], TOLERANCES[precision], subject=engine, hint="")


@on_gpu
def test_the_engine_by_default_captures_each_number_of_images(device: torch.device) -> None:
    engine, images = build_engine(settled_network(), device), torch.randn(5, 3, 32, 32, device=device)
    assert isinstance(engine, GraphedEngine)
    first = [engine(images[:count]) for count in (1, 5)]
    kept = [engine(images[:count]) for count in (1, 5)]
    later = [engine(-images[:count]) for count in (1, 5)]
    assert engine.captures == 2
    for one, again, other in zip(first, kept, later, strict=True):
        torch.testing.assert_close(again, one, rtol=1e-3, atol=1e-4)  # what it gave stays as it was
        assert not torch.equal(other, one)


@on_gpu
def test_a_fresh_number_of_images_may_come_under_inference_mode(device: torch.device) -> None:
    engine, images = build_engine(settled_network(), device), torch.randn(2, 3, 32, 32, device=device)
    with torch.inference_mode():
        found = [engine(images) for _ in range(3)]
    torch.testing.assert_close(engine(images), found[0], rtol=1e-3, atol=1e-4)
