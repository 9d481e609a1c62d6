"""The residual networks of He et al. 2016: their published sizes, their shortcuts, and that they serve everywhere."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nascli
from nascli.config import CellNetworkConfig, ResNetConfig
from nascli.detect.backbone import PyramidBackbone
from nascli.errors import InputError
from nascli.models.cost import measure_cost, measure_layers
from nascli.models.deploy.fuse import fold
from nascli.models.families import NETWORK_FILE, build, open_architecture
from nascli.models.interface import ImageClassifier
from nascli.models.resnet.family import DEPTHS, ResNetDepth
from nascli.models.resnet.network import ResidualBlock
from nascli.models.serialization import load_network, save_weights
from nascli.models.spec import read_network, resolve_network, write_network


def small(depth: int = 8, **numbers: int) -> ImageClassifier:
    torch.manual_seed(0)
    config = ResNetConfig.model_validate({"filters": 4, "image_size": 16} | numbers)
    return build(resolve_network(ResNetDepth(depth), config, classes=3))


@pytest.mark.parametrize(
    ("depth", "params", "mult_adds"),
    [
        (20, 269_722, 40_551_040),
        (32, 464_154, 68_862_592),
        (44, 658_586, 97_174_144),
        (56, 853_018, 125_485_696),
        (110, 1_727_962, 252_887_680),
    ],
)
def test_published_depths_have_the_published_sizes(depth: int, params: int, mult_adds: int) -> None:
    """Table 6 of the paper says 0.27M, 0.46M, 0.66M, 0.85M and 1.7M params, which is with shortcuts of option A."""
    with torch.device("meta"):
        network = nascli.build_network(f"resnet-{depth}")
    assert measure_cost(network).to_dict() == {
        "params": params,
        "params_auxiliary": 0,
        "mult_adds": mult_adds,
        "image_size": 32,
    }
    layers = measure_layers(network)
    assert sum(layer.params for layer in layers) == params
    assert sum(layer.mult_adds for layer in layers) == mult_adds
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == depth


def test_the_shortcut_takes_every_other_pixel_and_adds_channels_of_zeros() -> None:
    block = ResidualBlock(2, 5, stride=2)
    norm = block.path[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.zeros_(norm.weight)
    images = torch.randn(3, 2, 7, 6)
    expected = torch.cat([images[:, :, ::2, ::2], torch.zeros(3, 3, 4, 3)], 1)
    torch.testing.assert_close(block(images), expected.relu())


def test_features_are_the_stages_ends_at_any_size() -> None:
    features = small().features(torch.zeros(2, 3, 18, 14))
    assert [tuple(each.shape) for each in features.values()] == [(2, 4, 18, 14), (2, 8, 9, 7), (2, 16, 5, 4)]
    levels = PyramidBackbone(small(), 8)(torch.zeros(1, 3, 32, 32))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        "stage2": (1, 8, 16, 16),
        "stage3": (1, 8, 8, 8),
        "pool": (1, 8, 4, 4),
    }


def test_a_folder_holds_it_whole(tmp_path: Path) -> None:
    network = small(14).eval()
    write_network(tmp_path / NETWORK_FILE, network.spec)
    save_weights(tmp_path / "weights.safetensors", network)
    assert read_network(tmp_path / NETWORK_FILE) == network.spec
    images = torch.randn(2, 3, 16, 16)
    expected = network(images)
    torch.testing.assert_close(load_network(tmp_path)(images), expected)
    torch.testing.assert_close(load_network(tmp_path, inference=True)(images), expected, atol=1e-5, rtol=1e-4)
    source = open_architecture(str(tmp_path))
    assert source.architecture == ResNetDepth(14)
    assert source.numbers["network.family"] == "resnet"
    assert source.numbers["network.filters"] == 4


def test_folding_leaves_no_batch_norm() -> None:
    folded = fold(small())
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]


def test_recomputing_blocks_gives_the_same_gradients() -> None:
    images = torch.randn(4, 3, 16, 16)

    def gradients(recompute: bool) -> list[Tensor]:
        network = small().train()
        network.set_grad_checkpointing(recompute)
        torch.autograd.backward(network(images).square().sum())
        return [weight.grad for weight in network.parameters() if weight.grad is not None]

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == len(list(small().parameters()))
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


def test_names_and_sections_of_another_family_are_refused() -> None:
    assert open_architecture("resnet-110").architecture == ResNetDepth(max(DEPTHS))
    with pytest.raises(InputError, match="resnet-21") as caught:
        open_architecture("resnet-21")
    assert "resnet-20" in caught.value.hint
    with pytest.raises(InputError, match="resnet-20 is of the family resnet"):
        resolve_network(ResNetDepth(20), CellNetworkConfig(filters=4))
    with pytest.raises(InputError, match="cells_per_stage"):
        nascli.build_network("resnet-20", cells_per_stage=2)
