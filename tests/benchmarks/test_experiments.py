"""The experiments at their smallest setting, and the residual networks that stand beside the cells."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import finetune
import image_sizes
import inheritance
import proxies
import pytest
import resnets
import trainings
from PIL import Image

from nascli.config import CellNetworkConfig
from nascli.models.cost import measure_cost
from nascli.models.spec import NetworkSpec
from tests.cells import resolve_cells
from tests.cli.program import exit_code

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


def write_images(folder: Path, names: Sequence[str] = ("0", "1")) -> None:
    """Classes of plain images, more or less bright."""
    for split in ("train", "test"):
        for label, name in enumerate(names):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (16, 16), (200 * label // len(names) + 5 * number,) * 3).save(place / f"{number}.jpg")


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
    write_images(tmp_path / "images")
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


@pytest.mark.slow
def test_a_small_network_is_compared_with_itself_taught(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    assert exit_code(*f"train --cell nasnet-a --dataset {tmp_path}/images --filters 4 --cells-per-stage 1 --epochs 1 "
                     "--out teacher".split()) == 0  # fmt: skip
    values, _ = run(
        "distillation.py", "--data", tmp_path / "images", "--teacher", "teacher", "--filters", "2", "--epochs", "1",
        "--weights", "0.5,0.9",
    )  # fmt: skip
    taught = [f"taught, weight {weight}" for weight in (0.5, 0.9)]
    assert set(values["results"]) == {"alone", *taught, *(f"{each}, more than alone" for each in taught)}
    assert len({each["params"] for each in values["measurements"]}) == 1


@pytest.mark.slow
def test_new_classes_are_learnt_from_each_start(tmp_path: Path) -> None:
    write_images(tmp_path / "images", tuple(name for five in finetune.CLASSES for name in five))
    options = ("--folder", tmp_path / "runs", "--counts", "2,4", "--test-images", "3", "--seeds", "1", "--filters", "2")
    epochs = ("--first-epochs", "1", "--epochs", "1", "--scratch-epochs", "2", "--figure", "curves.png")
    values, _ = run("finetune.py", "--data", tmp_path / "images", *options, *epochs)
    assert set(values["results"]) == {f"{count}, {arm}" for count in (2, 4) for arm in finetune.ARMS}
    frozen = next(each["task"] for each in values["measurements"] if each["task"]["network"] == "classifier alone")
    assert "train.freeze=backbone" in frozen["settings"]
    with Image.open("curves.png") as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_growing_images_take_the_steps_of_their_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    values, said = run(
        "image_sizes.py", "--data", tmp_path / "images", "--filters", "2", "--sizes", "8,16", "--epochs", "2",
        "--rounds", "1",
    )  # fmt: skip
    steps = {name: each["steps_by_side"] for name, each in values["results"]["arms"].items()}
    assert steps == {"fixed, 2": {"16": 2}, "growing, 2": {"8": 1, "16": 1}}
    assert set(values["results"]["step_seconds"]) == {"8", "16"}
    assert "4 trainings, 2 of them done" in said


@pytest.mark.parametrize(("top1", "seconds"), [(0.5, 10), (0.6, 15), (0.7, 20), (0.65, 17.5), (0.4, 10), (0.8, None)])
def test_the_time_to_equal_accuracy_is_read_off_the_curve(top1: float, seconds: float | None) -> None:
    found = image_sizes.interpolate([(10, 0.5), (20, 0.7), (30, 0.75)], top1)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_looks_are_ranked_against_the_longer_training() -> None:
    """Four networks: the first epoch has their order, a training of its own the opposite one."""
    measurements = []
    for number, final in enumerate((0.5, 0.6, 0.7, 0.8)):
        task = {"network": f"random-{number}", "seed": 0}
        measurements.append({"task": {**task, "arm": "long"}, "top1": [final / 2, final], "seconds": 2.0})
        measurements.append({"task": {**task, "arm": "1"}, "top1": [1 - final], "seconds": 1.0})
    found = proxies.summarize(measurements)
    assert {look: (each["spearman"], each["seconds"]) for look, each in found.items()} == {
        "after epoch 1 of 2": (pytest.approx(1), 1.0),
        "a training of 1": (pytest.approx(-1), 1.0),
    }


def test_inherited_and_fresh_weights_are_ranked_against_the_longer_training() -> None:
    """Four networks: with inherited weights they have its order, with fresh ones the opposite."""
    measurements = []
    for trial, final in enumerate((0.5, 0.6, 0.7, 0.8)):
        task = {"trial": trial, "seed": 0}
        had = {"inherited": final - 0.1, "inherited_seconds": 3.0}
        measurements.append({"task": {**task, "arm": "long"}, "top1": [0.1, final], "seconds": 2.0, **had})
        measurements.append({"task": {**task, "arm": "short"}, "top1": [1 - final], "seconds": 1.0, **had})
    found = inheritance.summarize(measurements)
    assert {name: (each["spearman"], each["top1"], each["seconds"]) for name, each in found.items()} == {
        "inherited weights": (pytest.approx(1), pytest.approx(0.55), 3.0),
        "fresh weights": (pytest.approx(-1), pytest.approx(0.35), 1.0),
    }
