"""A folded network gives what the trained one gives, for every cell and size, without batch norms."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, fx, nn

from nascli.config import CellNetworkConfig
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.deploy.engines import build_engine, build_folded
from nascli.models.deploy.fuse import SameConv2d, fold
from nascli.models.spec import resolve_network
from tests.cells import build_cells
from tests.genotype.genotype_st import genotypes
from tests.published import CELL_NAMES

SIZES = (
    {"image_size": 16},
    {"image_size": 17, "reduction_placement": "in_place", "cells_per_stage": 2},
    {"image_size": 35, "stem": "imagenet", "stem_filters": 6, "skip_reduction_input": True, "cells_per_stage": 2},
)
DIFFERENT = ("nasnet-a", "pnasnet-5", "amoebanet-b", "darts-v2")
"""Cells that together have every kind of step."""

CPU = torch.device("cpu")
CASES = [(name, SIZES[0]) for name in CELL_NAMES] + [(name, size) for name in DIFFERENT for size in SIZES[1:]]


def trained(genotype: Genotype, **numbers: object) -> CellNetwork:
    """A network with weights and statistics such as a training leaves."""
    config = CellNetworkConfig.model_validate({"filters": 4, "cells_per_stage": 1, "dropout": 0.5} | numbers)
    torch.manual_seed(0)
    network = build_cells(genotype, config, classes=3, aux_head=True)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
            norm.running_mean, norm.running_var = torch.randn_like(norm.weight) / 5, torch.rand_like(norm.weight) + 0.5
    return network.eval()


def difference(ours: Callable[[Tensor], Tensor], reference: nn.Module, images: Tensor) -> float:
    """Largest difference of a logit relative to the largest logit."""
    with torch.no_grad():
        expected = reference(images)
        return float((ours(images) - expected).abs().max() / expected.abs().max())


def steps(network: fx.GraphModule) -> Iterator[str]:
    """The name of each step's layer or function."""
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        yield type(module).__name__ if module else getattr(node.target, "__name__", str(node.target))


@pytest.mark.parametrize(("name", "numbers"), CASES, ids=str)
def test_published_cells_give_the_same_logits(name: str, numbers: dict[str, object]) -> None:
    network = trained(zoo_genotype(name), **numbers)
    side = network.spec.image_size
    exact = network.double()
    images = torch.randn(2, 3, side, side)
    assert difference(fold(exact), exact, images.double()) < 1e-12
    network = network.float()
    assert difference(build_folded(network, CPU), network, images) < 1e-4


@settings(max_examples=6)
@given(genotypes())
def test_any_cell_gives_the_same_logits_for_any_batch_and_size(genotype: Genotype) -> None:
    network = trained(genotype, image_size=16)
    folded = fold(network)
    laid_out = build_folded(network, CPU)
    for shape in ((1, 3, 16, 16), (3, 3, 13, 22)):
        images = torch.randn(shape)
        assert difference(folded, network, images) < 1e-4
        assert difference(laid_out, network, images) < 1e-4


def test_neither_touches_the_images_or_the_network_it_came_from() -> None:
    network = trained(zoo_genotype("nasnet-a"), image_size=16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold(network)
    laid_out = build_folded(network, CPU)
    for layout in (torch.contiguous_format, torch.channels_last):
        images = torch.randn(2, 3, 16, 16).to(memory_format=layout)
        copied = images.clone()
        assert difference(folded, network, images) < 1e-5
        assert difference(laid_out, network, images) < 1e-5
        torch.testing.assert_close(images, copied, rtol=0, atol=0)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_no_batch_norm_is_left_and_nothing_is_computed_twice() -> None:
    folded = fold(trained(zoo_genotype("nasnet-a"), image_size=16))
    assert not {"BatchNorm2d", "Dropout", "Identity", "ReLU"} & set(steps(folded))
    calls = [(str(n.target), n.args, str(n.kwargs)) for n in folded.graph.nodes if n.op == "call_function"]
    assert len({repr(call) for call in calls}) == len(calls)


def test_same_padding_is_part_of_the_convolution_and_copies_no_map_where_it_is_symmetric() -> None:
    folded = fold(trained(zoo_genotype("nasnet-a"), image_size=17))
    assert "SamePad" not in set(steps(folded))
    convolutions = [module for module in folded.modules() if isinstance(module, SameConv2d)]
    assert convolutions
    padded: list[torch.Size] = []
    for module in convolutions:
        module.same.register_forward_hook(lambda same, inputs, output: padded.append(output.shape))
    folded(torch.randn(1, 3, 17, 17))  # 17, 9, 5: as many zeros before a map as after it
    assert padded == []
    folded(torch.randn(1, 3, 16, 16))
    assert len(padded) == len(convolutions)


def test_folded_weights_can_be_saved_and_loaded() -> None:
    network = trained(zoo_genotype("darts-v2"), image_size=16)
    other = trained(zoo_genotype("darts-v2"), image_size=16)
    nn.init.zeros_(other.classifier.weight)
    first, second = fold(network), fold(other)
    second.load_state_dict(first.state_dict())
    images = torch.randn(1, 3, 16, 16)
    assert difference(second, first, images) == 0


@pytest.mark.parametrize("size", [(16, 16), (35, 22)])
def test_pools_that_count_zeros_do_so_in_every_engine(size: tuple[int, int]) -> None:
    """As in networks whose weights were imported."""
    usual = trained(zoo_genotype("nasnet-a"), image_size=16)
    counting = CellNetwork(usual.spec.model_copy(update={"zero_padded_pools": ("avg", "max")})).eval()
    counting.load_state_dict(usual.state_dict())
    images = torch.randn(2, 3, *size)
    assert difference(counting, usual, images) > 1e-3
    for engine in ("folded", "openvino"):
        assert difference(build_engine(counting, CPU, engine), counting, images) < 1e-4
    assert type(usual.spec).model_validate_json(counting.spec.model_dump_json()) == counting.spec
    assert "zero_padded_pools" not in usual.spec.model_dump()
    again = CellNetworkConfig.model_validate(counting.spec.config_values())
    built = resolve_network(counting.spec.genotype, again, classes=counting.spec.classes)
    assert built == counting.spec.without_aux_head()
