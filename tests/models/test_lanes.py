"""Lanes compute what the packed network computes, whatever happens to one of them."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, fx, nn

from nascli.config import NetworkConfig
from nascli.genotype.schema import Genotype
from nascli.genotype.sources import zoo_genotype
from nascli.models.inference import fold, pack
from nascli.models.lanes import Lanes
from nascli.models.network import Network
from nascli.models.spec import resolve_network
from tests.genotype.strategies import genotypes

NASNET_A = zoo_genotype("nasnet-a")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def packed(genotype: Genotype) -> fx.GraphModule:
    config = NetworkConfig(filters=4, cells_per_stage=1, image_size=16)
    torch.manual_seed(0)
    return pack(fold(Network(resolve_network(genotype, config, classes=3)).eval()))


def in_lanes(network: fx.GraphModule, count: int = 2) -> Lanes:
    """Also where it does not pay, as for a network so small."""
    lanes = Lanes(network, count, 16)
    lanes.worthwhile = True
    return lanes


def modules_called(network: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in network.graph.nodes if node.op == "call_module"]


@settings(max_examples=6)
@given(genotypes())
def test_any_cell_gives_the_same_logits(genotype: Genotype) -> None:
    network = packed(genotype)
    lanes = in_lanes(network)
    for shape in ((1, 3, 16, 16), (2, 3, 16, 16), (5, 3, 13, 22), (1, 3, 12, 14)):
        images = torch.randn(shape)
        torch.testing.assert_close(lanes(images), network(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_every_step_is_computed_in_one_lane(count: int) -> None:
    network = packed(NASNET_A)
    lanes = in_lanes(network, count)
    computed = [
        name for lane in lanes.programs for name in modules_called(lane) if not name.startswith(("get_", "put_"))
    ]
    assert sorted(computed) == sorted(modules_called(network))
    shares = [len(modules_called(lane)) for lane in lanes.programs]
    assert min(shares) > sum(shares) / count / 3  # all have something to do


def test_it_gives_the_same_on_every_call() -> None:
    lanes = in_lanes(packed(NASNET_A))
    images = torch.randn(1, 3, 16, 16)
    first = lanes(images)
    for _ in range(20):
        assert torch.equal(lanes(images), first)


def test_the_callers_threads_stay_as_many() -> None:
    lanes = in_lanes(packed(NASNET_A))
    lanes(torch.randn(1, 3, 16, 16))
    assert torch.get_num_threads() == 2


def test_lanes_that_would_only_wait_are_not_used_for_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = packed(NASNET_A)
    lanes = Lanes(network, 2, 16)
    assert not lanes.worthwhile
    lanes(torch.randn(2, 3, 16, 16))
    monkeypatch.setattr(lanes, "_start", None)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(lanes(images), network(images))


def test_with_one_thread_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network = packed(NASNET_A)
    lanes = in_lanes(network)
    monkeypatch.setattr(lanes, "_start", None)
    torch.set_num_threads(1)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(lanes(images), network(images))


class Failing(nn.Module):
    """Fails when it is told to."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.fails = False

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.fails:
            raise MemoryError("no memory left")
        result: Tensor = self.step(*inputs)
        return result


@pytest.mark.parametrize("place", [0, 5, -2])
def test_a_failure_in_one_lane_ends_the_others_and_the_next_call_is_right(place: int) -> None:
    network = packed(NASNET_A)
    images = torch.randn(1, 3, 16, 16)
    expected = network(images)
    name = modules_called(network)[place]
    failing = Failing(network.get_submodule(name))
    network.set_submodule(name, failing)
    lanes = in_lanes(network)
    for _ in range(3):
        failing.fails = True
        for count in (1, 2):
            with pytest.raises(MemoryError, match="no memory left"):
                lanes(images.expand(count, -1, -1, -1))
        failing.fails = False
        torch.testing.assert_close(lanes(images), expected, rtol=1e-5, atol=1e-6)


def test_images_that_are_none_are_refused_as_without_lanes() -> None:
    lanes = in_lanes(packed(NASNET_A))
    with pytest.raises(RuntimeError, match=r"channels|weight"):
        lanes(torch.randn(1, 5, 16, 16))
    assert lanes(torch.randn(1, 3, 16, 16)).shape == (1, 3)
