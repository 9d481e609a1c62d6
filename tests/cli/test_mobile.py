"""Mobile networks through the commands."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
import torchvision

from nascli.models.mobile.spec import MobileNetworkSpec
from nascli.models.serialization import load_network
from nascli.models.spec import read_network
from tests.cli.program import Nascli
from tests.detect.coco_folder import write_coco
from tests.mobile import SMALL, randomize_norms
from tests.models.test_fuse import difference

TRAIN = "train --cell small.json --dataset digits --width 0.5 --seed 1 --set data.max_train_images=64"
STEPS = "--epochs 2 --batch-size 32 --set train.warmup_epochs=0 --set network.head_filters=32 --device cpu"
DETECTOR = (
    "--recipe digit-scenes --epochs 1 --batch-size 2 --set detector.pyramid_channels=8 --set detector.head_channels=16 "
    "--set detector.rpn_post_nms_top_n=10 --set detector.box_batch_size_per_image=6 --set detector.roi_size=5"
)


@pytest.fixture(autouse=True)
def cell() -> None:
    Path("small.json").write_text(SMALL.to_json())


def weights(folder: str) -> bytes:
    return Path(folder, "weights.safetensors").read_bytes()


def test_build_shows_it_layer_by_layer_at_any_width(nascli: Nascli) -> None:
    ran = nascli("build --cell mnasnet-a1 --width 0.75 --json --out net")
    assert (ran.json["params"], ran.json["params_auxiliary"], ran.json["image_size"]) == (2_912_278, 0, 224)
    written = json.loads(Path("net/network.json").read_text())
    assert (written["family"], written["width"], written["head_filters"]) == ("mobile", 0.75, 1280)
    ran = nascli("build --cell net --classes 10 --image-size 96")
    assert "mnasnet-a1: width 0.75, 10 classes" in ran.out
    assert ran.out.count("block 3.") == 3
    assert "auxiliary" not in ran.out


def test_a_target_chooses_the_width(nascli: Nascli) -> None:
    ran = nascli("build --cell mnasnet-a1 --target-params 2.1M --json --out net")
    assert ran.code == 0, ran.err
    assert (ran.json["params"], ran.json["size_table"]["width"]) == (2_082_006, 0.5)
    assert json.loads(Path("net/network.json").read_text())["width"] == 0.5
    ran = nascli("build --cell mnasnet-a1 --target-mult-adds 100M")
    assert "the steps of width are 0.05: width = 0.45 has 95.75M mult-adds, width = 0.5 has 103.2M" in ran.err
    ran = nascli("build --cell mnasnet-a1 --target-mult-adds 100M --width 1")
    assert ran.code == 2
    assert "--width" in ran.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("build --cell mnasnet-a1 --filters 8", "filters"),
        ("build --cell nasnet-a --width 0.5", "width"),
        ("build --cell mnasnet-a1 --preset cifar10", "mnasnet-cifar"),
        ("build --cell nasnet-a --preset mnasnet", "imagenet-mobile"),
        ("build --cell mnasnet-a1 --width 0", "width"),
        ("train --cell mnasnet-a1 --dataset digits --filters 8", "a key of the family cells or resnet"),
        ("train --cell nasnet-a --dataset digits --width 0.5", "a key of the family mobile"),
    ],
)
def test_keys_and_presets_of_other_families_are_refused(line: str, said: str, nascli: Nascli) -> None:
    ran = nascli(line)
    assert ran.code == 2
    assert said in ran.err


def test_train_resume_evaluate_and_export(nascli: Nascli) -> None:
    aux = "--set train.aux_weight=0.4 --set train.drop_path_prob=0.2"
    straight = nascli(f"{TRAIN} {STEPS} {aux} --out straight")
    assert straight.code == 0, straight.err
    assert "no effect on small: train.aux_weight\n" in straight.err
    spec = read_network(Path("straight/network.json"))
    assert isinstance(spec, MobileNetworkSpec)
    assert (spec.width, spec.stem, spec.image_size, spec.head_filters) == (0.5, "cifar", 16, 32)
    recipe = tomllib.loads(Path("straight/recipe.toml").read_text())
    assert recipe["network"] == {"family": "mobile", "width": 0.5, "head_filters": 32}
    assert load_network("straight").spec == spec
    assert nascli("evaluate straight --json").json["cell"] == "small"

    Path("straight/weights.safetensors").rename("kept.safetensors")
    Path("straight/checkpoint.previous.pt").replace("straight/checkpoint.pt")  # of the first epoch
    resumed = nascli("train --resume straight")
    assert resumed.code == 0, resumed.err
    assert "epoch 2/2" in resumed.err
    assert weights("straight") == Path("kept.safetensors").read_bytes()
    assert nascli("build --network straight --export small.xml").code == 0


def test_a_preset_of_cells_in_a_recipe_falls_away(nascli: Nascli) -> None:
    Path("cells.toml").write_text('[network]\nimage_size = 16\npreset = "cifar10"\n')
    ran = nascli(f"{TRAIN} {STEPS} --recipe cells.toml --dry-run")
    assert ran.code == 0, ran.err
    assert "[network] of cells.toml is not for the family mobile: preset not used" in ran.err
    ran = nascli(f"{TRAIN} {STEPS} --preset mnasnet-cifar --dry-run --json")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("head", ["fpn", "nasnet"])
def test_it_is_a_detectors_backbone(head: str, nascli: Nascli) -> None:
    write_coco(Path("data/coco"), train=2, val=1)
    ran = nascli(f"detect --coco --cell small.json --preset mnasnet {DETECTOR} --head {head} --out run --json")
    assert ran.code == 0, ran.err
    assert "ap50" in ran.json
    ran = nascli("detect predict data/coco/val2017/0001.png --run run --threshold 0 --json")
    assert ran.code == 0, ran.err


def test_weights_of_torchvision_are_built_and_loaded(nascli: Nascli) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.mnasnet0_5().eval()
    randomize_norms(theirs)
    torch.save(theirs.state_dict(), "mnasnet.pth")
    ran = nascli("build --cell mnasnet-b1 --width 0.5 --import-weights mnasnet.pth --out net")
    assert ran.code == 0, ran.err
    assert "a file of torchvision, MnasNet" in ran.err
    written = json.loads(Path("net/network.json").read_text())
    assert (written["padding"], written["preprocessing"]["interpolation"]) == ("symmetric", "bilinear")
    assert difference(load_network("net"), theirs, torch.randn(1, 3, 64, 64)) < 1e-5
    ran = nascli("build --cell mnasnet-a1 --width 0.5 --import-weights mnasnet.pth --out other")
    assert ran.code == 2
    assert "se.conv_reduce" in ran.err
