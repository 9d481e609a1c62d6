"""Trained networks that ship with nascli: whole, the same everywhere, and taken wherever a run is."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import nascli as package
from nascli.config import TrainRecipe, load_recipe
from nascli.genotype.genotype import read_genotype
from nascli.genotype.resolve import load_genotype
from nascli.models.spec import read_network
from nascli.zoo import find_trained, list_trained
from tests.cli.program import Nascli

CHAIN = "cifar-chain"


@pytest.fixture
def planes() -> None:
    """Plain images of two of the ten classes."""
    for label, name in enumerate(("airplane", "ship")):
        for split in ("train", "test"):
            place = Path("planes", split, name)
            place.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (32, 32), (120 * label + 5 * number,) * 3).save(place / f"{number}.png")


@pytest.mark.parametrize("name", list_trained())
def test_each_is_a_published_network_without_a_place(name: str) -> None:
    folder = find_trained(f"zoo:{name}")
    own = load_genotype(str(folder / "network.json"))
    assert read_genotype(folder / "genotype.json").canonical_hash() == own.canonical_hash()
    load_recipe(TrainRecipe, folder / "recipe.toml")
    for file in ("network.json", "genotype.json", "recipe.toml", "README.md"):
        assert not re.search(r"[\s\"'](/|~/|[A-Z]:\\)\w", (folder / file).read_text(encoding="utf-8")), file


ANSWERS = {
    "cifar-chain": [3.4671, -3.7801, 3.2665, -0.3831, 2.7415, -1.9426, -1.452, -1.3716, 2.1001, -2.5871],
    "cifar-random-chain": [2.6181, -2.004, 1.6553, 0.0381, -0.1083, -0.8464, 0.4404, -1.9397, 0.848, -0.7188],
}


@pytest.mark.parametrize("name", list_trained())
def test_each_answers_as_it_did_when_it_was_trained(name: str) -> None:
    ramp = torch.linspace(-2, 2, 3 * 32 * 32).reshape(1, 3, 32, 32)
    with torch.inference_mode():
        logits = package.load_network(f"zoo:{name}")(ramp)
    assert logits[0].tolist() == pytest.approx(ANSWERS[name], abs=1e-3)


@pytest.mark.usefixtures("planes")
def test_a_cell_with_weights_of_the_zoo_is_the_network(nascli: Nascli) -> None:
    before = sorted(Path().rglob("*"))
    named = nascli(f"evaluate --cell {CHAIN} --weights zoo --dataset folder:planes --json")
    assert named.code == 0, named.err
    assert named.json["top1"] == nascli(f"evaluate zoo:{CHAIN} --dataset folder:planes --json").json["top1"]
    assert sorted(Path().rglob("*")) == before, "it has no run folder to write into"
    assert nascli(f"evaluate zoo:{CHAIN} --dataset folder:planes --out result").code == 0
    assert Path("result/evaluation.json").is_file()


@pytest.mark.usefixtures("planes")
def test_a_training_goes_on_from_the_zoo(nascli: Nascli) -> None:
    ran = nascli(f"train --from zoo:{CHAIN} --dataset folder:planes --epochs 1 --batch-size 4 --out run --json")
    assert ran.code == 0, ran.err
    assert read_network(Path("run/network.json")).classes == 2


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate zoo:cifar-chan", "cifar-chain"),
        ("evaluate --cell cifar-chain", "--weights zoo"),
        ("evaluate --weights zoo", "go together"),
        ("evaluate run --cell cifar-chain --weights zoo", "exclude"),
        ("evaluate", "needs a RUN"),
    ],
)
def test_a_network_that_is_not_there_is_refused(nascli: Nascli, command: str, said: str) -> None:
    ran = nascli(command)
    assert ran.code == 2
    assert said in ran.err
