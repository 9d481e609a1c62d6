"""`nascli evaluate`: the number that training reached, again, from the files alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nascli as package
from nascli.artifacts import create_run
from nascli.config import SearchRecipe
from nascli.training.job import reopen_job
from tests.cli.pictures import SETTINGS, Nascli, prepare, write_pictures

OURS = {"resize": "shorter_side", "crop": 0.875, "interpolation": "bilinear"}


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


def edit_network(folder: str, **changes: object) -> None:
    """Set fields of network.json; None removes one."""
    path = Path(folder, "network.json")
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def write_photos(folder: Path, names: tuple[str, ...] = ("cat", "cow", "dog")) -> list[tuple[Path, int]]:
    """Files too large and too different to be held in memory: one a class to train on, two to test on."""
    noise, tested = np.random.default_rng(0), []
    for label, name in enumerate(names):
        for part, sizes in (("train", [(120, 100)]), ("val", [(130, 100), (100, 140)])):
            (folder / part / name).mkdir(parents=True)
            for k, (width, height) in enumerate(sizes):
                path = folder / part / name / f"{k}.png"
                pixels = noise.integers(0, 120, (height, width, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(path)
                if part == "val":
                    tested.append((path, label))
    return tested


def loss_by_hand(folder: str, files: list[tuple[Path, int]], length: float, method: Image.Resampling) -> float:
    """Resize the shorter side to `length`, cut 8 pixels out of the middle, normalise, classify."""
    images = []
    for path, _ in files:
        picture = Image.open(path)
        factor = length / min(picture.size)
        width, height = (int(side * factor) for side in picture.size)
        left, top = round((width - 8) / 2), round((height - 8) / 2)
        cut = picture.resize((width, height), method).crop((left, top, left + 8, top + 8))
        images.append(torch.from_numpy(np.array(cut)).permute(2, 0, 1) / 255)
    spec = json.loads(Path(folder, "network.json").read_text())
    mean, std = (torch.tensor(spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits = package.load_network(folder)((torch.stack(images) - mean) / std)
    return float(F.cross_entropy(logits, torch.tensor([label for _, label in files])))


@pytest.mark.usefixtures("trained")
def test_images_are_prepared_as_the_network_says(nascli: Nascli) -> None:
    files = write_photos(Path("photos"))
    losses = {}
    for name, said, length, method in (
        ("before", None, 9, Image.Resampling.BILINEAR),  # a file of an earlier version; 8 / 0.875 = 9
        ("ours", OURS, 9, Image.Resampling.BILINEAR),
        ("other", {"resize": "shorter_side", "crop": 0.4, "interpolation": "bicubic"}, 20, Image.Resampling.BICUBIC),
    ):
        edit_network("run", preprocessing=said)
        ran = nascli("evaluate run --dataset folder:photos --json")
        assert ran.code == 0, ran.err
        losses[name] = ran.json["loss"]
        assert losses[name] == pytest.approx(loss_by_hand("run", files, length, method), rel=1e-5)
        used = ran.json["preprocessing"]
        assert {key: used.pop(key) for key in ("resize", "crop", "interpolation")} == (said or OURS)
        assert used["image_size"] == 8
        assert used["mean"] == json.loads(Path("run/network.json").read_text())["mean"]
        assert json.loads(Path("run/evaluation.json").read_text()) == ran.json
    assert losses["before"] == losses["ours"] != losses["other"]
    assert "8 px, central crop 0.4, bicubic" in nascli("evaluate run --dataset folder:photos").out


@pytest.mark.usefixtures("trained")
def test_images_in_memory_are_taken_whole_whatever_the_network_says(nascli: Nascli) -> None:
    plain = nascli("evaluate run --json").json
    edit_network("run", preprocessing={"crop": 0.5, "interpolation": "bicubic"})
    ran = nascli("evaluate run --json").json
    assert ran["loss"] == plain["loss"]
    assert ran["preprocessing"] == plain["preprocessing"]
    assert (ran["preprocessing"]["crop"], ran["preprocessing"]["resize"]) == (1, "both_sides")
    assert "8 px, whole, bilinear" in nascli("evaluate run").out


@pytest.mark.usefixtures("trained")
def test_preprocessing_is_no_part_of_what_a_checkpoint_belongs_to() -> None:
    before = reopen_job(Path("run"), None, torch.device("cpu")).identity
    edit_network("run", preprocessing={"crop": 0.5})
    assert reopen_job(Path("run"), None, torch.device("cpu")).identity == before


@pytest.mark.usefixtures("trained")
def test_a_network_without_class_names_takes_as_many_classes_whatever_they_are_called(nascli: Nascli) -> None:
    Path("bare").mkdir()
    for name in ("network.json", "weights.safetensors"):
        shutil.copy(f"run/{name}", f"bare/{name}")
    edit_network("bare", class_names=None)
    write_photos(Path("wnids"), ("n01440764", "n01443537", "n01484850"))
    ran = nascli("evaluate bare --dataset folder:wnids --json")
    assert ran.code == 0, ran.err
    assert (ran.json["classes"], ran.json["classes_in_images"]) == (3, 3)
    write_photos(Path("two"), ("cat", "cow"))
    ran = nascli("evaluate bare --dataset folder:two")
    assert ran.code == 2
    assert "bare was trained for 3 classes, data set folder:two has 2" in ran.err
    assert "sorted names stand in the order of the network's outputs" in " ".join(ran.err.split())


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
    shutil.copytree("run", "odd")
    edit_network("odd", preprocessing={"crop": 2})
    Path("empty").mkdir()
    shutil.copy("run/network.json", "empty")
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
        ("odd", 2, "odd/network.json: preprocessing.crop = 2: input should be less than or equal to 1"),
        ("empty --dataset digits", 2, "empty: there is no weights.safetensors in it. Give a folder that nascli train"),
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
