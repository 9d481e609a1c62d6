"""Weights of timm and torchvision for mobile networks: their logits, and what does not fit."""

from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nascli.config import Preprocessing
from nascli.errors import InputError
from nascli.models.deploy.engines import build_engine
from nascli.models.mobile.network import MobileNetwork
from nascli.models.mobile.pretrained import MobileImporter
from nascli.models.pretrained import import_network
from tests.mobile import SMALL, chain, published_chain, randomize_norms, resolve_mobile
from tests.models.test_fuse import difference

CASES = [
    # tool, its network, cell, width, whether it has ReLU6, crop
    ("timm", "mnasnet_small", "mnasnet-small-timm", 1.0, False, 0.875),
    ("timm", "semnasnet_075", "mnasnet-a1", 0.75, False, 0.875),
    ("timm", "mobilenetv2_050", "mobilenetv2", 0.5, True, 0.875),
    ("torchvision", "mnasnet0_5", "mnasnet-b1", 0.5, False, 0.875),
    ("torchvision", "mnasnet0_75", "mnasnet-b1", 0.75, False, 224 / 232),
    ("torchvision", "mobilenet_v2", "mobilenetv2", 1.0, True, 0.875),
    *[
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("timm", "mnasnet_100", "mnasnet-b1", 1.0, False, 0.875),
            ("timm", "semnasnet_100", "mnasnet-a1", 1.0, False, 0.875),
            ("timm", "mobilenetv2_100", "mobilenetv2", 1.0, True, 0.875),
            ("timm", "mobilenetv2_140", "mobilenetv2", 1.4, True, 0.875),  # its head has 1792 filters
            ("torchvision", "mnasnet1_0", "mnasnet-b1", 1.0, False, 0.875),
            ("torchvision", "mnasnet1_3", "mnasnet-b1", 1.3, False, 224 / 232),
        )
    ],
]


def peer(tool: str, name: str) -> nn.Module:
    """A network of a tool, with random weights and statistics."""
    torch.manual_seed(0)
    made = import_module("timm").create_model(name) if tool == "timm" else getattr(torchvision.models, name)()
    assert isinstance(made, nn.Module)
    randomize_norms(made)
    return made.eval()


def save(state: dict[str, torch.Tensor], path: Path = Path("weights.pth")) -> Path:
    torch.save(OrderedDict(state), path)
    return path


@pytest.mark.parametrize(("tool", "name", "cell", "width", "relu6", "crop"), CASES)
def test_the_peers_logits(tool: str, name: str, cell: str, width: float, relu6: bool, crop: float) -> None:
    theirs = peer(tool, name)
    spec = resolve_mobile(published_chain(cell), preset="mnasnet", width=width)
    ours, imported = import_network(save(theirs.state_dict()), spec)
    assert isinstance(ours, MobileNetwork)
    assert imported.name == f"{tool}, {'MobileNetV2' if relu6 else 'MnasNet'}"
    images = torch.randn(2, 3, 64, 64)
    assert difference(ours, theirs, images) < 1e-5
    assert difference(build_engine(ours, torch.device("cpu")), theirs, images) < 1e-4
    assert (ours.spec.padding, ours.spec.batch_norm_epsilon) == ("symmetric", 1e-5)
    assert ours.spec.activation == ("relu6" if relu6 else "relu")
    assert ours.spec.mean == (0.485, 0.456, 0.406)
    assert ours.spec.std == (0.229, 0.224, 0.225)
    filter_of = "bicubic" if tool == "timm" else "bilinear"
    assert ours.spec.preprocessing == Preprocessing(resize="shorter_side", crop=crop, interpolation=filter_of)


def test_safetensors_are_read_alike_whatever_the_presets_paddings() -> None:
    theirs = peer("timm", "mnasnet_small")
    save_file(theirs.state_dict(), "weights.safetensors")
    for numbers in ({"preset": "mnasnet-cifar"}, {"padding": "symmetric", "stem": "imagenet", "activation": "relu"}):
        spec = resolve_mobile(published_chain("mnasnet-small-timm"), 1000, image_size=64, **numbers)
        ours, _ = import_network(Path("weights.safetensors"), spec)
        assert difference(ours, theirs, torch.randn(1, 3, 64, 64)) < 1e-5


def test_a_skip_that_changes_no_shape_is_compared() -> None:
    """The released MnasNet-Small adds nothing in its first block; timm's does, and its weights would load."""
    path = save(peer("timm", "mnasnet_small").state_dict())
    with pytest.raises(InputError, match="skip identity in block 1, this network has none") as caught:
        import_network(path, resolve_mobile(published_chain("mnasnet-small"), preset="mnasnet-small"))
    assert "mnasnet-small-timm" in caught.value.hint


def test_the_first_version_of_torchvisions_files_is_known_by_its_stem() -> None:
    """Its stem and first block are not scaled, which a genotype can say."""
    layers = ("mbconv3 c16 n3 s2", "mbconv3 k5 c24 n3 s2", "mbconv6 k5 c40 n3 s2", "mbconv6 c48 n2")
    absolute = chain("b1", 32, "depthwise c16", *layers, "mbconv6 k5 c96 n4 s2", "mbconv6 c160")
    network = MobileNetwork(resolve_mobile(absolute, preset="mnasnet", padding="symmetric"))
    keys = MobileImporter().list_keys(network, "torchvision MnasNet")
    path = save({keys[name]: tensor for name, tensor in network.state_dict().items() if name in keys})
    with pytest.raises(InputError, match="version 1") as caught:
        import_network(path, resolve_mobile(published_chain("mnasnet-b1"), preset="mnasnet", width=0.5))
    assert "stem 32, filters 16, 16, 24, 40, 48, 96, 160" in caught.value.hint
    imported, _ = import_network(path, resolve_mobile(absolute, preset="mnasnet"))
    assert torch.equal(imported.classifier.weight, network.classifier.weight)


def test_networks_of_like_names_are_refused_by_shape() -> None:
    with pytest.raises(InputError, match=r"missing.*surplus.*misshaped"):
        import_network(
            save(peer("timm", "efficientnet_b0").state_dict()),
            resolve_mobile(published_chain("mnasnet-a1"), preset="mnasnet"),
        )
    path = save(peer("torchvision", "mnasnet0_5").state_dict())
    with pytest.raises(InputError, match=r"misshaped, first layers\.0\.weight \(the file has \[16, 3, 3, 3\]"):
        import_network(path, resolve_mobile(published_chain("mnasnet-b1"), preset="mnasnet"))
    with pytest.raises(InputError, match=r"missing, first .*se\.conv_reduce"):
        import_network(path, resolve_mobile(published_chain("mnasnet-a1"), preset="mnasnet", width=0.5))
    with pytest.raises(InputError, match="--classes 1000"):
        import_network(path, resolve_mobile(published_chain("mnasnet-b1"), 10, preset="mnasnet", width=0.5))
    for shape in ((), (0, 160, 1, 1), (1 << 17, 1, 1, 1), (7,)):
        state = torch.load(path) | {"layers.14.weight": torch.zeros(shape)}
        with pytest.raises(InputError, match=r"misshaped, first layers\.14\.weight"):
            import_network(
                save(state, Path("odd.pth")), resolve_mobile(published_chain("mnasnet-b1"), preset="mnasnet", width=0.5)
            )
    with pytest.raises(InputError, match="not a file of timm or torchvision"):
        import_network(save({"conv1.weight": torch.zeros(1)}), resolve_mobile(SMALL, image_size=32))
