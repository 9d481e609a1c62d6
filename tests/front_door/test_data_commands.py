"""`nascli data`: whole data sets checked, shown, converted and divided, in both tasks."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nascli.data.audit.duplicates import Fingerprint, find_duplicates, take_fingerprint
from tests.cli.program import Nascli
from tests.front_door.exports import write_csv, write_voc, write_yolo
from tests.front_door.made import DETECT, TRAIN, Lists, draw_noise, write_classes, write_coco
from tests.front_door.test_formats import issues

WRITERS: dict[str, Callable[[Path], Any]] = {
    "folder": write_classes,
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "csv": write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_path_alone_is_checked_as_what_it_is(nascli: Nascli, name: str) -> None:
    written = WRITERS[name](Path("data"))
    checked = nascli(f"data check {written} --json")
    assert checked.code in (0, 3), checked.err
    assert checked.json["dataset"] == f"{name}:{written}"
    assert checked.json["task"] == ("classify" if name == "folder" else "detect")
    assert checked.json["splits"][0]["sizes"]["width"][0] in (32, 64)


def test_nothing_to_remark_is_exit_code_0(nascli: Nascli) -> None:
    checked = nascli(f"data check {write_classes(Path('data'))} --json")
    assert (checked.code, issues(checked.json)) == (0, {})
    assert [(each["split"], each["classes"]) for each in checked.json["splits"]] == [
        ("train", {"cat": 6, "dog": 6}),
        ("val", {"cat": 3, "dog": 3}),
    ]


def test_copies_and_leaks_of_classes(nascli: Nascli) -> None:
    data = write_classes(Path("data"))
    shutil.copy(data / "train/cat/000.png", data / "val/cat/leaked.png")
    shutil.copy(data / "train/cat/001.png", data / "train/dog/copy.png")
    blurred = draw_noise(5, size=(6, 6)).resize((48, 48), Image.Resampling.BICUBIC)
    blurred.save(data / "train/dog/blurred.png")
    blurred.resize((40, 40)).save(data / "val/dog/other.jpg", quality=80)
    checked = nascli(f"data check {data} --json --out page")
    assert checked.code == 3
    kinds = [
        "image of both splits",
        "image more than once",
        "image in two classes",
        "nearly the same image of both splits",
    ]
    assert issues(checked.json) == dict.fromkeys(kinds, 1)
    assert len(checked.json["duplicates"]) == 3
    page = Path(checked.json["page"]).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") > 6
    assert "data/val/dog/other.jpg" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert issues(nascli(f"data check {data} --json --quick").json) == {}


def test_copies_and_odd_boxes_of_a_detector(nascli: Nascli) -> None:
    data = write_yolo(Path("data"))
    shutil.copy(data / "train/images/train-0.jpg", data / "valid/images/valid-9.jpg")
    (data / "valid/labels/valid-9.txt").write_text("0 0.5 0.5 1 1\n0 0.5 0.5 0.9 0.02\n")
    met = issues(nascli(f"data check {data} --json --out page").json)
    for kind in ("image of both splits", "box around the whole image", "box very long and thin"):
        assert met[kind] == 1
    assert "Boxes to look at" in Path("page/data.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["folder", "voc"])
def test_damage_is_refused_by_name(nascli: Nascli, name: str) -> None:
    data = WRITERS[name](Path("data"))
    file = sorted(each for each in data.rglob("*.[pj][np]g") if "train" in str(each))[0]
    file.write_bytes(file.read_bytes()[:300])
    checked = nascli(f"data check {data} --json")
    assert checked.code == 2
    assert not checked.json["usable"]
    assert issues(checked.json)["image cannot be read"] == 1


@pytest.mark.parametrize("name", ["folder", "yolo"])
def test_equal_files_of_one_name_are_found_before_each_training(nascli: Nascli, name: str) -> None:
    data = WRITERS[name](Path("data"))
    if name == "folder":
        shutil.copy(data / "train/cat/004.png", data / "val/cat")
        shutil.copy(data / "train/cat/004.png", data / "val/dog/005.png")  # another name: data check finds it
    else:
        shutil.copy(data / "train/images/train-1.jpg", data / "valid/images")
        shutil.copy(data / "train/labels/train-1.txt", data / "valid/labels")
    plan = nascli(f"{TRAIN if name == 'folder' else DETECT} --dataset {name}:data --dry-run")
    assert "1 × image of both splits" in plan.err
    assert issues(nascli("data check data --quick --json").json)["image of both splits"] == 1
    assert issues(nascli("data check data --json").json)["image of both splits"] == (2 if name == "folder" else 1)


def test_flat_images_are_not_taken_for_one_another() -> None:
    for number in range(6):
        Image.new("RGB", (40, 30), (200 + number, 200, 200)).save(f"{number}.png")
    prints = [take_fingerprint(Path(f"{number}.png")) for number in range(6)]
    assert find_duplicates({(0, place): each for place, each in enumerate(prints)}) == []


def test_a_large_set_is_compared_by_bands() -> None:
    rng = np.random.default_rng(0)
    looks, small = rng.random((3000, 128)) > 0.5, rng.integers(0, 255, (3000, 18, 18, 3), dtype=np.uint8)
    looks[2000], small[2000] = looks[7], small[7]
    looks[2000, [3, 50, 90]] ^= True
    prints = [
        Fingerprint((1, 1), number.to_bytes(8, "big"), look, pixels)
        for number, (look, pixels) in enumerate(zip(looks, small, strict=True))
    ]
    numbered = {(0, place): each for place, each in enumerate(prints)}
    assert [group.places for group in find_duplicates(numbered)] == [((0, 7), (0, 2000))]


@pytest.mark.parametrize("name", WRITERS)
def test_show_draws_every_split(nascli: Nascli, name: str) -> None:
    shown = nascli(f"data show {WRITERS[name](Path('data'))} --images 2 --out drawn --json").json
    assert len(shown["drawn"]) == (2 if name == "folder" else 4)
    assert all(Path(file).is_file() for file in shown["drawn"])


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_converted_is_the_same_in_a_plain_form(nascli: Nascli, name: str) -> None:
    data = WRITERS[name](Path("data"))
    before = nascli(f"data check {data} --json --quick").json
    written = nascli(f"data convert {data} plain --json")
    assert written.code == 0, written.err
    assert written.json["written"] == ("folder:plain" if name == "folder" else "coco:plain")
    after = nascli("data check plain --strict --json --quick").json
    assert after["usable"]
    for old, new in zip(before["splits"], after["splits"], strict=True):
        assert [old[key] for key in ("split", "images", "classes")] == [
            new[key] for key in ("split", "images", "classes")
        ]
    assert nascli(f"data convert {data} plain").code == 2  # not empty


def test_packs_and_tables_of_labels_become_class_folders(nascli: Nascli) -> None:
    data = write_classes(Path("data"))
    assert nascli(f"pack {data} packed.h5").code == 0
    rows = "".join(f"{file},{file.parent.name}\n" for file in sorted(data.glob("train/*/*.png")))
    Path("labels.csv").write_text(f"file,label\n{rows}")
    assert nascli("data convert packed.h5 unpacked").code == 0
    assert nascli("data check unpacked --json").json["splits"][1]["classes"] == {"cat": 3, "dog": 3}
    assert nascli("data split labels.csv divided --val 0.5 --json").json["images"] == {"train": 6, "val": 6}


def test_equal_names_get_numbers_and_files_are_links(nascli: Nascli) -> None:
    data = write_coco(Path("data"), scatter)
    assert nascli(f"data convert {data} plain").code == 0
    assert sorted(file.name for file in Path("plain/val2017").iterdir()) == ["a-2.png", "a.png"]
    assert Path("plain/val2017/a.png").stat().st_nlink == 2
    assert nascli(f"data convert {data} copied --copy").code == 0
    assert Path("copied/val2017/a.png").stat().st_nlink == 1


def scatter(_: str, lists: Lists, place: Path) -> None:
    """Each image moved to a folder of its own, where all have one name."""
    for entry in lists["images"]:
        folder = place / str(entry["id"])
        folder.mkdir()
        (place / entry["file_name"]).rename(folder / "a.png")
        entry["file_name"] = f"{entry['id']}/a.png"


def test_a_division_is_in_proportion_and_keeps_copies_together(nascli: Nascli) -> None:
    data = write_classes(Path("data"), ("cat", "dog", "eel"), counts=(17, 3))
    for number in range(6):
        image = draw_noise(7000 + number)
        for copy in range(3):
            image.save(data / "train" / "eel" / f"burst-{number}-{copy}.jpg", quality=95 - copy)
    line = f"data split {data} divided --val 0.25 --test 0.25 --json"
    assert nascli(line).json["images"] == {"test": 19, "train": 39, "val": 20}
    checked = nascli("data check divided --json").json
    assert checked["splits"][0]["classes"] == {"cat": 10, "dog": 10, "eel": 19}
    assert not {kind for kind in issues(checked) if "both splits" in kind}
    first = sorted(map(str, Path("divided").rglob("*.*")))
    shutil.rmtree("divided")
    nascli(line)
    assert sorted(map(str, Path("divided").rglob("*.*"))) == first
    shutil.rmtree("divided")
    nascli(f"{line} --seed 1")
    assert sorted(map(str, Path("divided").rglob("*.*"))) != first


def test_boxes_are_divided_too(nascli: Nascli) -> None:
    divided = nascli(f"data split {write_voc(Path('data'))} divided --val 0.4 --json")
    assert divided.code == 0, divided.err
    assert sorted(divided.json["images"].values()) == [2, 3]


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("data check nowhere", "nowhere"),
        ("data check digits", "digits"),
        ("data split data out --val 0", "--val 0"),
        ("data split data out --val 0.01", "no image is left for val"),
        ("data show data --out full", "not empty"),
    ],
)
def test_wrong_usage(nascli: Nascli, line: str, phrase: str) -> None:
    write_classes(Path("data"))
    write_classes(Path("full"))
    ran = nascli(line)
    assert ran.code == 2
    assert phrase in ran.err


@pytest.mark.parametrize("command", ["data check", "data show", "data convert", "pack", "evaluate", "detect predict"])
def test_more_pixels_than_any_recipe_may_decode_are_refused(nascli: Nascli, command: str) -> None:
    """The data set is not read before that: a section of a recipe is made of the number then."""
    write_coco(Path("data"))
    target = {"data convert": " out", "pack": " out.h5"}.get(command, "")
    ran = nascli(f"{command} coco:data{target} --max-megapixels {10**20}")
    assert (ran.code, "--max-megapixels" in ran.err) == (2, True), ran.err
    assert ran.err.count("100000") == 1
