"""COCO files as other programs write them: what is read, what is refused with which advice, what is remarked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.program import Nascli
from tests.front_door.made import DETECT, Lists, write_coco, write_json, write_perfect_results

CHECK = "detect check --dataset coco:data"
TRAIN = Path("data/annotations/instances_train2017.json")
VAL = Path("data/annotations/instances_val2017.json")

Change = Callable[[Lists], object]


def write(change: Change, splits: str = "train val", **made: Any) -> Path:  # noqa: ANN401 - of write_coco
    """Cats and dogs, with the lists of some splits changed."""

    def apply(name: str, lists: Lists, _: Path) -> None:
        if name in splits:
            change(lists)

    return write_coco(Path("data"), apply, **made)


def met(nascli: Nascli, line: str = CHECK, split: int = 0) -> dict[str, int]:
    """The issues of a split by kind."""
    return {each["kind"]: each["count"] for each in nascli(f"{line} --json").json["splits"][split]["issues"]}


def boxes(lists: Lists, change: Callable[[float, float, float, float], list[Any]]) -> None:
    for entry in lists["annotations"]:
        entry["bbox"] = change(*entry["bbox"])


# boxes that are not x, y, width, height in pixels

STRANGE: dict[str, Callable[[float, float, float, float], list[Any]]] = {
    "boxes from 0 to 1": lambda x, y, w, h: [x / 64, y / 64, w / 64, h / 64],
    "boxes are corners": lambda x, y, w, h: [x, y, x + w, y + h],
    "boxes begin at their centers": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_boxes_of_another_kind_are_refused_and_nothing_that_follows_is_listed(nascli: Nascli, kind: str) -> None:
    def change(lists: Lists) -> None:
        for entry in lists["annotations"]:  # toward the lower right, where corners and centers leave the image
            entry["bbox"][:2] = [each % 7 + 36 for each in entry["bbox"][:2]]
        boxes(lists, STRANGE[kind])

    write(change)
    assert met(nascli) == {kind: 8}
    assert nascli(CHECK).code == 2
    ran = nascli(f"{DETECT} --dataset coco:data --dry-run")
    assert (ran.code, ran.out) == (2, "")


def test_rows_first_is_seen_on_images_that_are_no_squares(nascli: Nascli) -> None:
    write_coco(Path("data"))
    for file in (TRAIN, VAL):
        lists = json.loads(file.read_text())
        for entry in lists["images"]:
            entry["width"] = 200
            place = f"data/{'train' if file == TRAIN else 'val'}2017/{entry['file_name']}"
            Image.new("RGB", (200, 64)).save(place)
        for k, entry in enumerate(lists["annotations"]):
            entry["bbox"] = [10 + k, 120 + k, 20, 60]  # y, x, height, width
        write_json(file, lists)
    assert met(nascli) == {"boxes are rows first": 8}


def test_percent_and_tiny_boxes_are_remarked(nascli: Nascli) -> None:
    write(lambda lists: lists["annotations"][0].update(bbox=[3, 3, 0.5, 9]), side=200)
    for entry in (lists := json.loads(TRAIN.read_text()))["annotations"][1:]:
        entry["bbox"] = [entry["bbox"][0] / 4, entry["bbox"][1] / 4, 30, 30]
    write_json(TRAIN, lists)
    assert met(nascli) == {"boxes within 100 pixels": 8, "box smaller than a pixel": 1}
    assert nascli(CHECK).code == 0


def test_large_objects_and_whole_images_are_not_taken_for_corners(nascli: Nascli) -> None:
    write(lambda lists: boxes(lists, lambda *_: [0, 0, 64, 64]))
    assert nascli(CHECK).code == 0
    shutil.rmtree("data")
    write(lambda lists: boxes(lists, lambda x, y, w, h: [2, 3, 63, 60]))
    assert nascli(CHECK).code == 0


# images


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("https://images.example.org/bucket/{}?token=a%2Fb", "image found by its name alone"),
        ("http://[::1/{}", "image found by its name alone"),
        ("file:///home/me/set/train2017/{}", "image found by its name alone"),
        ("/data/upload/4/{}", "image found by its name alone"),
        ("\\\\server\\share\\{}", "image found by its name alone"),
        ("./train2017/{}", None),
        ("{}", None),
    ],
)
def test_images_are_found_though_their_paths_are_of_another_machine(
    nascli: Nascli, name: str, kind: str | None
) -> None:
    write(lambda lists: [entry.update(file_name=name.format(entry["file_name"])) for entry in lists["images"]], "train")
    assert met(nascli) == ({kind: 4} if kind else {})


def test_names_with_accents_blanks_and_no_ending_are_found(nascli: Nascli) -> None:
    write_coco(Path("data"))
    lists = json.loads(TRAIN.read_text())
    for entry, on_disk, written in zip(
        lists["images"],
        ("cafe\u0301.png", "two words.png", "third.PNG", "fourth.png"),
        ("caf\u00e9.png", "two%20words.png", "third.png", "fourth"),
        strict=True,
    ):
        shutil.move(Path("data/train2017", entry["file_name"]), Path("data/train2017", on_disk))
        entry["file_name"] = written
    write_json(TRAIN, lists)
    assert met(nascli) == {"image found under another spelling": 3, "image found by its name alone": 1}


def test_a_missing_image_is_not_replaced_by_one_of_the_other_split(nascli: Nascli) -> None:
    write_coco(Path("data"))
    shutil.move("data/train2017/000003.png", "data/val2017/000003.png")
    assert met(nascli) == {"image not on disk": 1}


def test_a_missing_image_is_not_replaced_by_a_mask_of_it(nascli: Nascli) -> None:
    write_coco(Path("data"))
    Path("data/train2017/masks").mkdir()
    shutil.move("data/train2017/000003.png", "data/train2017/masks/000003.png")
    assert met(nascli) == {"image not on disk": 1}


def test_of_two_images_of_one_name_that_in_the_same_folder_is_taken(nascli: Nascli) -> None:
    write_coco(Path("data"))
    lists = json.loads(TRAIN.read_text())
    for k, entry in enumerate(lists["images"]):
        target = Path(f"data/train2017/camera{k}/same.png")
        target.parent.mkdir()
        shutil.move(Path("data/train2017", entry["file_name"]), target)
        entry["file_name"] = f"C:\\work\\camera{k}\\same.png"
    write_json(TRAIN, lists)
    assert met(nascli) == {"image found by its name alone": 4}
    lists["images"][0]["file_name"] = "C:\\work\\same.png"
    write_json(TRAIN, lists)
    assert met(nascli) == {"image found by its name alone": 3, "image not on disk": 1}, "it may be any of four"


def test_missing_and_unreadable_images_are_skipped_up_to_a_limit(nascli: Nascli) -> None:
    write_coco(Path("data"))
    Path("data/train2017/000003.png").unlink()
    Path("data/val2017/000101.png").write_bytes(b"<html>")
    assert nascli(CHECK).code == 2
    ran = nascli(f"{DETECT} --dataset coco:data --dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert "data.max_unreadable_images" in ran.err
    allowed = "--set data.max_unreadable_images=2"
    assert met(nascli, f"{CHECK} {allowed}") == {"image missing": 1}
    assert met(nascli, f"{CHECK} {allowed}", 1) == {"image unreadable": 1}
    plan = nascli(f"{DETECT} --dataset coco:data {allowed} --dry-run --json")
    assert (plan.json["train_images"], plan.json["scored_images"]) == (3, 1)
    assert "image missing" in plan.err
    assert nascli(f"{CHECK} --set data.max_unreadable_images=1").code == 2
    assert nascli(f"{CHECK} {allowed} --strict").code == 2
    shutil.rmtree("data/val2017")
    ran = nascli(f"{CHECK} --set data.max_unreadable_images=9")
    assert ran.code == 2
    assert "2 images, and none can be used" in ran.err


def test_a_run_with_skipped_images_resumes_only_with_the_same_ones(nascli: Nascli) -> None:
    write_coco(Path("data"))
    moved = shutil.move("data/train2017/000003.png", "gone.png")
    line = f"{DETECT} --dataset coco:data --set data.max_unreadable_images=2 --out run"
    assert nascli(line).code == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["splits"][0]["own_name"] == "train2017"
    assert [each["kind"] for each in record["splits"][0]["issues"]] == ["image missing"]
    assert nascli("detect train --resume run").code == 0
    shutil.move(moved, "data/train2017/000003.png")
    ran = nascli("detect train --resume run")
    assert ran.code == 2


# images listed twice, shared by the splits, sizes


def test_an_image_twice_and_one_of_both_splits_are_remarked(nascli: Nascli) -> None:
    def twice(lists: Lists) -> None:
        lists["images"].append({**lists["images"][0], "id": 900})
        lists["annotations"][1]["image_id"] = 900

    write(twice, "train")
    lists = json.loads(VAL.read_text())
    lists["images"][0]["file_name"] = "../train2017/000002.png"
    write_json(VAL, lists)
    assert met(nascli) == {"image listed twice": 1}
    assert met(nascli, split=1) == {"image of both splits": 1}


def test_a_file_without_splits_is_divided_by_image_and_alike_for_all(nascli: Nascli) -> None:
    def twice(lists: Lists) -> None:
        lists["images"] += [{**entry, "id": entry["id"] + 900} for entry in lists["images"]]

    write(twice, "train")
    shutil.move("data/train2017", "data/images/default")
    shutil.move(TRAIN, "data/annotations/instances_default.json")
    VAL.unlink()
    file = "detect check --dataset coco:data/annotations/instances_default.json"
    whole = nascli(f"{file} --json").json["splits"]
    assert [(each["own_name"], each["images"]) for each in whole] == [("default", 8)]
    for line in (file, "detect check --dataset coco:data", "detect check --dataset data"):
        parts = nascli(f"{line} --val-fraction 0.25 --json").json["splits"]
        assert [each["images"] for each in parts] == [6, 2], "both entries of an image are on one side"
    ran = nascli(f"{DETECT} --dataset coco:data --dry-run")
    assert ran.code == 2
    assert "--val-fraction" in ran.err


def test_the_held_out_part_is_the_same_without_its_images(nascli: Nascli) -> None:
    write_coco(Path("data"))
    VAL.unlink()
    line = "--dataset coco:data --val-fraction 0.5 --json"
    with_images = nascli(f"detect check {line}").json["splits"][1]
    write_json(Path("none.json"), [])
    scored = nascli(f"detect score none.json {line}").json
    shutil.rmtree("data/train2017")
    again = nascli(f"detect score none.json {line}").json
    assert (scored["images"], scored["boxes"]) == (again["images"], again["boxes"]) == (2, with_images["boxes"])


# categories


def test_categories_are_matched_by_name_and_results_keep_the_numbers_of_their_file(nascli: Nascli) -> None:
    def exchange(lists: Lists) -> None:
        for entry in lists["categories"]:
            entry["id"] = 3 - entry["id"]
        for entry in lists["annotations"]:
            entry["category_id"] = 3 - entry["category_id"]

    write(exchange, "val")
    assert met(nascli, split=1) == {"categories numbered differently": 2}
    assert nascli(f"{DETECT} --dataset coco:data --out run").code == 0
    report = json.loads(Path("run/detection.json").read_text())
    again = nascli("detect score run/results.json --dataset coco:data --json").json
    assert again["ap"] == report["ap"]
    assert {each["name"]: each["id"] for each in report["per_class"]} == {"cat": 2, "dog": 1}


def test_results_of_a_run_name_no_category_that_their_file_has_not(nascli: Nascli) -> None:
    def dogs_alone(lists: Lists) -> None:
        lists["categories"] = [{"id": 9, "name": "Dog"}]
        lists["annotations"] = [{**e, "category_id": 9} for e in lists["annotations"] if e["category_id"] == 2]

    write(dogs_alone, "val")
    assert set(met(nascli, split=1)) == {
        "categories numbered differently",
        "category spelled differently",
        "category of one split alone",
    }
    assert nascli(f"{DETECT} --dataset coco:data --out run").code == 0
    again = nascli("detect score run/results.json --dataset coco:data --json")
    assert again.code == 0, again.err
    assert again.json["ap"] == json.loads(Path("run/detection.json").read_text())["ap"]


def test_the_categories_that_differ_are_named(nascli: Nascli) -> None:
    write(lambda lists: lists["categories"][0].update(name="horse"), "val")
    ran = nascli(CHECK)
    assert ran.code == 2
    assert "'horse' is here alone, 'cat' there" in ran.out
    shutil.rmtree("data")
    write(lambda lists: lists["categories"].append({"id": 3, "name": "horse"}), "val")
    assert met(nascli, split=1) == {"category without boxes": 1, "category of one split alone": 1}
    assert nascli(CHECK).code == 0


def test_categories_of_one_name_and_above_others(nascli: Nascli) -> None:
    write(lambda lists: [entry.update(name="cap") for entry in lists["categories"]])
    assert met(nascli) == {"category of the name of another": 2}
    results = write_perfect_results(Path("data"))
    scored = nascli(f"detect score {results} --dataset coco:data --json").json
    assert [each["name"] for each in scored["per_class"]] == ["cap 1", "cap 2"]
    shutil.rmtree("data")

    def above(lists: Lists) -> None:
        for entry in lists["categories"]:
            entry["supercategory"] = "animals"
        lists["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})

    write(above)
    assert met(nascli) == {"supercategory as a class": 1, "category id 0": 1}


def test_class_names_in_brackets_are_shown_whole(nascli: Nascli) -> None:
    write_coco(Path("data"), names=("[other]", "wheel [front]"))
    results = write_perfect_results(Path("data"))
    shown = nascli(f"detect score {results} --dataset coco:data").out
    assert "[other]" in shown
    assert "wheel [front]" in shown


# scoring


def test_scoring_needs_no_sizes_and_says_where_100_detections_are_too_few(nascli: Nascli) -> None:
    def sizeless(lists: Lists) -> None:
        for entry in lists["images"]:
            del entry["width"], entry["height"]

    write(sizeless, boxes=3)
    results = write_perfect_results(Path("data"))
    shutil.rmtree("data/val2017")
    assert nascli(f"detect score {results} --dataset coco:data --json").json["ap"] == 1
    lists = json.loads(VAL.read_text())
    first = lists["annotations"][0]
    lists["annotations"] += [{**first, "id": 500 + k, "bbox": [k % 50, k % 40, 9, 9]} for k in range(150)]
    write_json(VAL, lists)
    scored = nascli(f"detect score {results} --dataset coco:data --json").json
    assert "image with more than 100 boxes" in [each["kind"] for each in scored["issues"]]


# layouts


def test_layouts_of_other_programs(nascli: Nascli) -> None:
    write_coco(Path("made"))
    train, val = (
        json.loads(Path(f"made/annotations/instances_{name}2017.json").read_text()) for name in ("train", "val")
    )
    layouts: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "names of splits": ({"train.json": train, "val.json": val}, {"train": "train", "val": "val"}),
        "below annotations": (
            {"annotations/train.json": train, "annotations/validation.json": val},
            {"images/train": "train", "images/validation": "val"},
        ),
        "labels and data": (
            {"train/labels.json": train, "dev/labels.json": val},
            {"train/data": "train", "dev/data": "val"},
        ),
        "one level too deep": (
            {"export/train/_annotations.coco.json": train, "export/valid/_annotations.coco.json": val},
            {"export/train": "train", "export/valid": "val"},
        ),
        "capitals": (
            {"Annotations/Train_coco.json": train, "Annotations/Test_coco.json": val},
            {"Images": "train", "Images/Test": "val"},
        ),
    }
    for name, (files, folders) in layouts.items():
        for file, lists in files.items():
            write_json(Path(name, file), lists)
        for folder, split in folders.items():
            shutil.copytree(f"made/{split}2017", Path(name, folder), dirs_exist_ok=True)
        ran = nascli(f"detect check --dataset 'coco:{name}' --json")
        assert ran.code == 0, (name, ran.err)
        assert [(each["images"], each["issues"]) for each in ran.json["splits"]] == [(4, []), (2, [])], name


def test_a_labelling_tool_s_result_beside_its_images(nascli: Nascli) -> None:
    write(lambda lists: [e.update(file_name=f"..\\..\\files\\7\\{e['file_name']}") for e in lists["images"]], "train")
    shutil.move(TRAIN, "data/result.json")
    shutil.move("data/train2017", "data/images")
    shutil.rmtree("data/annotations")
    ran = nascli("detect check --dataset data --json")
    assert ran.code == 0, ran.err
    assert [each["own_name"] for each in ran.json["splits"]] == ["default"]


def test_the_validation_split_can_be_chosen(nascli: Nascli) -> None:
    write_coco(Path("data"))
    shutil.copy(VAL, "data/annotations/instances_test2017.json")
    shutil.copytree("data/val2017", "data/test2017")
    names = [each["own_name"] for each in nascli(f"{CHECK} --json").json["splits"]]
    assert names == ["train2017", "val2017"]
    line = f"{CHECK} --val-split TEST2017"
    assert [each["own_name"] for each in nascli(f"{line} --json").json["splits"]] == ["train2017", "test2017"]
    assert "val2017" in nascli(f"{CHECK} --val-split nowhere").err
    assert nascli(f"{CHECK} --val-fraction 0.5").code == 2, "there is a split to validate on"
    VAL.unlink()
    assert [each["own_name"] for each in nascli(f"{CHECK} --json").json["splits"]] == ["train2017", "test2017"]


# files that are not what they should be


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (b'{"images": [{"id": 1, "file_na', 1, "ends at line 1"),
        (b'{"images": [\n{"id": 1,},\n]}', 2, "comma"),
        (b'{"images": [1 2]}', 1, "line 1, column 15"),
        (b"<!DOCTYPE html><html>not found</html>", 2, "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", 2, "LFS"),
        (b"path: ../data\ntrain: images/train\n", 2, "path: ../data"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\xfe\xfd", 2, "ZIP"),
        (b"", 2, "empty"),
        (b'{"id": 1}\n{"id": 2}\n', 2, "JSON Lines"),
        (b'[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]', 2, "results"),
        (b'{"version": "5", "shapes": [], "imagePath": "a.png"}', 2, "LabelMe"),
        (b'{"images": [{"id": 1, "objects": []}], "categories": []}', 2, "'annotations'"),
        ('{"info": "Größe"}'.encode("cp1252"), 2, "iconv"),
    ],
)
def test_another_file_is_named_as_what_it_is(nascli: Nascli, content: bytes, code: int, word: str) -> None:
    write_coco(Path("data"))
    TRAIN.write_bytes(content)
    ran = nascli(CHECK)
    assert (ran.code, ran.out) == (code, "")
    assert "instances_train2017.json" in ran.err
    assert word in ran.err


def test_byte_order_marks_and_utf_16_are_read(nascli: Nascli) -> None:
    write_coco(Path("data"), names=("Größe", "犬"))
    for encoding in ("utf-8-sig", "utf-16"):
        text = VAL.read_text(encoding="utf-8")
        TRAIN.write_bytes(text.replace("0001", "../val2017/0001").encode(encoding))
        assert met(nascli) == {}


# outlines


def test_boxes_around_outlines_of_every_kind(nascli: Nascli) -> None:
    def change(lists: Lists) -> None:
        mask = np.zeros((64, 64), np.int64)
        mask[10:30, 5:25] = 1
        ends = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
        counts = np.diff([0, *ends, 64 * 64]).tolist()
        outlines = [{"counts": counts, "size": [64, 64]}, [[5, 10, 25, 10], [25, 30, 5, 30]], [5, 10, 25, 30]]
        for entry, outline in zip(lists["annotations"], outlines, strict=False):
            entry["bbox"], entry["segmentation"] = [], outline

    write(change, "train")
    Path("results.json").write_text("[]")
    assert met(nascli) == {"box not given": 3}
    line = "detect score results.json --dataset coco:data --set data.evaluate_on=train --out scored"
    assert nascli(line).code == 0
    broken = json.loads(TRAIN.read_text())
    broken["annotations"][0]["segmentation"] = {"counts": [5, -9], "size": [64, 64]}
    write_json(TRAIN, broken)
    assert met(nascli) == {"box not given": 2, "box not four numbers": 1}
