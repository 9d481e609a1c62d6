"""`nascli evaluate`: the number that training reached, again, from the files alone."""

import json
import shutil
from pathlib import Path

import pytest

from nascli.artifacts import create_run
from nascli.config import SearchRecipe
from tests.cli.pictures import SETTINGS, Nascli, prepare, write_pictures


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    prepare()
    return Nascli(capsys)


@pytest.fixture
def trained(nascli: Nascli) -> dict[str, object]:
    """The results of a run in `run/`."""
    ran = nascli(f"train --cell cell.json --dataset folder:pictures {SETTINGS} --out run --json")
    assert ran.code == 0, ran.err
    return dict(ran.json)


def test_it_finds_what_training_found(nascli: Nascli, trained: dict[str, object]) -> None:
    ran = nascli("evaluate run --json")
    assert ran.code == 0, ran.err
    for key in ("top1", "top5", "images", "cell", "dataset"):
        assert ran.json[key] == trained[key]
    assert ran.json["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert ran.json["images_per_second"] > 0
    assert json.loads(Path("run/evaluation.json").read_text()) == ran.json
    assert ran.next == [f"nascli detect --backbone {ran.json['run']}"]


def test_the_table_goes_to_stdout_and_the_file_where_it_is_asked(nascli: Nascli, trained: dict[str, object]) -> None:
    ran = nascli("evaluate run --out scores/first --batch-size 5")
    assert f"{trained['top1']:.2%}" in ran.out
    assert json.loads(Path("scores/first/evaluation.json").read_text())["batch_size"] == 5
    assert not Path("run/evaluation.json").exists()


@pytest.mark.usefixtures("trained")
def test_another_data_set_with_the_same_classes_is_normalised_as_in_training(nascli: Nascli) -> None:
    write_pictures(Path("larger"), size=12)
    bright = nascli("evaluate run --dataset folder:larger --json")
    assert bright.code == 0, bright.err
    assert bright.json["dataset"] == "folder:larger"
    assert bright.json["images"] == 18
    shutil.copytree("pictures", "again")
    shutil.rmtree("again/train")
    write_pictures(Path("dark"), count=2)
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
    assert nascli("evaluate bare --dataset folder:pictures").code == 0


def spoil() -> None:
    """What the wrong usages stumble over."""
    write_pictures(Path("fewer"), names=("cat", "cow"))
    write_pictures(Path("others"), names=("cat", "cow", "pig"))
    for name in ("unfinished", "torn", "mixed", "gap"):
        shutil.copytree("run", name)
    Path("unfinished/weights.safetensors").unlink()
    weights = Path("torn/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    network = Path("mixed/network.json")
    network.write_text(network.read_text().replace('"filters": 4', '"filters": 6'))
    Path("gap/network.json").write_text("{")
    Path("file").touch()
    with create_run("search", "x", SearchRecipe(), runs=Path("runs"), out=Path("searched")):
        pass


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("line", "code", "phrase"),
    [
        ("", 2, "RUN"),
        ("gone", 2, "gone: no such folder. nascli train makes one"),
        ("latest", 2, "nascli train makes one"),
        ("searched", 2, "a run of nascli search, not of nascli train"),
        ("unfinished", 2, "there are no weights yet, the training has not ended. nascli train --resume unfinished"),
        ("torn", 1, "torn/weights.safetensors are damaged"),
        ("mixed", 2, "mixed/weights.safetensors: entry"),
        ("gap", 1, "gap/network.json is not JSON"),
        ("run --dataset digits", 2, "run was trained for 3 classes, data set digits has 10"),
        ("run --dataset folder:fewer", 2, "run was trained for 3 classes, data set folder:fewer has 2"),
        ("run --dataset folder:others", 2, "'dog' as class 2, in data set folder:others that is 'pig'"),
        ("run --dataset folder:gone", 2, "gone: no such folder"),
        ("run --dataset cifra10", 2, "Did you mean cifar10?"),
        ("run --device gpu", 2, "no such device"),
        ("run --batch-size 0", 2, "--batch-size"),
        ("run --out file/deeper", 1, "file/deeper/evaluation.json cannot be written"),
    ],
)
def test_wrong_usage_is_one_line(nascli: Nascli, line: str, code: int, phrase: str) -> None:
    spoil()
    ran = nascli(f"evaluate {line}")
    assert ran.code == code, ran.err
    assert phrase in " ".join(ran.err.split())
    assert ran.out == ""
    assert "Traceback" not in ran.err
