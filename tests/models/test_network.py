"""The generic cell and network: every op at every role, sharing, drop path, heads, features, files."""

from itertools import product
from math import ceil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import nn

import nascli
from nascli.config import CellNetworkConfig
from nascli.errors import CorruptFileError, InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.op_info import OP_INFO
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.models.cells.cell import Cell
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.ops import OPS
from nascli.models.families import build_network
from nascli.models.serialization import load_network, save_weights
from nascli.models.spec import write_network
from tests.cells import build_cells, read_cells
from tests.genotype.genotype_st import genotypes
from tests.published import published_cell


def tiny(genotype: CellGenotype, **numbers: object) -> CellNetwork:
    config = CellNetworkConfig.model_validate({"filters": 4, "cells_per_stage": 1, "image_size": 16} | numbers)
    torch.manual_seed(0)
    return build_cells(genotype, config, classes=3, aux_head=True)


def test_every_named_op_has_a_builder_and_no_other() -> None:
    assert set(OPS) == set(OP_INFO)


@pytest.mark.parametrize("name", OP_INFO)
def test_ops_give_the_asked_width_and_stride(name: str) -> None:
    for channels_in, stride, size in product((4, 6), (1, 2), (7, 8)):
        op = OPS[name](channels_in, 4, stride)
        out = op(op.prefix(torch.randn(2, channels_in, size, size)))
        assert out.shape == (2, 4, ceil(size / stride), ceil(size / stride))


@settings(max_examples=15)
@given(genotypes())
def test_any_genotype_builds_trains_and_evaluates(genotype: CellGenotype) -> None:
    network = tiny(genotype)
    network.drop_path_prob = 0.3
    images = torch.randn(2, 3, 16, 16)
    logits, aux = network.forward_with_aux(images)
    assert aux is not None
    assert logits.shape == aux.shape == (2, 3)
    torch.autograd.backward(logits.sum() + aux.sum())
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert missing == []  # everything that is built is used
    network.eval()
    assert network.forward_with_aux(images)[1] is None


@settings(max_examples=6)
@given(genotypes())
def test_any_genotype_fits_the_imagenet_stem_and_odd_sizes(genotype: CellGenotype) -> None:
    network = tiny(genotype, preset="imagenet-mobile", stem_filters=4, image_size=75).eval()
    features = network.features(torch.randn(1, 3, 75, 75))
    assert [(name, f.shape[1]) for name, f in features.items()] == [(i.name, i.channels) for i in network.feature_info]
    assert [f.shape[2] for f in features.values()] == [10, 5, 3]
    assert {info.name: info.stride for info in network.feature_info} == {"stage1": 8, "stage2": 16, "stage3": 32}


def test_features_are_the_stages_ends() -> None:
    network = tiny(published_cell("nasnet-a")).eval()
    features = network.features(torch.randn(2, 3, 24, 20))
    assert [tuple(f.shape) for f in features.values()] == [(2, 24, 24, 20), (2, 48, 12, 10), (2, 96, 6, 5)]
    assert {info.name: info.stride for info in network.feature_info} == {"stage1": 1, "stage2": 2, "stage3": 4}


def assert_cut_in_two_it_is_the_same(network: CellNetwork, size: int) -> None:
    network.eval()
    images = torch.randn(2, 3, size, size)
    for stage in ("stage2", "stage3"):
        maps = network.forward_to(images, stage)
        assert [each.shape[1] for each in maps] == [info.channels for info in network.maps_before(stage)]
        assert [-(-size // info.stride) for info in network.maps_before(stage)] == [each.shape[2] for each in maps]
        assert torch.equal(network.classifier(network.forward_from(maps, stage)), network(images))


@settings(max_examples=8)
@given(genotypes())
def test_stage_3_goes_on_from_what_was_before_it(genotype: CellGenotype) -> None:
    assert_cut_in_two_it_is_the_same(tiny(genotype, cells_per_stage=2), 16)


@pytest.mark.parametrize(
    "numbers",
    [
        {"cells_per_stage": 1},
        {"cells_per_stage": 3, "skip_reduction_input": True},
        {"cells_per_stage": 1, "reduction_placement": "in_place"},
        {"cells_per_stage": 3, "reduction_placement": "in_place"},
        {"preset": "imagenet-mobile", "stem_filters": 4, "image_size": 75},
    ],
)
@pytest.mark.parametrize("cell", ["nasnet-a", "amoebanet-b"])
def test_wherever_its_cells_stand(cell: str, numbers: dict[str, object]) -> None:
    network = tiny(published_cell(cell), **numbers)
    assert len(network.maps_before("stage3")) == 2
    assert_cut_in_two_it_is_the_same(network, network.spec.image_size)


def test_concat_blocks_give_double_width_that_consumers_repair() -> None:
    blocks = (
        Block(inputs=(0, 1), ops=("sep_conv_3x3", "max_pool_3x3"), combine="concat"),
        Block(inputs=(2, 2), ops=("identity", "avg_pool_3x3"), combine="concat"),
    )
    cell = Cell(CellSpec(blocks=blocks, concat=(2, 3)), (4, 4), 4, 1)
    assert cell(torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)).shape == (1, 8, 6, 6)


def test_cells_that_nobody_reads_are_not_built() -> None:
    cell = CellSpec(blocks=(Block(inputs=(0, 0), ops=("sep_conv_3x3", "conv_1x1")),), concat=(2,))
    network = tiny(CellGenotype(name="older only", space="own", normal=cell, reduction=cell))
    assert list(network.cells) == ["0", "2", "4"]
    features = network.eval().features(torch.randn(1, 3, 16, 16))
    assert [f.shape[2] for f in features.values()] == [16, 8, 4]


def test_unused_inputs_and_dead_blocks_are_not_built() -> None:
    used = Block(inputs=(1, 1), ops=("sep_conv_3x3", "identity"))
    dead = Block(inputs=(0, 0), ops=("conv_3x3", "conv_3x3"))
    with_dead = Cell(CellSpec(blocks=(used, dead), concat=(2,)), (8, 8), 4, 1)
    without = Cell(CellSpec(blocks=(used,), concat=(2,)), (8, 8), 4, 1)
    assert with_dead.prev_prev is None
    assert count(with_dead) == count(without)


def test_reduction_strides_only_ops_on_inputs_and_reduces_joined_inputs() -> None:
    blocks = (
        Block(inputs=(0, 1), ops=("max_pool_3x3", "sep_conv_5x5")),
        Block(inputs=(2, 1), ops=("sep_conv_3x3", "identity")),
    )
    cell = Cell(CellSpec(blocks=blocks, concat=(1, 2, 3)), (4, 4), 4, 2)
    assert cell(torch.randn(1, 4, 9, 9), torch.randn(1, 4, 9, 9)).shape == (1, 12, 5, 5)


def test_a_pool_or_relu_of_one_state_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    plain = torch.nn.functional.avg_pool2d

    def count_pools(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append("avg")
        return plain(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("nascli.models.layers.F.avg_pool2d", count_pools)
    cell = Cell(published_cell("nasnet-a").normal, (4, 4), 4, 1)
    cell(torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6))
    assert len(calls) == 2  # three averages in the cell: one of h[i], and one of h[i-1] that two halves share


def test_drop_path_scales_with_depth_and_spares_identities() -> None:
    torch.manual_seed(0)
    network = tiny(published_cell("nasnet-a"), cells_per_stage=6)
    assert network.draw_masks(torch.zeros(4, 3, 8, 8), [0]) == {}
    network.drop_path_prob = 0.4
    masks = network.draw_masks(torch.zeros(4000, 3, 8, 8), [int(name) for name in network.cells])
    assert len(masks) == 20
    for position, drawn in masks.items():
        prob = 0.4 * (position + 1) / 20
        for mask in drawn:
            assert mask.shape == (4000, 1, 1, 1)
            assert float((mask == 0).float().mean()) == pytest.approx(prob, abs=0.04)
            torch.testing.assert_close(mask.max(), torch.tensor(1 / (1 - prob)))
    assert not torch.equal(*masks[19][:2])
    identities = CellSpec(blocks=(Block(inputs=(1, 1), ops=("identity", "identity")),), concat=(2,))
    assert Cell(identities, (4, 4), 4, 1).droppable == 0


def test_skip_reduction_input_reads_two_cells_before_the_reduction() -> None:
    plain = tiny(published_cell("nasnet-a"), cells_per_stage=2)
    skipping = tiny(published_cell("nasnet-a"), cells_per_stage=2, skip_reduction_input=True)
    assert [step.prev_prev for step in plain.slots] == [0, 0, 1, 2, 3, 4, 5, 6]
    assert [step.prev_prev for step in skipping.slots] == [0, 0, 1, 1, 3, 4, 4, 6]


def test_batch_norm_numbers_reach_every_layer() -> None:
    network = build_network("nasnet-a", "imagenet-mobile", filters=4, cells_per_stage=1)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 3e-4)}


def test_three_names_from_python(tmp_path: Path) -> None:
    genotype = nascli.load_genotype("darts-v2")
    network = nascli.build_network(genotype, "cifar10", filters=4, cells_per_stage=1, classes=7)
    write_network(tmp_path / "network.json", network.spec)
    save_weights(tmp_path / "weights.safetensors", network)
    loaded = nascli.load_network(tmp_path)
    assert not loaded.training
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), network.eval()(images))
    assert loaded.spec == network.spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = tiny(published_cell("enas"))
    write_network(tmp_path / "network.json", network.spec)
    save_weights(tmp_path / "weights.safetensors", network)
    return tmp_path


def test_weights_of_another_network_are_refused_by_entry(folder: Path) -> None:
    spec = read_cells(folder / "network.json")
    write_network(folder / "network.json", spec.model_copy(update={"filters": 8}))
    with pytest.raises(InputError, match=r"entry .* has the shape"):
        load_network(folder)
    headless = spec.model_copy(update={"aux_head": False})
    write_network(folder / "network.json", headless)
    with pytest.raises(InputError, match=r"entry aux_head\..* is not in the network"):
        load_network(folder)
    write_network(folder / "network.json", spec)
    save_weights(folder / "weights.safetensors", CellNetwork(headless))
    with pytest.raises(InputError, match=r"entry aux_head\..* is missing"):
        load_network(folder)


def test_damaged_weights_are_corrupt(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:100], content[:-10], b"", b"PK\x03\x04" + content):
        weights.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"weights\.safetensors are (damaged|no safetensors)"):
            load_network(folder)
    network = tiny(published_cell("enas"))
    nn.init.constant_(network.classifier.weight, float("nan"))
    save_weights(weights, network)
    with pytest.raises(CorruptFileError, match="not finite"):
        load_network(folder)


def test_missing_and_foreign_network_files(folder: Path) -> None:
    (folder / "network.json").write_text("{")
    with pytest.raises(CorruptFileError, match="is not JSON"):
        load_network(folder)
    (folder / "network.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="not a network"):
        load_network(folder)
    (folder / "network.json").unlink()
    with pytest.raises(InputError, match="No such file"):
        load_network(folder)


def test_too_small_images_for_the_imagenet_stem() -> None:
    with pytest.raises(InputError, match="too small for the ImageNet stem"):
        build_network("enas", "imagenet-mobile", image_size=16)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
