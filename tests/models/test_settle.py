"""A network whose paddings are numbers gives the same wherever the paddings are these."""

import copy

import pytest
import torch
from torch import fx

from nascli.genotype.resolve import zoo_genotype
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.settle import settle_padding
from nascli.models.layers import SamePad
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
