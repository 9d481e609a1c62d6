"""Image folders as people bring them: what is an image, what is a class, which splits are used."""

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import DETECT, TRAIN, draw_noise, quote, write_classes, write_coco

DATA = Path("data")


@pytest.fixture
def data() -> Path:
    """`data/train/` with 6 cats and 6 dogs, `data/val/` with 3 of each."""
    return write_classes(DATA)


@pytest.fixture
def plan(nascli: Nascli) -> "Plan":
    return Plan(nascli)


class Plan:
    """What would be trained on: images packed, which is quicker than a training, and what is said of the others."""

    def __init__(self, nascli: Nascli) -> None:
        self._nascli = nascli
        self.notes = ""

    def __call__(self, folder: object = DATA, more: str = "") -> tuple[int, int]:
        ran = self._nascli(f"pack {quote(folder)} packed.h5 --overwrite --json {more}")
        assert ran.code == 0, ran.err
        self.notes = ran.err
        return ran.json["train_images"], ran.json["val_images"]

    def refused(self, *words: str, dataset: str = "folder:data", more: str = "") -> None:
        ran = self._nascli(f"{TRAIN} --dataset {quote(dataset)} --dry-run --json {more}")
        assert ran.code == 2, ran.err
        assert "error" in ran.json
        for word in words:
            assert word in " ".join(ran.err.split())


def save(path: Path | str, side: int = 32, **options: Any) -> None:  # noqa: ANN401 - options of Pillow
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_noise(7, size=(side, side)).save(path, **options)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    "path",
    [
        "train/cat/.ipynb_checkpoints/000-checkpoint.png",
        "train/.thumbs/cat/a.png",
        "train/__MACOSX/cat/._000.png",
        "train/cat/._000.png",
        "train/cat/deep/@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg",
        "train/lost+found/a.png",
        "val/$RECYCLE.BIN/a.png",
        ".git/a.png",
    ],
)
def test_hidden_and_service_files_are_no_images(plan: Plan, path: str) -> None:
    save(DATA / path, side=8)
    assert plan() == (12, 6)
    assert "hidden or service file or folder" in plan.notes


@pytest.mark.usefixtures("data")
def test_a_hidden_copy_does_not_change_how_images_are_held(nascli: Nascli) -> None:
    save(DATA / "train/cat/.ipynb_checkpoints/000-checkpoint.png", side=8)
    made = nascli(f"{TRAIN} --dataset folder:data --dry-run --json").json
    assert (made["train_images"], made["image_size"]) == (12, 32)


@pytest.mark.usefixtures("data")
def test_thumbs_and_texts_are_counted_by_kind(plan: Plan) -> None:
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "a.txt", "b.TXT", "labels.csv"):
        (DATA / "train" / "cat" / name).write_bytes(b"\xff\xd8\xff")
    assert plan() == (12, 6)
    assert "3 × hidden or service" in plan.notes
    assert "2 .txt, 1 .csv" in plan.notes


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("target", [".", "..", "../..", "../dog"])
def test_links_in_a_circle(plan: Plan, target: str) -> None:
    (DATA / "train/cat/loop").symlink_to(target)
    assert plan() == (12, 6)
    assert "train/cat/loop leads to" in plan.notes


def test_classes_that_are_links_are_followed(plan: Plan) -> None:
    write_classes(Path("store"))
    for split in ("train", "val"):
        (DATA / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (DATA / split / name).symlink_to(Path("store", split, name).resolve())
    assert plan() == (12, 6)
    (DATA / "val/dog").unlink()
    (DATA / "val/dog").symlink_to(Path("store/train/dog").resolve())  # a leak, and no loop
    assert plan() == (12, 9)
    (DATA / "train/cow").symlink_to("nowhere")
    assert plan() == (12, 9)
    assert "link that leads nowhere" in plan.notes


@pytest.mark.usefixtures("data")
def test_other_endings(plan: Plan) -> None:
    endings = {"a.JFIF": "JPEG", "b.jpe": "JPEG", "c.jp2": "JPEG2000", "d.tga": "TGA", "e.pgm": "PPM", "f.AVIF": "AVIF"}
    for name, kind in endings.items():
        save(DATA / "train/cat" / name, format=kind)
    assert plan() == (18, 6)
    save(DATA / "train/cat/IMG_0001", format="JPEG")  # no ending, and one that a browser made up
    save(DATA / "train/cat/photo.jpg_large", format="JPEG")
    save(DATA / "train/cat/set_aside.unused", format="PNG")
    (DATA / "train/cat/video.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (DATA / "train/cat/scan.dcm").write_bytes(bytes(200))
    assert plan() == (20, 6)
    assert "2 read leniently: image without the ending of one" in plan.notes
    assert "1 .mp4" in plan.notes
    assert "set_aside.unused" in plan.notes
    assert "scan.dcm" in plan.notes
    plan.refused("IMG_0001", more="--strict")


@pytest.mark.usefixtures("data")
def test_loose_images_beside_class_folders(plan: Plan) -> None:
    for k in range(4):
        save(DATA / f"train/unsorted{k}.png")
    assert plan() == (12, 6)
    assert "4 skipped: image in no class folder" in plan.notes
    plan.refused("train/unsorted0.png", more="--strict")


@pytest.mark.parametrize("name", ["valid", "Validation", "dev", "VAL"])
def test_validation_comes_before_test(nascli: Nascli, plan: Plan, name: str) -> None:
    write_classes(DATA, val=name)
    save(DATA / "Test/cat/000.png")
    assert plan() == (12, 6)
    assert f"6 of {name} to validate on; not used: Test" in plan.notes
    assert plan(more="--val-split test") == (12, 1)
    assert "1 of Test" in plan.notes
    plan.refused("no split 'fold1'", name, more="--val-split fold1")


def test_measured_on_the_split_of_that_name(nascli: Nascli, classifier: str) -> None:
    write_classes(DATA, val="dev")
    save(DATA / "Test/cat/000.png")
    evaluate = f"evaluate {classifier} --device cpu --dataset folder:data --json"
    assert (nascli(evaluate).json["split"], nascli(f"{evaluate} --val-split test").json["images"]) == ("dev", 1)


def test_train_in_other_words(plan: Plan) -> None:
    write_classes(DATA, val="Testing")
    (DATA / "train").rename(DATA / "Training")
    assert plan() == (12, 6)
    write_classes(Path("more"), val="val")
    shutil.copytree("more/train", "more/Train")
    plan.refused("Train", "train", dataset="folder:more")


def test_images_of_a_split_in_no_class_folders(plan: Plan) -> None:
    write_classes(DATA, val="val")
    for path in [*DATA.glob("val/*/*.png")]:
        path.rename(DATA / "val" / f"{path.parent.name}_{path.name}")
        if not [*path.parent.iterdir()]:
            path.parent.rmdir()
    plan.refused("6 images lie in data/val itself", "--val-fraction 0.2")
    assert plan(more="--val-fraction 0.5") == (6, 6)
    shutil.copytree(DATA / "train", DATA / "test")
    plan.refused("--val-split test")
    assert plan(more="--val-split test") == (12, 12)


def test_a_part_of_each_class_is_held_out(nascli: Nascli, plan: Plan) -> None:
    flat = write_classes(Path("all"), counts=(10, 1)) / "train"
    flat = flat.rename("flat")
    plan.refused("--val-fraction 0.2", dataset="folder:flat")
    assert plan("flat", "--val-fraction 0.2") == (16, 4)
    assert "4 held out to validate on" in plan.notes
    assert nascli(f"{TRAIN} --dataset ./flat --val-fraction 0.2 --out run --json").code == 0
    again = nascli("evaluate run --device cpu --dataset folder:flat --json").json
    assert (again["images"], again["split"]) == (4, "held-out")  # under another name, what was trained on stays out
    assert nascli(f"evaluate run --device cpu --dataset folder:{flat.rename('new')} --json").json["images"] == 20
    plan.refused("exclude each other", dataset="folder:new", more="--val-fraction 0.2 --val-split cat")
    write_classes(DATA)
    assert "val to validate on" in nascli("pack data held.h5 --val-fraction 0.2").err
    assert nascli("search --dataset digits --val-fraction 0.2 --dry-run").code == 2


def test_one_image_per_class(nascli: Nascli, plan: Plan) -> None:
    write_classes(DATA, counts=(1, 1))
    assert plan() == (2, 2)
    (DATA / "val").rename("val")
    plan.refused("one image", more="--val-fraction 0.2")
    Path("val").rename(DATA / "val")
    ran = nascli("search --dataset folder:data --trials 1 --device cpu --dry-run")
    assert ran.code == 2
    assert "none can be held out" in ran.err


@pytest.mark.parametrize("place", ["export", "export/export", "download/data set"])
def test_some_levels_too_high(plan: Plan, place: str) -> None:
    write_classes(DATA / place)
    (DATA / "__MACOSX/export").mkdir(parents=True)
    (DATA / "docs").mkdir()
    assert plan() == (12, 6)
    assert "read leniently: data set in a folder of the one given" in plan.notes
    plan.refused(place.split("/")[0], more="--strict")


def test_a_level_too_high_without_splits_and_inside_of_them(plan: Plan) -> None:
    write_classes(DATA)
    for split in ("train", "val"):
        (DATA / split).rename(split)
        Path(split).rename((DATA / split).parent / "moved")
        (DATA / split).mkdir()
        (DATA / "moved").rename(DATA / split / "images by class")
    assert plan() == (12, 6)
    assert "class folders one level deeper" in plan.notes
    assert plan("data/train", "--val-fraction 0.5") == (6, 6)


def test_several_data_sets_in_one_folder(plan: Plan) -> None:
    for name in ("fold1", "fold2"):
        write_classes(DATA / name)
    plan.refused("'data/fold1', 'data/fold2'")
    assert plan("data/fold2") == (12, 6)


def test_classes_beside_another_data_set(plan: Plan) -> None:
    write_classes(Path("all"))
    Path("all/train").rename(DATA)
    write_classes(DATA / "old")
    plan.refused("'cat', 'dog'", "data/old", more="--val-fraction 0.5")


@pytest.mark.parametrize("place", ["runs/train/20260101-first", "mine"])
def test_runs_among_class_folders(nascli: Nascli, plan: Plan, place: str) -> None:
    write_classes(Path("all"))
    Path("all/train").rename(DATA)
    run = DATA / place
    save(run / "confusion.png")
    (run / "run.json").write_text("{}")
    if run.parent != DATA:
        (run.parent / "latest").symlink_to(run.name)
    assert plan(more="--val-fraction 0.5") == (6, 6)
    assert "folder of results of nascli" in plan.notes


def test_a_class_may_be_called_train(plan: Plan) -> None:
    write_classes(Path("all"), ("bus", "car", "train"))
    Path("all/train").rename(DATA)
    assert plan(more="--val-fraction 0.5") == (9, 9)


@pytest.mark.usefixtures("data")
def test_a_split_given_as_the_data_set(plan: Plan) -> None:
    plan.refused("val lies beside it", "folder:", dataset="folder:data/train")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/train/ant", ["data/train/ant", "no images"]),
        ("data/train/phone/IMG.HEIC", ["IMG.HEIC", "pillow-heif"]),
        ("data/train/notes/a.txt", ["1 .txt", "remove the folder"]),
        ("data/val/cow/a.png", ["'cow'", "data/val"]),
        ("data/val/Cat/a.png", ["'Cat'", "Is 'Cat' the class 'cat'?"]),
    ],
)
@pytest.mark.usefixtures("data")
def test_classes_that_do_not_fit(plan: Plan, path: str, words: list[str]) -> None:
    if path.endswith("png"):
        save(path)
    elif Path(path).suffix:
        Path(path).parent.mkdir()
        Path(path).write_bytes(b"x")
    else:
        Path(path).mkdir()
    plan.refused(*words)


@pytest.mark.usefixtures("data")
def test_remarks_about_classes(plan: Plan) -> None:
    shutil.rmtree(DATA / "val/dog")
    for name in ("Cat", "10", "9"):
        shutil.copytree(DATA / "train/cat", DATA / "train" / name)
    (DATA / "val/empty").mkdir()
    assert plan() == (30, 3)
    assert "4 × class without validation images" in plan.notes
    assert "'Cat' and 'cat'" in plan.notes


def test_one_name_in_two_unicode_forms(nascli: Nascli, plan: Plan) -> None:
    write_classes(DATA, ("café", "dog"))
    (DATA / "val/café").rename(DATA / "val" / unicodedata.normalize("NFD", "café"))
    assert plan() == (12, 6)
    assert "read leniently: class name in another Unicode form" in plan.notes
    plan.refused("café", more="--strict")
    for path in [*DATA.glob("train/café/00[0-2].png")]:  # in one split, too
        other = DATA / "train" / unicodedata.normalize("NFD", "café") / path.name
        other.parent.mkdir(exist_ok=True)
        path.rename(other)
    assert plan() == (12, 6)
    save(DATA / "test/dog/000.png")
    assert nascli(f"{TRAIN} --dataset folder:data --out run").code == 0
    assert json.loads(Path("run/network.json").read_text())["class_names"] == ["café", "dog"]
    record = json.loads(Path("run/run.json").read_text())
    assert [each["outcome"] for each in record["issues"]] == ["lenient"]
    assert (record["val_split"], record["unused_splits"]) == ("val", ["test"])
    assert nascli("evaluate run --device cpu --json").json["classes_in_images"] == 2


def test_names_that_are_not_utf8(nascli: Nascli) -> None:
    write_classes(DATA)
    for split in ("train", "val"):
        os.rename(DATA / split / "cat", os.fsencode(DATA / split) + b"/caf\xe9")
    Path(DATA / "train/dog/000.png").rename(os.fsdecode(b"data/train/dog/\xe9.png"))
    ran = nascli(f"{TRAIN} --dataset folder:data --out run")
    assert ran.code == 0, ran.err
    assert nascli("pack data data.h5").code == 0
    measured = nascli("evaluate run --device cpu --dataset pack:data.h5 --json").json
    assert (measured["images"], measured["per_class"][0]["name"]) == (6, "caf\\xe9")


@pytest.mark.parametrize("archive", ["data.zip", "data.tar", "data.tar.gz", "data.tgz", "data.7z", "data.rar"])
def test_an_archive_in_place_of_a_folder(plan: Plan, nascli: Nascli, archive: str) -> None:
    Path(archive).write_bytes(b"PK\x03\x04")
    for dataset in (f"folder:{archive}", archive):
        plan.refused(archive, "Unpack it by", dataset=dataset)
    assert nascli(f"pack {archive} data.h5").code == 2


def test_nothing_there(plan: Plan) -> None:
    plan.refused("no such folder", dataset="folder:gone")
    DATA.symlink_to("gone")
    plan.refused("leads nowhere")
    DATA.unlink()
    DATA.mkdir()
    plan.refused("no images")
    Path("labels.csv").write_text("file_name,label\n")
    plan.refused("csv:labels.csv", dataset="folder:labels.csv")
    save("image.png")
    plan.refused("PNG image", dataset="image.png")
    for k in range(3):
        save(DATA / f"{k}.png")
    plan.refused("3 images lie in data itself", "class folders")


@pytest.mark.parametrize("layout", ["val", "test", "classes"])
def test_measured_without_training_images(nascli: Nascli, classifier: str, layout: str) -> None:
    write_classes(Path("all"))
    new = Path("new")
    if layout == "classes":
        Path("all/val").rename(new)
    else:
        new.mkdir()
        Path("all/val").rename(new / layout)
    ran = nascli(f"evaluate {classifier} --device cpu --dataset folder:new --json")
    assert ran.code == 0, ran.err
    assert (ran.json["images"], ran.json["split"]) == (6, "all" if layout == "classes" else layout)


def test_classes_are_matched_by_name(nascli: Nascli, classifier: str) -> None:
    write_classes(Path("all"), ("dog",))
    Path("all/val").rename("new")
    ran = nascli(f"evaluate {classifier} --device cpu --dataset ./new --json")
    assert ran.code == 0, ran.err
    assert [each["images"] for each in ran.json["per_class"]] == [0, 3]
    save("new/cow/a.png")
    ran = nascli(f"evaluate {classifier} --device cpu --dataset folder:new")
    assert ran.code == 2
    assert "'cow'" in ran.err


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("dataset", ["./data", "folder:data", "digits"])
def test_classes_given_to_a_detector_are_named(nascli: Nascli, dataset: str) -> None:
    ran = nascli(f"{DETECT} --dataset {dataset} --dry-run")
    assert ran.code == 2
    assert f"nascli train --dataset {dataset.replace('./', 'folder:')} takes it" in ran.err


def test_other_wrong_layouts(plan: Plan) -> None:
    files = [*write_classes(Path("all")).glob("*/*/*.png")]
    for file in files:
        _, split, name, image = file.parts
        for target in (Path("turned", name, split, image), Path("windows", f"{split}\\{name}\\{image}")):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    plan.refused("turned/cat/train", "turned/train/cat", dataset="folder:turned")
    plan.refused("18 images", "backslashes", dataset="folder:windows")
    Path("rows/data").mkdir(parents=True)
    Path("rows/data/train-00000.parquet").write_bytes(b"PAR1")
    plan.refused("1 .parquet", dataset="rows")
    shutil.copytree("all/train/cat", "one/cat")
    plan.refused("one class folder, 'cat'", dataset="folder:one")


def test_a_data_set_of_boxes_is_named(plan: Plan) -> None:
    write_coco(Path("coco"))
    for dataset in ("folder:coco", "./coco", "coco:coco"):
        plan.refused("nascli detect train --dataset coco:coco", dataset=dataset)
    for split in ("train", "valid"):
        for kind in ("images", "labels"):
            Path("yolo", split, kind).mkdir(parents=True)
        save(Path("yolo", split, "images/a.png"))
        Path("yolo", split, "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    Path("yolo/data.yaml").write_text("train: train/images\nval: valid/images\nnc: 1\nnames: [cat]\n")
    for dataset in ("folder:yolo", "yolo"):
        plan.refused("nascli detect train --dataset yolo:yolo", dataset=dataset)


def test_packed_as_it_is_trained_on(nascli: Nascli, plan: Plan) -> None:
    write_classes(DATA / "export", val="valid")
    save(DATA / "export/train/loose.png")
    ran = nascli("pack data data.h5 --json")
    assert ran.code == 0, ran.err
    assert (ran.json["train_images"], ran.json["val_images"], ran.json["val_name"]) == (12, 6, "valid")
    assert {each["kind"] for each in ran.json["issues"]} == {
        "image in no class folder",
        "data set in a folder of the one given",
    }
    made = nascli(f"{TRAIN} --dataset data.h5 --dry-run --json")
    assert (made.json["train_images"], made.json["val_split"]) == (12, "valid")
    assert "6 of valid to validate on" in made.err
    assert nascli("pack data/export/train flat.h5 --val-fraction 0.5").code == 0
    plan.refused("splits of its own", dataset="pack:flat.h5", more="--val-split test")
