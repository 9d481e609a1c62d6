"""`nascli evaluate`: the number that training reached, again, from the files alone."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from nascli.classify import evaluate as evaluation
from nascli.config import DataConfig
from nascli.data.dataset import ImageData
from nascli.data.registry import load_dataset
from nascli.engine.graphs import Forward
from nascli.engine.task import Run
from nascli.models.families import build
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from nascli.records import read_record, write_record
from tests.classify.small_training import make_spec
from tests.cli.program import Nascli, write_images
from tests.cli.reference_evaluation import answers, edit_network, known_images, write_large_images


def test_it_finds_what_training_found(nascli: Nascli, trained: dict[str, object]) -> None:
    ran = nascli("evaluate run --json")
    assert ran.code == 0, ran.err
    for key in ("top1", "top5", "images", "cell", "dataset"):
        assert ran.json[key] == trained[key]
    assert ran.json["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert ran.json["images_per_second"] > 0
    assert read_record(Path("run/evaluation.json")) == ran.json
    assert ran.next == [f"nascli detect --backbone {ran.json['run']}"]


@pytest.mark.parametrize("engine", ["auto", "folded"])
def test_a_faster_engine_finds_the_same(nascli: Nascli, trained: dict[str, object], engine: str) -> None:
    values = nascli(f"evaluate run --engine {engine} --device cpu --out found --json").json
    assert (values["engine"], values["precision"]) == ("openvino" if engine == "auto" else engine, "float32")
    assert values["top1"] == trained["top1"]
    assert values["loss"] == pytest.approx(trained["loss"], rel=1e-4)


@pytest.mark.usefixtures("trained")
def test_graphs_are_for_the_network_as_it_was_trained_unless_its_recipe_refuses(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[float, bool]]()

    def choose(forward: Forward, batches: float, run: Run, *, allowed: bool) -> Forward:
        asked.append((batches, allowed))
        return forward

    monkeypatch.setattr(evaluation, "choose_forward", choose)
    for options in ("--batch-size 9", "--batch-size 9 --flip", "--batch-size 9 --engine folded"):
        assert nascli(f"evaluate run {options}").code == 0
    record = read_record(Path("run/run.json"))
    record["recipe"]["train"]["graphs"] = False
    write_record(Path("run/run.json"), record)
    assert nascli("evaluate run --batch-size 9").code == 0
    assert asked == [(2.0, True), (4.0, True), (2.0, False), (2.0, False)]


def test_the_table_goes_to_stdout_and_the_file_where_it_is_asked(nascli: Nascli, trained: dict[str, object]) -> None:
    ran = nascli("evaluate run --out scores/first --batch-size 5")
    assert f"{trained['top1']:.2%}" in ran.out
    assert json.loads(Path("scores/first/evaluation.json").read_text())["batch_size"] == 5
    assert not Path("run/evaluation.json").exists()


@pytest.mark.usefixtures("trained")
def test_another_data_set_with_the_same_classes_is_normalized_as_in_training(nascli: Nascli) -> None:
    write_images(Path("larger"), size=12)
    bright = nascli("evaluate run --dataset folder:larger --json")
    assert bright.code == 0, bright.err
    assert bright.json["dataset"] == "folder:larger"
    assert bright.json["images"] == 18
    shutil.copytree("images", "again")
    shutil.rmtree("again/train")
    write_images(Path("dark"), count=2)
    shutil.copytree("dark/train", "again/train")  # other training images, the same test images
    assert nascli("evaluate run --dataset folder:again --json").json["loss"] == pytest.approx(
        nascli("evaluate run --json").json["loss"], rel=1e-6
    )


@pytest.mark.usefixtures("trained")
def test_network_and_weights_alone_are_enough_with_a_data_set(nascli: Nascli) -> None:
    Path("bare").mkdir()
    for name in ("network.json", "weights.safetensors"):
        shutil.copy(f"run/{name}", f"bare/{name}")
    ran = nascli("evaluate bare")
    assert ran.code == 2
    assert "Give --dataset" in ran.err
    assert nascli("evaluate bare --dataset folder:images").code == 0


@pytest.mark.usefixtures("trained")
def test_a_network_without_class_names_takes_as_many_classes_whatever_they_are_called(nascli: Nascli) -> None:
    Path("bare").mkdir()
    for name in ("network.json", "weights.safetensors"):
        shutil.copy(f"run/{name}", f"bare/{name}")
    edit_network("bare", class_names=None)
    write_large_images(Path("wnids"), ("n01440764", "n01443537", "n01484850"))
    ran = nascli("evaluate bare --dataset folder:wnids --json")
    assert ran.code == 0, ran.err
    assert (ran.json["classes"], ran.json["classes_in_images"]) == (3, 3)
    write_large_images(Path("two"), ("cat", "cow"))
    ran = nascli("evaluate bare --dataset folder:two")
    assert ran.code == 2
    assert "bare was trained for 3 classes, data set folder:two has 2" in ran.err
    assert "sorted names stand in the order of the network's outputs" in " ".join(ran.err.split())


@pytest.mark.usefixtures("trained")
def test_classes_confusions_and_calibration_are_those_of_the_answers(nascli: Nascli) -> None:
    ran = nascli("evaluate run --json").json
    images, labels = known_images()
    sure, answered = answers("run", images).max(dim=1)
    matrix = confusion_matrix(labels, answered, labels=[0, 1, 2])
    assert ran["confusion_matrix"] == matrix.tolist()
    assert [(each["name"], each["images"], each["correct"]) for each in ran["per_class"]] == [
        (name, 6, matrix[label, label]) for label, name in enumerate(("cat", "cow", "dog"))
    ]
    assert ran["per_class"][0]["top1"] == matrix[0, 0] / 6
    rows, error = ran["reliability"], 0.0
    for row in rows:
        inside = (sure > row["above"]) & (sure <= row["to"])
        assert row["images"] == inside.sum()
        error += abs(float((labels == answered)[inside].sum() - sure[inside].sum())) / 18
    assert len(rows) == 15
    assert ran["calibration_error"] == pytest.approx(error, abs=1e-6)
    assert ran["params"] == json.loads(Path("run/run.json").read_text())["results"]["params"]
    assert (ran["confusion_figure"], ran["confusion_file"]) == ("confusion.png", None)
    with Image.open("run/confusion.png") as figure:
        assert figure.format == "PNG"
    shown = nascli("evaluate run").out
    for phrase in ("calibration error", "most often taken for", "the image alone", "run/confusion.png"):
        assert phrase in shown


@pytest.mark.usefixtures("trained")
def test_several_runs_stand_in_one_table(nascli: Nascli) -> None:
    shutil.copytree("run", "other")
    edit_network("other", mean=[0.1, 0.1, 0.1])
    ran = nascli("evaluate run other --json")
    assert ran.code == 0, ran.err
    first, second = ran.json["runs"]
    assert (first["run"], second["run"]) == ("run", "other")
    assert first["loss"] != second["loss"]
    for results in (first, second):
        assert read_record(Path(results["run"], "evaluation.json")) == results
    best = max((first, second), key=lambda results: float(results["top1"]))
    assert ran.next == [f"nascli detect --backbone {best['run']}"]
    lines = nascli("evaluate run other ./run --flip").out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["run", "run", "other"]  # columns, then each run once
    for title in ("cell", "params", "top-1", "top-5", "loss", "ECE", "images/s"):
        assert title in lines[1]
    assert any("the image and its mirror image" in line for line in lines)
    assert "data set" not in lines[1]


@pytest.mark.usefixtures("trained")
def test_runs_of_the_same_name_are_told_apart_by_their_folders(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for folder in ("a/run", "b/run", "b/other"):
        shutil.copytree("run", folder)
    lines = nascli("evaluate a/run b/run b/other").out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["a/run", "b/run", "other"]


@pytest.mark.usefixtures("trained")
def test_images_that_several_networks_see_alike_are_loaded_once(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "third"):
        shutil.copytree("run", name)
    edit_network("second", preprocessing={"crop": 0.5})
    loaded: list[str] = []

    def count_loads(config: DataConfig, *size: Any, **how: Any) -> ImageData:  # noqa: ANN401
        loaded.append(config.dataset)
        return load_dataset(config, *size, **how)

    monkeypatch.setattr("nascli.classify.evaluate.load_dataset", count_loads)
    first, _, third = nascli("evaluate run second third --json").json["runs"]
    assert loaded == ["folder:images"] * 2
    assert (first["run"], third["run"]) == ("run", "third")
    assert first["loss"] == third["loss"]


@pytest.mark.usefixtures("trained")
def test_all_runs_are_looked_at_before_the_first_is_measured(nascli: Nascli) -> None:
    shutil.copytree("run", "unfinished")
    Path("unfinished/weights.safetensors").unlink()
    ran = nascli("evaluate run unfinished")
    assert ran.code == 2
    assert "unfinished: there are no weights yet" in ran.err
    assert not Path("run/evaluation.json").exists()


def test_many_classes_have_a_file_of_counts_in_place_of_a_figure(nascli: Nascli) -> None:
    names = tuple(f"kind {k:03}" for k in range(101))
    for part in ("train", "val"):
        for k, name in enumerate(names):
            Path("many", part, name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (2 * k, 0, 255 - k)).save(Path("many", part, name, "0.png"))
    spec = make_spec(classes=101, aux_head=False)
    Path("large").mkdir()
    write_network(Path("large/network.json"), spec)
    torch.manual_seed(0)
    save_weights(Path("large/weights.safetensors"), build(spec))
    ran = nascli("evaluate large --dataset folder:many --json").json
    assert (ran["confusion_matrix"], ran["confusion_figure"], ran["confusion_file"]) == (None, None, "confusion.csv")
    assert not Path("large/confusion.png").exists()
    head, *rows = csv.reader(Path("large/confusion.csv").read_text().splitlines())
    assert head == ["true class", *names]
    assert [row[0] for row in rows] == list(names)
    assert all(sum(map(int, row[1:])) == 1 for row in rows)
    assert sum(int(row[1 + k]) for k, row in enumerate(rows)) == sum(each["correct"] for each in ran["per_class"])
    shown = nascli("evaluate large --dataset folder:many").out
    assert "the 10 classes with the lowest top-1" in shown
    assert "large/confusion.csv" in shown
