"""A network whose paddings are numbers gives the same wherever the paddings are these."""

import copy

import pytest
import torch
from torch import fx

from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.deploy.fuse import SameConv2d, fold
from nascli.models.deploy.settle import settle_padding
from nascli.models.layers import SamePad
from tests.mobile import trained_mobile
from tests.models.test_fuse import DIFFERENT, difference, trained
from tests.published import CELL_NAMES

STEMS = ("cifar", "imagenet")


def settle(folded: fx.GraphModule, *size: int) -> fx.GraphModule:
    settled = copy.deepcopy(folded)
    settle_padding(settled, torch.zeros(1, 3, *size, dtype=torch.float64))
    return settled


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[] if each in DIFFERENT else pytest.mark.slow) for each in CELL_NAMES],
)
def test_multiples_of_32_have_the_same_paddings(name: str, stem: str) -> None:
    network = trained(zoo_genotype(name), image_size=32, stem=stem).double()
    folded = fold(network)
    settled = settle(folded, 64, 64)
    assert not any(isinstance(module, SamePad) for module in settled.modules())
    for size in ((64, 64), (32, 96), (128, 32)):
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        assert difference(settled, folded, images) < 1e-12


@pytest.mark.parametrize("name", DIFFERENT)
def test_crops_of_any_size_can_be_settled(name: str) -> None:
    folded = fold(trained(zoo_genotype(name), image_size=17).double())
    for side in (7, 17, 10):
        assert (
            difference(settle(folded, side, side), folded, torch.randn(2, 3, side, side, dtype=torch.float64)) < 1e-12
        )


def test_pools_that_count_zeros_and_mobile_layers_are_settled_too() -> None:
    usual = trained(zoo_genotype("nasnet-a"), image_size=32).double()
    counting = CellNetwork(usual.spec.model_copy(update={"zero_padded_pools": ("avg", "max")})).double().eval()
    counting.load_state_dict(usual.state_dict())
    for network in (counting, trained_mobile(preset="mnasnet").double()):
        folded = fold(network)
        settled = settle(folded, 64, 32)
        assert not any(isinstance(module, SamePad | SameConv2d) for module in settled.modules())
        assert difference(settled, folded, torch.randn(2, 3, 64, 32, dtype=torch.float64)) < 1e-12
