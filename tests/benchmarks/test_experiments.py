"""The experiments at their smallest setting, and the residual networks that stand beside the cells."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import resnets
import trainings
from PIL import Image

from nascli.config import CellNetworkConfig
from nascli.models.cost import measure_cost
from nascli.models.spec import NetworkSpec
from tests.cells import resolve_cells

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = CellNetworkConfig(filters=8, cells_per_stage=1, image_size=16)


def run(script: str, *options: object) -> tuple[dict[str, Any], str]:
    """The figures that a script writes, and its stderr."""
    command = [sys.executable, str(BENCHMARKS / script), "--seeds", "1", "--json", "out.json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "±" in done.stdout
    values: dict[str, Any] = json.loads(Path("out.json").read_text())
    return values, done.stderr


@pytest.fixture
def spec() -> NetworkSpec:
    return resolve_cells(trainings.find_genotype("nasnet-a"), SMALL)


@pytest.mark.parametrize("depth", [8, 20])
def test_a_resnet_costs_what_the_other_network_does(depth: int, spec: NetworkSpec) -> None:
    found = resnets.nearest_resnet(spec, depth)
    assert measure_cost(found).mult_adds == pytest.approx(measure_cost(spec).mult_adds, rel=0.02)
    assert (found.image_size, found.classes, found.mean, found.std) == (16, spec.classes, spec.mean, spec.std)


def test_random_cells_are_those_of_the_figures() -> None:
    costs = [measure_cost(resolve_cells(trainings.find_genotype(f"random-{k}"), SMALL)) for k in range(3)]
    assert [cost.params for cost in costs] == [136_850, 102_954, 208_402]  # docs/results.md


@pytest.mark.slow
def test_trainings_that_are_kept_are_not_made_again(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in range(2):
            place = tmp_path / "images" / split / str(label)
            place.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (16, 16), (100 * label + 5 * number,) * 3).save(place / f"{number}.jpg")
    options = ("--data", tmp_path / "images", "--filters", "2", "--epochs", "1", "--processes", "2")
    first, said = run("cifar10_cells.py", *options, "--networks", "resnet-8")
    assert "1 trainings, 0 of them done" in said
    both, said = run("cifar10_cells.py", *options, "--networks", "nasnet-a,resnet-8")
    assert "2 trainings, 1 of them done" in said
    assert both["measurements"][0] == first["measurements"][0]
    assert set(both["results"]) == {"nasnet-a", "resnet-8"}
    assert both["results"]["resnet-8"] == first["results"]["resnet-8"]
    assert 0 <= both["results"]["nasnet-a"]["top1"]["mean"] <= 1


@pytest.mark.slow
def test_transfer_follows_each_backbone_by_equal_steps() -> None:
    options = ("--filters", "4", "--digit-epochs", "1", "--epochs", "2", "--scenes", "8", "--figure", "curves.png")
    values, _ = run("transfer.py", *options)
    assert set(values["results"]) == {"NASNet-A", "NASNet-A, random weights", "found cell", "ResNet-20"}
    assert {each["steps"] for each in values["measurements"]} == {2}
    for each in values["results"].values():
        assert len(each["ap50_by_epoch"]["mean"]) == 2
    assert values["results"]["NASNet-A, random weights"]["digits_top1"] is None
    with Image.open("curves.png") as image:
        assert image.format == "PNG"
