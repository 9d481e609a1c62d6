"""`nascli evaluate --predict`: what a network sees in a user's own images."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nascli.data.imagenet import imagenet_wnids
from nascli.models.cells.network import CellNetwork
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from tests.classify.small_training import make_spec
from tests.cli.program import Nascli
from tests.cli.reference_evaluation import answers, edit_network, loss_by_hand, write_large_images


@pytest.mark.usefixtures("trained")
def test_a_persons_own_images_are_named_without_the_data_set(nascli: Nascli) -> None:
    files = write_large_images(Path("photos"))
    paths = [path for path, _ in files]
    shutil.rmtree("images")
    ran = nascli(f"evaluate run --predict {paths[0]} --predict {paths[2].parent} --batch-size 2 --json")
    assert ran.code == 0, ran.err
    named = ran.json["images"]
    assert [each["file"] for each in named] == [str(paths[0]), str(paths[2]), str(paths[3])]
    for each in named:
        values = [guess["probability"] for guess in each["classes"]]
        assert sorted(values, reverse=True) == values
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert {(guess["label"], guess["name"]) for guess in each["classes"]} == {(0, "cat"), (1, "cow"), (2, "dog")}
    label = files[0][1]
    (true,) = (guess["probability"] for guess in named[0]["classes"] if guess["label"] == label)
    whole = torch.from_numpy(np.array(Image.open(paths[0]).resize((8, 8), Image.Resampling.BILINEAR)))
    assert true == pytest.approx(float(answers("run", whole.permute(2, 0, 1)[None])[0, label]), rel=1e-4)
    assert not Path("run/evaluation.json").exists()
    assert ran.next == ["nascli evaluate run"]
    shown = nascli(f"evaluate run --predict {paths[0]} --flip").out
    first = named[0]["classes"][0]["name"]
    assert shown.splitlines()[1].split() == ["image", "likeliest", "second", "third"]
    assert first in shown
    assert "8 px, whole, bilinear, stretched; averaged over the image and its mirror image" in shown
    edit_network("run", preprocessing=None)
    ran = nascli(f"evaluate run --predict {paths[0]} --json")
    (true,) = (guess["probability"] for guess in ran.json["images"][0]["classes"] if guess["label"] == label)
    assert -np.log(true) == pytest.approx(loss_by_hand("run", files[:1], 9, Image.Resampling.BILINEAR), rel=1e-4)


def test_images_are_named_as_often_right_as_in_measuring(nascli: Nascli, trained: dict[str, object]) -> None:
    assert json.loads(Path("run/network.json").read_text())["preprocessing"] == {
        "resize": "both_sides",
        "crop": 1.0,
        "interpolation": "bilinear",
    }
    folders = " ".join(f"--predict images/val/{name}" for name in ("cat", "cow", "dog"))
    ran = nascli(f"evaluate run {folders} --json")
    assert ran.code == 0, ran.err
    named = [(Path(each["file"]).parent.name, each["classes"][0]["name"]) for each in ran.json["images"]]
    measured = nascli("evaluate run --json").json
    assert sum(true == answered for true, answered in named) / len(named) == measured["top1"] == trained["top1"]
    assert ran.json["preprocessing"] == measured["preprocessing"]
    right = {each["name"]: each["correct"] for each in measured["per_class"]}
    found = Counter(true for true, answered in named if true == answered)
    assert {name: found[name] for name in right} == right


@pytest.mark.usefixtures("trained")
def test_a_network_without_class_names_gives_numbers(nascli: Nascli) -> None:
    (path, *_), *_ = write_large_images(Path("photos"))
    edit_network("run", class_names=None)
    ran = nascli(f"evaluate run --predict {path} --json")
    assert {(guess["label"], guess["name"]) for guess in ran.json["images"][0]["classes"]} == {
        (label, None) for label in range(3)
    }
    row = nascli(f"evaluate run --predict {path}").out.splitlines()[2].split()
    assert set(row[1::2]) == {"0", "1", "2"}


def write_imagenet_network(folder: Path) -> None:
    """A network of 1000 classes that takes everything for class 1."""
    spec = make_spec(classes=1000, aux_head=False)
    torch.manual_seed(0)
    network = build(spec)
    with torch.no_grad():
        network.classifier.bias[1] = 1000
    folder.mkdir()
    write_network(folder / "network.json", spec)
    save_weights(folder / "weights.safetensors", network)


def test_a_network_of_imagenet_says_what_people_call_its_classes(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_imagenet_network(Path("large"))
    path = "images/val/cat/00.png"
    first = nascli(f"evaluate large --predict {path} --json").json["images"][0]["classes"][0]
    assert (first["label"], first["name"], first["wnid"]) == (1, "goldfish", None)
    wnids = imagenet_wnids()
    assert wnids is not None
    edit_network("large", class_names=wnids)
    first = nascli(f"evaluate large --predict {path} --json").json["images"][0]["classes"][0]
    assert (first["label"], first["name"], first["wnid"]) == (1, "goldfish", "n01443537")
    assert "goldfish 100.0%" in nascli(f"evaluate large --predict {path}").out
    others = ["n00000001", *wnids[1:]]  # a thousand ids that are not ImageNet's
    edit_network("large", class_names=others)
    first = nascli(f"evaluate large --predict {path} --json").json["images"][0]["classes"][0]
    assert (first["label"], first["name"], first["wnid"]) == (1, "n01443537", None)


def test_a_table_of_imagenets_classes_has_their_names_too(nascli: Nascli) -> None:
    write_imagenet_network(Path("large"))
    write_large_images(Path("photos"), ("n01440764", "n01443537"))
    shown = nascli("evaluate large --dataset folder:photos").out
    (row,) = (line.split() for line in shown.splitlines() if line.startswith("n01440764"))
    assert row == ["n01440764", "tench", "2", "0.00%", "n01443537", "goldfish", "(2)"]
    assert json.loads(Path("large/evaluation.json").read_text())["per_class"][0]["name"] == "n01440764"


@pytest.mark.usefixtures("trained")
def test_memory_that_runs_out_is_said_and_changes_no_answer(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "evaluate run --predict images/val/cat --json"
    whole = nascli(line).json
    forward = CellNetwork.forward

    def guarded(network: CellNetwork, images: Tensor) -> Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("no room")
        return forward(network, images)

    monkeypatch.setattr(CellNetwork, "forward", guarded)
    ran = nascli(line)
    assert ran.code == 0, ran.err
    assert "out of memory: from here on 3 images are evaluated at once" in ran.err
    assert [[guess["label"] for guess in image["classes"]] for image in ran.json["images"]] == [
        [guess["label"] for guess in image["classes"]] for image in whole["images"]
    ]
    measured = nascli("evaluate run --json")
    assert "out of memory: from here on 4 images are evaluated at once" in measured.err
    assert measured.json["images"] == 18


@pytest.mark.usefixtures("trained")
def test_memory_that_does_not_hold_one_image_is_explained(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(network: ImageClassifier, images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(CellNetwork, "forward", full)
    ran = nascli("evaluate run")
    assert ran.code == 1
    assert "the device has not enough memory to evaluate one image of 8 x 8 pixels" in ran.err
