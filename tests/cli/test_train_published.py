"""Files in the layouts of other tools, with random weights: tuned on photos, measured, exported, detected with."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import nascli as library
from nascli.config import CellNetworkConfig
from nascli.data.imagenet import imagenet_wnids
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.pretrained import CellImporter
from nascli.models.families import build
from nascli.models.serialization import WEIGHTS_FILE
from nascli.models.weight_files import read_weights
from tests.cells import resolve_cells
from tests.cli.program import Nascli
from tests.detect.coco_folder import write_coco

PEERS = Path(__file__).parents[1] / "models" / "reference_networks.py"
CLASSES = tuple(f"class{k}" for k in range(10))
SHORT = "--epochs 1 --batch-size 10 --set data.workers=0 --image-size 32"


def write_photos(folder: Path, names: tuple[str, ...]) -> None:
    """Two JPEGs per class to train on and one to validate on, smooth and of all sizes."""
    noise = np.random.default_rng(0)
    for name in names:
        for part, count in (("train", 2), ("val", 1)):
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                width, height = (int(side) for side in noise.integers(40, 90, 2))
                photo = Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8))
                photo.resize((width, height), Image.Resampling.BICUBIC).save(folder / part / name / f"{k}.jpg")


def use(nascli: Nascli, run: str, *, export: bool = True) -> None:
    """Evaluate a network, export it, and detect with it."""
    ran = nascli(f"evaluate {run} --json")
    assert (ran.code, ran.json["images"]) == (0, 10), ran.err
    if export:
        assert nascli(f"build --network {run} --export {run}.pt2").code == 0
    write_coco(Path("data/coco"), train=4, val=2)
    small = "--recipe digit-scenes --max-train-images 4 --epochs 1 --batch-size 4 --set detector.rpn_post_nms_top_n=20"
    ran = nascli(f"detect --coco --backbone {run} {small} --out {run}-detector")
    assert ran.code == 0, ran.err


def test_mnasnet_of_torchvision(nascli: Nascli) -> None:
    write_photos(Path("photos"), CLASSES)
    torch.manual_seed(0)
    theirs = torchvision.models.mnasnet0_5()
    torch.save(theirs.state_dict(), "mnasnet0.5.pth")
    line = f"train --from mnasnet0.5.pth --cell mnasnet-b1 --width 0.5 --dataset folder:photos {SHORT}"
    entries = sum(not name.endswith("num_batches_tracked") for name in theirs.state_dict())
    ran = nascli(f"{line} --freeze stem --freeze block1 --set train.layer_decay=0.8 --out tuned")
    assert ran.code == 0, ran.err
    assert f"{entries - 2} tensors taken, 2 new: classifier" in ran.err
    network = json.loads(Path("tuned/network.json").read_text())
    assert (network["classes"], network["image_size"], network["padding"]) == (10, 32, "symmetric")
    assert (network["mean"], network["preprocessing"]["crop"]) == ([0.485, 0.456, 0.406], 0.875)
    assert torch.equal(read_weights(Path("tuned", WEIGHTS_FILE)).entries["stem.0.weight"], theirs.layers[0].weight)
    use(nascli, "tuned")
    for options, words in (
        ("--cell mnasnet-b1 --width 1.0", "misshaped"),
        ("--cell mnasnet-a1 --width 0.5", "do not fit"),
        ("--cell nasnet-a", "not a file of"),
    ):
        ran = nascli(f"train --from mnasnet0.5.pth {options} --dataset folder:photos {SHORT} --out refused")
        assert (ran.code, words in ran.err) == (2, True), ran.err
    whole = Path("mnasnet0.5.pth").read_bytes()
    Path("mnasnet0.5.pth").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in nascli(f"{line} --out refused").err


def test_a_nasnet_keeps_its_outputs_for_classes_of_imagenet(nascli: Nascli) -> None:
    """In pretrained-models' names, with a background: of 1001 outputs ten are kept, by the names of the folders."""
    wnids = imagenet_wnids()
    assert wnids
    chosen = wnids[5:1000:100]
    write_photos(Path("photos"), chosen)
    config = CellNetworkConfig.model_validate({"preset": "imagenet-mobile", "filters": 4, "cells_per_stage": 1})
    torch.manual_seed(0)
    ours = build(resolve_cells(zoo_genotype("nasnet-a"), config)).eval()
    state = ours.state_dict()
    entries = {key: state[name] for name, key in CellImporter().list_keys(ours, "nasnet").items()}  # type: ignore[arg-type]
    for name in ("weight", "bias"):
        kept = entries[f"last_linear.{name}"]
        entries[f"last_linear.{name}"] = torch.cat([torch.zeros_like(kept[:1]), kept])
    torch.save({"state_dict": entries}, "nasnet.pth")
    still = "--lr 1e-30 --set train.freeze_batch_norm=both"
    sizes = "--cell nasnet-a --preset imagenet-mobile --filters 4 --cells-per-stage 1"
    ran = nascli(f"train --from nasnet.pth {sizes} --dataset folder:photos {SHORT} {still} --out tuned")
    assert ran.code == 0, ran.err
    assert f"{len(entries)} tensors taken\n" in ran.err
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = ours(images)[:, [wnids.index(name) for name in chosen]]
        torch.testing.assert_close(library.load_network("tuned")(images), expected)
    assert json.loads(Path("tuned/network.json").read_text())["class_names"] == list(chosen)
    use(nascli, "tuned", export=False)


@pytest.mark.slow
def test_nasnet_a_mobile_of_pretrained_models(nascli: Nascli) -> None:
    import_module("pretrainedmodels")
    write_photos(Path("photos"), CLASSES)
    call = [sys.executable, "-W", "ignore", str(PEERS), "pretrainedmodels", "nasnetamobile", "96", "nasnetamobile"]
    subprocess.run(call, check=True)
    line = f"train --from nasnetamobile.pth --cell nasnet-a --preset imagenet-mobile --dataset folder:photos {SHORT}"
    ran = nascli(f"{line} --set train.aux_weight=0.4 --out tuned")
    assert ran.code == 0, ran.err
    assert "14 new: auxiliary head, classifier" in ran.err or "14 new: classifier, auxiliary head" in ran.err
    use(nascli, "tuned")
    assert nascli(f"{line} --freeze backbone --set train.grad_checkpointing=true --out head").code == 0
