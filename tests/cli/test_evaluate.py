"""`nascli evaluate`: the number that training reached, again, from the files alone."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import confusion_matrix

import nascli as package
from nascli.artifacts import create_run
from nascli.config import SearchRecipe
from nascli.models.folders import save_weights
from nascli.models.network import Network
from nascli.models.spec import write_network
from nascli.training.job import reopen_job
from tests.cli.pictures import SETTINGS, Nascli, prepare, write_pictures
from tests.training.tiny import make_spec

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


def answers(folder: str, images: torch.Tensor) -> torch.Tensor:
    """The probabilities that a network gives bytes (N, 3, H, W)."""
    spec = json.loads(Path(folder, "network.json").read_text())
    mean, std = (torch.tensor(spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits: torch.Tensor = package.load_network(folder)((images / 255 - mean) / std)
    return logits.softmax(dim=1)


def known_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The test images of `pictures/` and their labels."""
    files = [(path, label) for label, name in enumerate(("cat", "cow", "dog")) for path in folder_files(name)]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path, _ in files])
    return images, torch.tensor([label for _, label in files])


def folder_files(name: str) -> list[Path]:
    return sorted(Path("pictures/val", name).iterdir())


@pytest.mark.usefixtures("trained")
def test_classes_confusions_and_calibration_are_those_of_the_answers(nascli: Nascli) -> None:
    ran = nascli("evaluate run --json").json
    images, labels = known_images()
    sure, answered = answers("run", images).max(dim=1)
    matrix = confusion_matrix(labels, answered, labels=[0, 1, 2])
    assert ran["confusion_matrix"] == matrix.tolist()
    assert [(each["name"], each["images"], each["right"]) for each in ran["per_class"]] == [
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
    assert (ran["confusion_picture"], ran["confusion_file"]) == ("confusion.png", None)
    with Image.open("run/confusion.png") as picture:
        assert picture.format == "PNG"
    shown = nascli("evaluate run").out
    for phrase in ("calibration error", "most often taken for", "the image alone", "run/confusion.png"):
        assert phrase in shown


@pytest.mark.usefixtures("trained")
def test_views_are_averaged_only_when_asked_for_and_said(nascli: Nascli) -> None:
    images, labels = known_images()
    plain, mirrored = answers("run", images), answers("run", images.flip(3))
    padded = F.pad(images, [1] * 4)
    corners = [padded[:, :, y : y + 8, x : x + 8] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    for options, mean, phrase in (
        ("", plain, "the image alone"),
        ("--flip", (plain + mirrored) / 2, "the image and its mirror image"),
        (
            "--crops 5",
            torch.stack([answers("run", view) for view in corners]).mean(dim=0),
            "5 views: four corners and centre of 10 px, 1 of them zeros on each side",
        ),
        (
            "--crops 10",
            torch.stack([answers("run", each) for view in corners for each in (view, view.flip(3))]).mean(dim=0),
            "10 views: four corners and centre of 10 px, 1 of them zeros on each side, mirrored too",
        ),
    ):
        ran = nascli(f"evaluate run {options} --batch-size 7 --json").json
        assert ran["loss"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), rel=1e-4)
        assert ran["top1"] == pytest.approx(float((mean.argmax(dim=1) == labels).double().mean()))
        assert phrase in " ".join(nascli(f"evaluate run {options}").out.split())
    assert ran["views"] == {"count": 10, "image_size": 8, "crops": 5, "flip": True, "padding": 1, "cut_from": 10}


@pytest.mark.usefixtures("trained")
def test_corners_of_larger_images_are_cut_from_what_the_crop_leaves_out(nascli: Nascli) -> None:
    files = write_photos(Path("photos"))
    edit_network("run", preprocessing={"crop": 0.8})
    squares = []
    for path, _ in files:
        picture = Image.open(path)
        factor = 10 / min(picture.size)
        width, height = (int(side * factor) for side in picture.size)
        left, top = round((width - 10) / 2), round((height - 10) / 2)
        cut = picture.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 10, top + 10))
        squares.append(torch.from_numpy(np.array(cut)).permute(2, 0, 1))
    square, labels = torch.stack(squares), torch.tensor([label for _, label in files])
    corners = [square[:, :, y : y + 8, x : x + 8] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    mean = torch.stack([answers("run", view) for view in corners]).mean(dim=0)
    ran = nascli("evaluate run --dataset folder:photos --crops 5 --json").json
    assert ran["loss"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), rel=1e-4)
    assert ran["views"]["cut_from"] == 10
    assert ran["preprocessing"]["crop"] == 0.8


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
        assert json.loads(Path(results["run"], "evaluation.json").read_text()) == results
    best = max((first, second), key=lambda results: float(results["top1"]))
    assert ran.next == [f"nascli detect --backbone {best['run']}"]
    lines = nascli("evaluate run other ./run --flip").out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["run", "run", "other"]  # columns, then each run once
    for title in ("cell", "params", "top-1", "top-5", "loss", "ECE", "images/s"):
        assert title in lines[1]
    assert any("the image and its mirror image" in line for line in lines)
    assert "data set" not in lines[1]


@pytest.mark.usefixtures("trained")
def test_all_runs_are_looked_at_before_the_first_is_measured(nascli: Nascli) -> None:
    shutil.copytree("run", "unfinished")
    Path("unfinished/weights.safetensors").unlink()
    ran = nascli("evaluate run unfinished")
    assert ran.code == 2
    assert "unfinished: there are no weights yet" in ran.err
    assert not Path("run/evaluation.json").exists()


def test_many_classes_have_a_file_of_counts_in_place_of_a_picture(nascli: Nascli) -> None:
    names = tuple(f"kind {k:03}" for k in range(101))
    for part in ("train", "val"):
        for k, name in enumerate(names):
            Path("many", part, name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (2 * k, 0, 255 - k)).save(Path("many", part, name, "0.png"))
    spec = make_spec(classes=101, aux_head=False)
    Path("large").mkdir()
    write_network(Path("large/network.json"), spec)
    torch.manual_seed(0)
    save_weights(Path("large/weights.safetensors"), Network(spec))
    ran = nascli("evaluate large --dataset folder:many --json").json
    assert (ran["confusion_matrix"], ran["confusion_picture"], ran["confusion_file"]) == (None, None, "confusion.csv")
    assert not Path("large/confusion.png").exists()
    head, *rows = csv.reader(Path("large/confusion.csv").read_text().splitlines())
    assert head == ["true class", *names]
    assert [row[0] for row in rows] == list(names)
    assert all(sum(map(int, row[1:])) == 1 for row in rows)
    assert sum(int(row[1 + k]) for k, row in enumerate(rows)) == sum(each["right"] for each in ran["per_class"])
    shown = nascli("evaluate large --dataset folder:many").out
    assert "the 10 classes with the lowest top-1" in shown
    assert "large/confusion.csv" in shown


@pytest.mark.usefixtures("trained")
def test_a_persons_own_images_are_named_without_the_data_set(nascli: Nascli) -> None:
    files = write_photos(Path("photos"))
    paths = [path for path, _ in files]
    shutil.rmtree("pictures")
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
    assert -np.log(true) == pytest.approx(loss_by_hand("run", files[:1], 9, Image.Resampling.BILINEAR), rel=1e-4)
    assert not Path("run/evaluation.json").exists()
    assert ran.next == ["nascli evaluate run"]
    shown = nascli(f"evaluate run --predict {paths[0]} --flip").out
    first = named[0]["classes"][0]["name"]
    assert shown.splitlines()[1].split() == ["picture", "likeliest", "second", "third"]
    assert first in shown
    assert "8 px, central crop 0.875, bilinear; averaged over the image and its mirror image" in shown


@pytest.mark.usefixtures("trained")
def test_a_network_without_class_names_gives_numbers(nascli: Nascli) -> None:
    (path, *_), *_ = write_photos(Path("photos"))
    edit_network("run", class_names=None)
    ran = nascli(f"evaluate run --predict {path} --json")
    assert {(guess["label"], guess["name"]) for guess in ran.json["images"][0]["classes"]} == {
        (label, None) for label in range(3)
    }
    row = nascli(f"evaluate run --predict {path}").out.splitlines()[2].split()
    assert set(row[1::2]) == {"0", "1", "2"}


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
    shutil.copytree("run", "bare")
    Path("bare/run.json").unlink()
    write_photos(Path("photos"))
    shutil.copytree("run", "uncropped")
    edit_network("uncropped", preprocessing={"crop": 1})
    torn = Path("photos/val/dog/0.png")
    torn.write_bytes(torn.read_bytes()[:300])
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
        ("run bare --out both", 2, "--out is for one RUN, here are 2"),
        ("run --crops 4", 2, "--crops 4: possible are 1, 5, 10"),
        ("bare --dataset folder:pictures --crops 5", 2, "the training put no zeros around them (data.crop_padding)"),
        ("uncropped --crops 10 --predict photos/val/cat", 2, "the network takes the whole image"),
        ("run --predict photos/val/cat --predict photos/val/dog", 1, "photos/val/dog/0.png"),
        ("run --predict gone.png", 2, "image gone.png: no such file or folder"),
        ("run --predict searched", 2, "searched: there is no picture in this folder"),
        ("run --predict photos/val/cat cow.png", 2, "--predict is for one RUN, here are 2: run, cow.png"),
        ("run --predict photos/val/cat --dataset digits --out x", 2, "--predict excludes --dataset, --out"),
    ],
)
def test_wrong_usage_is_one_line(nascli: Nascli, line: str, code: int, phrase: str) -> None:
    spoil()
    ran = nascli(f"evaluate {line}")
    assert ran.code == code, ran.err
    assert phrase in " ".join(ran.err.split())
    assert ran.out == ""
    assert "Traceback" not in ran.err
