"""`--cell resnet-8`, a network without a genotype, through the commands."""

import json
import tomllib
from pathlib import Path

import pytest

from nascli.models.resnet.family import ResNetSpec
from nascli.models.serialization import load_network
from nascli.models.spec import read_network
from tests.cli.program import Nascli
from tests.detect.coco_folder import write_coco

TRAIN = "train --cell resnet-8 --dataset digits --filters 4 --seed 1 --set data.max_train_images=64"
STEPS = "--epochs 2 --batch-size 32 --set train.warmup_epochs=0 --device cpu"


def weights(folder: str) -> bytes:
    return Path(folder, "weights.safetensors").read_bytes()


def test_build_shows_and_exports_it(nascli: Nascli) -> None:
    ran = nascli("build --cell resnet-20 --json --out net")
    assert (ran.json["params"], ran.json["cell"]) == (269_722, "resnet-20")
    assert json.loads(Path("net/network.json").read_text())["family"] == "resnet"
    ran = nascli("build --cell resnet-8 --filters 4")
    assert "resnet-8: widths 4, 8, 16" in ran.out
    assert ran.out.count("stage 2 block") == 1
    ran = nascli("build --cell resnet-8 --target-params 20k --json")
    assert ran.json["params"] == pytest.approx(20_000, rel=0.1)


def test_train_resume_evaluate_and_detect_on_it(nascli: Nascli) -> None:
    straight = nascli(f"{TRAIN} {STEPS} --out straight")
    assert straight.code == 0, straight.err
    spec = read_network(Path("straight/network.json"))
    assert isinstance(spec, ResNetSpec)
    assert (spec.widths, spec.depth, spec.classes, spec.image_size) == ((4, 8, 16), 8, 10, 16)
    recipe = tomllib.loads(Path("straight/recipe.toml").read_text())
    assert recipe["network"] == {"family": "resnet", "filters": 4}
    assert load_network("straight").spec == spec
    run = json.loads(Path("straight/run.json").read_text())
    assert run["results"]["cell"] == "resnet-8"
    assert nascli("evaluate straight --json").json["cell"] == "resnet-8"

    Path("straight/weights.safetensors").rename("kept.safetensors")
    Path("straight/checkpoint.previous.pt").replace("straight/checkpoint.pt")  # of the first epoch
    resumed = nascli("train --resume straight")
    assert resumed.code == 0, resumed.err
    assert "epoch 1/2" not in resumed.err
    assert "epoch 2/2" in resumed.err
    assert weights("straight") == Path("kept.safetensors").read_bytes()
    again = nascli(f"train --cell straight --recipe straight/recipe.toml --out again {STEPS}")
    assert again.code == 0, again.err
    assert weights("again") == weights("straight")


def test_keys_without_effect_are_named(nascli: Nascli) -> None:
    aux = "--set train.aux_weight=0.4 --set train.drop_path_prob=0.1"
    ran = nascli(f"{TRAIN} {STEPS} {aux} --out run")
    assert ran.code == 0, ran.err
    assert ran.err.count("no effect on resnet-8: train.aux_weight, train.drop_path_prob") == 1
    unused = ["train.aux_weight", "train.drop_path_prob"]
    assert json.loads(Path("run/run.json").read_text())["results"]["unused_keys"] == unused
    Path("cells.toml").write_text('[network]\nimage_size = 16\nstem = "cifar"\nfilters = 8\n')
    ran = nascli(f"{TRAIN} {STEPS} --recipe cells.toml --dry-run")
    assert ran.code == 0, ran.err
    assert "[network] of cells.toml is not for the family resnet: stem, filters not used" in ran.err
    assert "no effect" not in ran.err


def test_keys_of_cells_are_refused(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --cells-per-stage 2 --out run")
    assert ran.code == 2
    assert "cells_per_stage" in ran.err


def test_it_is_a_detectors_backbone(nascli: Nascli) -> None:
    write_coco(Path("data/coco"))
    numbers = "--set detector.pyramid_channels=8 --set detector.head_channels=16 --set detector.rpn_post_nms_top_n=20"
    ran = nascli(f"detect --coco --cell resnet-8 --filters 4 --recipe digit-scenes {numbers} --epochs 1 --out run")
    assert ran.code == 0, ran.err
    assert "backbone resnet-8" in ran.err
    refused = nascli(f"detect --coco --cell resnet-8 --recipe digit-scenes {numbers} --head nasnet --out other")
    assert refused.code == 2
    assert "resnet-8" in refused.err
