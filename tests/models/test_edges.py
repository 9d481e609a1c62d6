"""Networks of cells with ops on their edges: the published sizes, and what is asked of every network."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nascli.genotype.edges.space import NAS_BENCH_201
from nascli.genotype.genotype import Genotype
from nascli.genotype.notations import read_notation
from nascli.genotype.space import draw_genotypes
from nascli.models.cost import measure_cost, measure_layers
from nascli.models.deploy.fuse import fold
from nascli.models.edges.network import EdgeCell
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier

PUBLISHED = {  # params and FLOPs as the released API tells them, in millions; the first and last are the extremes
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|": (0.073306, 7.78),
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": (
        0.129306,
        15.65,
    ),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|": (
        0.802426,
        113.95,
    ),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|": (
        1.531546,
        220.12,
    ),
}


def small(genotype: Genotype | None = None) -> ImageClassifier:
    torch.manual_seed(0)
    return build_network(genotype or read_notation(list(PUBLISHED)[2], "nas-bench-201"), filters=4, cells_per_stage=1)


@pytest.mark.parametrize(("string", "sizes"), PUBLISHED.items())
def test_published_cells_have_the_published_sizes(string: str, sizes: tuple[float, float]) -> None:
    with torch.device("meta"):
        network = build_network(read_notation(string, "nas-bench-201"))
    cost = measure_cost(network)
    assert (cost.params / 1e6, round(cost.mult_adds / 1e6, 2)) == sizes
    rows = measure_layers(network)
    assert sum(row.params for row in rows) == cost.params
    assert sum(row.mult_adds for row in rows) == cost.mult_adds


def test_a_cell_is_the_sum_of_its_edges() -> None:
    string = "|nor_conv_1x1~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    genotype = read_notation(string, "nas-bench-201")
    torch.manual_seed(1)
    cell, x = EdgeCell(genotype, 6).double(), torch.randn(2, 6, 7, 9, dtype=torch.float64)  # type: ignore[arg-type]
    first = cell.edges["0_1"](F.relu(x))
    second = x + F.avg_pool2d(first, 3, 1, 1, count_include_pad=False)
    expected = cell.edges["1_3"](F.relu(first)) + cell.edges["2_3"](F.relu(second))
    torch.testing.assert_close(cell(x), expected)


def test_equal_cells_have_equal_sizes_and_folding_keeps_the_logits() -> None:
    x = torch.randn(2, 3, 17, 20)
    for genotype in draw_genotypes(NAS_BENCH_201, random.Random(3), 4):
        network = small(genotype)
        assert measure_cost(network).params == measure_cost(small(genotype.canonical())).params
        network.train()
        network(x)  # batch norms get statistics
        network.eval()
        folded = fold(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        with torch.no_grad():
            torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


def test_features_are_the_stages_ends_at_any_size() -> None:
    network = small()
    maps = network.features(torch.randn(1, 3, 30, 18))
    assert {name: each.shape[1:] for name, each in maps.items()} == {
        "stage1": (4, 30, 18),
        "stage2": (8, 15, 9),
        "stage3": (16, 8, 5),
    }
    assert all(each.min() >= 0 for each in maps.values())
    assert [info.channels for info in network.feature_info] == [4, 8, 16]


def test_every_weight_of_a_connected_cell_learns_and_a_cell_without_a_way_gives_the_same_for_all_images() -> None:
    network = small()
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())
    empty = small(read_notation(next(iter(PUBLISHED)), "nas-bench-201")).eval()
    logits = empty(torch.randn(3, 3, 16, 16))
    assert torch.equal(logits, logits[:1].expand(3, -1))
