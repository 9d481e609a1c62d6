"""Mobile networks: the published sizes, skips and paddings, and that they serve everywhere."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nascli.config import CellNetworkConfig
from nascli.config.network import CELL_PRESETS, MOBILE_PRESETS
from nascli.detect.backbone import PyramidBackbone
from nascli.detect.stage3_head import SingleScaleBackbone
from nascli.engine.compile import compile_blocks
from nascli.errors import DeviceMemoryError, InputError
from nascli.genotype.mobile.genotype import MobileGenotype
from nascli.models.cells.spec import PRESETS as CELL_NUMBERS
from nascli.models.cost import measure_cost, measure_layers
from nascli.models.deploy.engines import build_engine
from nascli.models.deploy.export import EXPORTS
from nascli.models.deploy.fuse import fold
from nascli.models.families import NETWORK_FILE, build
from nascli.models.interface import Restartable
from nascli.models.mobile.layers import MobileLayer
from nascli.models.mobile.spec import PRESETS, scale_filters
from nascli.models.serialization import load_network, save_weights
from nascli.models.spec import read_network, resolve_network, write_network
from tests.mobile import SMALL, chain, layer_of, mobile_genotypes, published_chain, resolve_mobile, trained_mobile
from tests.models.test_fuse import difference

PUBLISHED = [
    ("mnasnet-a1", {}, 3_887_038, 311_579_072),
    ("mnasnet-b1", {}, 4_383_312, 314_415_872),
    ("mnasnet-small", {"preset": "mnasnet-small"}, 2_030_264, 68_339_184),
    ("mnasnet-d1", {}, 3_638_404, 967_705_824),
    ("mnasnet-d1", {"image_size": 320}, 3_638_404, 1_973_577_600),
    ("mnasnet-d1-320", {}, 6_932_240, 1_807_732_032),
    ("mobilenetv2", {"preset": "mobilenetv2"}, 3_504_872, 300_774_272),
    ("mnasnet-a1", {"width": 0.35}, 1_747_018, 61.7e6),
    ("mnasnet-a1", {"width": 0.5}, 2_082_006, 103.2e6),
    ("mnasnet-a1", {"width": 0.75}, 2_912_278, 223.4e6),
    ("mnasnet-a1", {"width": 1.3}, 5_468_486, 526.0e6),
    ("mnasnet-a1", {"width": 1.4}, 6_105_992, 586.3e6),
    ("mnasnet-a1", {"image_size": 96}, 3_887_038, 58.5e6),
    ("mnasnet-b1", {"width": 0.35}, 1_788_232, 58_878_912),
    ("mnasnet-b1", {"width": 0.5}, 2_218_512, 104_455_968),
    ("mnasnet-b1", {"width": 0.75}, 3_170_208, 215_493_104),
    ("mnasnet-b1", {"width": 1.3}, 6_282_256, 526_362_432),
    ("mnasnet-b1", {"width": 1.4}, 7_115_728, 588_799_408),
]


@pytest.mark.parametrize(("name", "numbers", "params", "mult_adds"), PUBLISHED)
def test_published_networks_have_their_sizes(name: str, numbers: dict[str, Any], params: int, mult_adds: float) -> None:
    """Params and mult-adds of timm's and torchvision's; a count that ends on .1M is rounded."""
    cost = measure_cost(resolve_mobile(published_chain(name), **{"preset": "mnasnet"} | numbers))
    assert cost.params == params
    assert cost.mult_adds == pytest.approx(mult_adds, abs=0.06e6 if isinstance(mult_adds, float) else 0)


@pytest.mark.parametrize(
    ("size", "width", "params", "mult_adds"),
    [
        (32, 1.0, 2.62, 91.7),
        (32, 0.5, 0.81, 30.0),
        (32, 0.35, 0.48, 16.4),
        (16, 1.0, 2.62, 23.1),
        (16, 0.35, 0.48, 4.1),
    ],
)
def test_small_images_are_halved_three_times(size: int, width: float, params: float, mult_adds: float) -> None:
    spec = resolve_mobile(published_chain("mnasnet-a1"), image_size=size, width=width)
    cost = measure_cost(spec)
    assert (round(cost.params / 1e6, 2), round(cost.mult_adds / 1e6, 1)) == (params, mult_adds)
    with torch.device("meta"):
        assert [info.stride for info in build(spec).feature_info] == [1, 2, 4, 8]


def test_layers_are_those_of_the_published_table_and_add_up() -> None:
    spec = resolve_mobile(published_chain("mnasnet-a1"), preset="mnasnet")
    layers, cost = measure_layers(spec), measure_cost(spec)
    assert sum(layer.params for layer in layers) == cost.params
    assert sum(layer.mult_adds for layer in layers) == cost.mult_adds
    assert [(layers[k].shape, layers[k].params, layers[k].mult_adds) for k in (0, 1, 4, 15, -2)] == [
        ((32, 112, 112), 928, 10_838_016),
        ((16, 112, 112), 896, 10_035_200),
        ((40, 28, 28), 7_718, 9_088_992),
        ((160, 7, 7), 413_160, 16_305_600),
        ((1280, 7, 7), 412_160, 20_070_400),
    ]


@given(st.integers(1, 2000), st.floats(0.05, 4))
def test_widths_are_multiples_of_8_near_what_is_asked_for(filters: int, width: float) -> None:
    scaled = scale_filters(filters, width)
    assert scale_filters(filters, 1) == filters
    assert width == 1 or scaled % 8 == 0
    assert scaled >= 8 or width == 1
    assert scaled >= 0.9 * filters * width
    assert scaled < filters * width + 8 or scaled == 8


def test_every_preset_has_its_numbers() -> None:
    assert set(MOBILE_PRESETS) == set(PRESETS)
    assert set(CELL_PRESETS) == set(CELL_NUMBERS)


def test_batch_norms_and_dropout_are_the_presets() -> None:
    """Momentum in PyTorch's sense: 0.01 where the code says 0.99."""
    numbers = {
        name: (preset["batch_norm_momentum"], preset["batch_norm_epsilon"], preset["dropout"], preset["activation"])
        for name, preset in PRESETS.items()
    }
    assert numbers == {
        "mnasnet": (0.01, 1e-3, 0.2, "relu"),
        "mnasnet-small": (0.01, 1e-3, 0.0, "relu"),
        "mnasnet-cifar": (0.1, 1e-5, 0.2, "relu"),
        "nas-bench-macro": (0.1, 1e-5, 0.0, "relu"),
        "mobilenetv2": (0.003, 1e-3, 0.2, "relu6"),
    }
    network = build(resolve_mobile(SMALL, preset="mnasnet"))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


def test_a_skip_is_where_the_genotype_has_it_at_any_width_and_stem() -> None:
    """B1 at width 0.35 has blocks 4 and 5 of one width, and the small stem no stride: neither makes a skip."""

    def skips(**numbers: Any) -> list[str]:  # noqa: ANN401
        with torch.device("meta"):
            network = build(resolve_mobile(published_chain("mnasnet-b1"), **numbers))
        return [layer.skip for layer in network.modules() if isinstance(layer, MobileLayer)]

    expected = ["none", "none", "identity", "identity", "none", "identity", "identity", "none", "identity", "identity"]
    expected += ["none", "identity", "none", "identity", "identity", "identity", "none"]
    assert skips(width=1.0) == skips(width=0.35) == skips(preset="mnasnet") == expected


def test_a_pooling_skip_is_the_average_of_the_pixels_that_are_there() -> None:
    (plan,) = resolve_mobile(chain("one", 4, "conv c4 s2 pool"), preset="mnasnet").plan_layers(0)
    padding: Literal["same", "symmetric"]
    for padding in ("same", "symmetric"):
        layer = MobileLayer(plan, padding=padding)
        nn.init.zeros_(layer.get_parameter("path.1.weight"))
        images = torch.randn(2, 4, 6, 6)
        first = slice(0, 3) if padding == "same" else slice(0, 2)
        result = layer.eval()(images)
        assert result.shape == (2, 4, 3, 3)
        torch.testing.assert_close(result[:, :, 0, 0], images[:, :, first, first].mean((2, 3)))


def test_padding_is_the_same_on_odd_maps_alone() -> None:
    same, symmetric = (trained_mobile(padding=padding, preset="mnasnet") for padding in ("same", "symmetric"))
    assert difference(symmetric, same, torch.randn(1, 3, 65, 65)) < 1e-5
    assert difference(symmetric, same, torch.randn(1, 3, 64, 64)) > 1e-3


def test_features_are_the_maps_before_each_halving_and_linear() -> None:
    network = trained_mobile(preset="mnasnet")
    assert [(info.name, info.channels, info.stride) for info in network.feature_info] == [
        ("block1", 8, 2),
        ("block2", 8, 4),
        ("block3", 8, 8),
        ("block5", 12, 16),
        ("block7", 20, 32),
    ]
    images = torch.randn(2, 3, 70, 50)
    features = network.features(images)
    assert [tuple(each.shape[2:]) for each in features.values()] == [(35, 25), (18, 13), (9, 7), (5, 4), (3, 2)]
    assert float(features["block7"].detach().min()) < 0
    with torch.no_grad():
        logits = network.classifier(network.head(features["block7"]).mean((2, 3)))
        torch.testing.assert_close(logits, network(images))


@settings(max_examples=20, deadline=None)
@given(mobile_genotypes(), st.sampled_from(["same", "symmetric"]), st.sampled_from(["relu", "relu6"]))
def test_any_genotype_is_folded_and_translated(genotype: MobileGenotype, padding: str, activation: str) -> None:
    network = trained_mobile(genotype, padding=padding, activation=activation, head_filters=8)
    folded = fold(network)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    for size in ((2, 3, 16, 16), (1, 3, 23, 18)):
        assert difference(folded, network, torch.randn(size)) < 1e-4
    images = torch.randn(1, 3, 23, 18)
    assert difference(build_engine(network, torch.device("cpu"), "openvino"), network, images) < 1e-4


def test_no_step_needs_the_slow_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    monkeypatch.setattr(openvino, "convert_model", None)
    for padding in ("same", "symmetric"):
        network = trained_mobile(padding=padding, activation="relu6")
        build_engine(network, torch.device("cpu"), "openvino")(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(("ending", "padding"), [(".onnx", "same"), (".xml", "same"), (".pt2", "symmetric")])
def test_it_is_exported(ending: str, padding: str, tmp_path: Path) -> None:
    exported = EXPORTS[ending](trained_mobile(padding=padding), tmp_path / f"model{ending}")
    assert exported.difference < 1e-5


def test_a_folder_holds_it_whole(tmp_path: Path) -> None:
    network = trained_mobile(padding="symmetric", width=1.5, activation="relu6")
    write_network(tmp_path / NETWORK_FILE, network.spec)
    save_weights(tmp_path / "weights.safetensors", network)
    assert read_network(tmp_path / NETWORK_FILE) == network.spec
    images = torch.randn(2, 3, 32, 32)
    assert difference(load_network(tmp_path), network, images) < 1e-6
    assert difference(load_network(tmp_path, inference=True), network, images) < 1e-5


def test_recomputing_layers_gives_the_same_gradients() -> None:
    images = torch.randn(4, 3, 32, 32)

    def gradients(recompute: bool) -> list[Tensor]:
        network = trained_mobile().train()
        network.drop_path_prob = 0.5
        network.set_grad_checkpointing(recompute)
        torch.manual_seed(1)
        torch.autograd.backward(network(images).square().sum())
        return [weight.grad for weight in network.parameters() if weight.grad is not None]

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == len(list(trained_mobile().parameters()))
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


def test_drop_path_leaves_the_skip_alone() -> None:
    torch.manual_seed(0)
    network = trained_mobile().train()
    network.drop_path_prob = 0.5
    images, blocks = torch.randn(400, 8, 4, 4), len(network.blocks)
    masks = network.draw_masks(images, 0, blocks)
    layer, last = layer_of(network, 1, 1), list(masks)[-1]
    kept = masks[layer].flatten() > 0
    assert 0 < int((~kept).sum()) < int((masks[last] == 0).sum())
    assert torch.equal(layer(images, masks[layer])[~kept], images[~kept])
    assert layer_of(network, 1) not in masks  # without a skip nothing would be left
    assert masks.keys() >= network.draw_masks(images, 2, 4).keys()
    assert network.eval().draw_masks(images, 0, blocks) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch looks at everything while it compiles, also at what it advises against
def test_compiled_layers_take_the_same_steps() -> None:
    """A kernel of 5 columns is among them, whose gradient a CPU computes in its own way."""
    images = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    plain, compiled = (trained_mobile(dropout=0.0).train() for _ in range(2))
    torch.autograd.backward(plain(images).square().sum())
    compiled.static_graph = True
    with compile_blocks(compiled, torch.device("cpu")):
        torch.autograd.backward(compiled(images).square().sum())
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_a_detector_uses_the_four_coarsest_maps_and_no_head() -> None:
    network = trained_mobile(preset="mnasnet")
    levels = PyramidBackbone(network, 8)(torch.zeros(1, 3, 64, 64))
    assert {name: tuple(level.shape[2:]) for name, level in levels.items()} == {
        "block2": (16, 16),
        "block3": (8, 8),
        "block5": (4, 4),
        "block7": (2, 2),
        "pool": (1, 1),
    }
    assert not [name for name, _ in network.named_parameters() if name.startswith(("head", "classifier"))]


def test_a_network_that_halves_nothing_is_no_backbone() -> None:
    flat = chain("flat", 8, "depthwise c8 n2")
    with pytest.raises(InputError, match="flat: no map"):
        PyramidBackbone(trained_mobile(flat), 8)
    for network in (trained_mobile(flat), trained_mobile(flat, preset="mnasnet")):
        with pytest.raises(InputError, match="head nasnet"):
            SingleScaleBackbone(network)


def test_it_is_restarted_at_the_last_halving() -> None:
    network = trained_mobile(preset="mnasnet")
    assert isinstance(network, Restartable)
    images = torch.randn(2, 3, 64, 64)
    assert network.maps_before("block7") == (network.feature_info[3],)
    with torch.no_grad():
        maps = network.forward_to(images, "block7")
        assert torch.equal(maps[0], network.features(images)["block5"])
        torch.testing.assert_close(network.classifier(network.forward_from(maps, "block7")), network(images))
        last = network.features(images)["block7"]
        network.remove_classifier()
        torch.testing.assert_close(network.forward_from(maps, "block7"), last.mean((2, 3)))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(InputError, match="too small") as caught:
        resolve_mobile(SMALL, preset="mnasnet", image_size=16)
    assert "mnasnet-cifar" in caught.value.hint
    with pytest.raises(InputError, match="family mobile"):
        resolve_network(SMALL, CellNetworkConfig(filters=4))
    with pytest.raises(DeviceMemoryError, match="weights take"):
        build(resolve_mobile(chain("wide", 8, *["mbconv9 c16384 n12"] * 32)))
