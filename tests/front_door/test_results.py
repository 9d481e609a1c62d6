"""Results files of other people's programs: scored as they are meant, refused with a way on, never in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli, Ran
from tests.front_door.made import Lists, write_coco, write_json, write_perfect_results

Entry = dict[str, Any]
Change = Callable[[str, Lists, Path], None]
DATA = Path("data")
SCORE = "detect score data/results.json --dataset coco:data --json"


def write(change: Callable[[Entry], Entry] = dict, data: Change | None = None, boxes: int = 2) -> None:
    """Annotations, changed by `data`, and perfect results on them, each changed by `change`."""
    write_perfect_results(write_coco(DATA, data, boxes=boxes), change)


def read_perfect() -> list[Entry]:
    entries: list[Entry] = json.loads((DATA / "results.json").read_text(encoding="utf-8"))
    return entries


def kinds(ran: Ran) -> dict[str, tuple[int, str]]:
    assert ran.code == 0, ran.err
    return {each["kind"]: (each["count"], each["outcome"]) for each in ran.json["results_issues"]}


def own_lists(entries: list[Entry]) -> dict[str, Any]:
    """Results in an object with images and categories of its own, in another order than the truth's."""
    images = [{"id": number, "file_name": f"photos/{102 - number:06d}.png"} for number in (0, 1)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    renumbered = [
        {**each, "image_id": 102 - each["image_id"], "category_id": 3 - each["category_id"]} for each in entries
    ]
    return {"info": {}, "images": images, "annotations": renumbered, "categories": categories}


def predictions(entries: list[Entry]) -> dict[str, Any]:
    """What `nascli detect predict` writes."""
    images = [
        {
            "file": f"photos/{number:06d}.png",
            "detections": [{**each, "name": ""} for each in entries if each["image_id"] == number],
        }
        for number in (101, 102)
    ]
    return {"threshold": 0.5, "images": images}


ENTRIES: dict[str, tuple[Callable[[Entry], Entry], dict[str, int]]] = {
    "stems of the files": (lambda e: e | {"image_id": f"{e['image_id']:06d}"}, {"id of another type": 4}),
    "names of the files": (
        lambda e: e | {"image_id": f"{e['image_id']:06d}.png"},
        {"image named in place of its id": 4},
    ),
    "paths of another machine": (
        lambda e: e | {"image_id": f"D:\\runs\\val\\{e['image_id']:06d}.jpg"},
        {"image named in place of its id": 4},
    ),
    "file_name in place of image_id": (
        lambda e: {"file_name": f"{e.pop('image_id'):06d}.png", **e},
        {"image named in place of its id": 4},
    ),
    "whole numbers with a fraction": (
        lambda e: e | {"image_id": float(e["image_id"]), "category_id": float(e["category_id"])},
        {"id of another type": 8},
    ),
    "class by name": (
        lambda e: e | {"category_id": "Cat" if e["category_id"] == 1 else " dog "},
        {"category named in place of its id": 4},
    ),
    "class by another key": (
        lambda e: {"label": ["cat", "dog"][e.pop("category_id") - 1], **e},
        {"category named in place of its id": 4},
    ),
    "numbers as texts": (
        lambda e: e | {"bbox": [*map(str, e["bbox"])], "score": "0.9"},
        {"number of another type": 8},
    ),
    "confidence": (lambda e: {"confidence": e.pop("score"), **e}, {"score under another key": 4}),
    "scores in percent as texts": (
        lambda e: e | {"score": "90%"},
        {"number of another type": 4, "score not between 0 and 1": 4},
    ),
    "scores from 0 to 100": (lambda e: e | {"score": 90}, {"score not between 0 and 1": 4}),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_read_as_they_are_meant(nascli: Nascli, name: str) -> None:
    change, expected = ENTRIES[name]
    write(change)
    ran = nascli(SCORE)
    assert {kind: count for kind, (count, _) in kinds(ran).items()} == expected
    assert ran.json["ap"] == 1
    assert all(kind in ran.err for kind in expected)


FILES: dict[str, tuple[Callable[[list[Entry]], bytes], set[str]]] = {
    "mark": (lambda entries: json.dumps(entries).encode("utf-8-sig"), set()),
    "utf-16": (lambda entries: json.dumps(entries).encode("utf-16"), set()),
    "a line each": (
        lambda entries: "\r\n".join(map(json.dumps, entries)).encode(),
        {"results as JSON Lines"},
    ),
    "in an object": (
        lambda entries: json.dumps({"model": "x", "predictions": entries}).encode(),
        {"results inside an object"},
    ),
    "with lists of its own": (
        lambda entries: json.dumps(own_lists(entries)).encode(),
        {"results inside an object", "image numbered differently", "category numbered differently"},
    ),
    "predictions.json": (
        lambda entries: json.dumps(predictions(entries)).encode(),
        {"results as predictions.json", "image named in place of its id"},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_forms_are_read(nascli: Nascli, name: str) -> None:
    make, expected = FILES[name]
    write()
    (DATA / "results.json").write_bytes(make(read_perfect()))
    ran = nascli(SCORE)
    assert kinds(ran).keys() == expected
    assert ran.json["ap"] == 1
    if expected:
        assert nascli(f"{SCORE} --strict").code == 2


def test_numbers_of_files_that_are_no_ids(nascli: Nascli) -> None:
    """As some programs write them: 101 for 000101.png, whose id is 7."""

    def renumber(_: str, lists: Lists, __: Path) -> None:
        for list_, key in ((lists["images"], "id"), (lists["annotations"], "image_id")):
            for entry in list_:
                entry[key] -= 94

    write(lambda e: e | {"image_id": e["image_id"] + 94}, renumber)
    ran = nascli(SCORE)
    assert kinds(ran) == {"image named in place of its id": (4, "lenient")}
    assert ran.json["ap"] == 1


def test_a_text_that_is_an_id_and_the_name_of_another_image_is_refused(nascli: Nascli) -> None:
    def swap(split: str, lists: Lists, folder: Path) -> None:
        if split == "val":
            for entry, name in zip(lists["images"], ("102.png", "101.png"), strict=True):
                (folder / entry["file_name"]).rename(folder / name)
                entry["file_name"] = name

    write(lambda e: e | {"image_id": str(e["image_id"])}, swap)
    ran = nascli(SCORE)
    assert ran.code == 2
    assert "an id and a file name" in ran.err


def test_unlisted_images_are_counted_and_left(nascli: Nascli) -> None:
    write()
    write_json(DATA / "results.json", [*read_perfect(), read_perfect()[0] | {"image_id": 999}])
    ran = nascli(SCORE)
    assert kinds(ran) == {"result of an unlisted image": (1, "skipped")}
    assert ran.json["ap"] == 1
    assert "999" in ran.err
    assert nascli(f"{SCORE} --strict").code == 2


def as_corners(entry: Entry) -> Entry:
    x, y, width, height = entry["bbox"]
    return entry | {"bbox": [x, y, x + width, y + height]}


def as_parts(entry: Entry) -> Entry:
    return entry | {"bbox": [value / 64 for value in entry["bbox"]]}


@pytest.mark.parametrize("boxes", [1, 2, 6])
def test_corners_are_scored_with_a_warning(nascli: Nascli, boxes: int) -> None:
    write(as_corners, boxes=boxes)
    ran = nascli(f"{SCORE} --strict")
    assert "results that leave their images" in kinds(ran)
    assert ran.json["ap"] < 0.9
    assert "warning: " in ran.err
    assert "corners" in ran.err


def test_parts_of_an_image_are_scored_with_a_warning(nascli: Nascli) -> None:
    write(as_parts)
    ran = nascli(SCORE)
    assert kinds(ran) == {"results look like parts of their images": (4, "kept")}
    assert "between 0 and 1" in ran.err


def test_boxes_over_the_edge_are_not_called_corners(nascli: Nascli) -> None:
    write(lambda e: e | {"bbox": [e["bbox"][0] - 2, e["bbox"][1] + 2, *e["bbox"][2:]]})
    assert kinds(nascli(SCORE)) == {}


def test_more_than_100_boxes_of_an_image_are_said(nascli: Nascli) -> None:
    def crowd(split: str, lists: Lists, _: Path) -> None:
        if split == "val":
            first = lists["annotations"][0]
            places = [(x * 4, y * 4) for x in range(15) for y in range(10)]
            lists["annotations"] = [
                first | {"id": 900 + k, "bbox": [*place, 4, 4], "area": 16} for k, place in enumerate(places)
            ]

    write(data=crowd)
    ran = nascli(SCORE)
    assert kinds(ran) == {"image with more than 100 results": (1, "kept")}
    assert [each["kind"] for each in ran.json["issues"]].count("image with more than 100 boxes") == 1
    assert ran.json["ap"] < 0.7


REFUSED: dict[str, tuple[object, str]] = {
    "of other data": ([{"image_id": 5, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1}], "no entry is of an image"),
    "masks": ([{"image_id": 101, "category_id": 1, "segmentation": {"counts": ""}, "score": 1}], "masks"),
    "keypoints": ([{"image_id": 101, "category_id": 1, "keypoints": [1, 2, 2], "score": 1}], "keypoints"),
    "another class": ([{"image_id": 101, "category_id": 0, "bbox": [1, 1, 2, 2], "score": 1}], "from 0 or 1"),
    "another name": ([{"image_id": 101, "category_id": "cow", "bbox": [1, 1, 2, 2], "score": 1}], "1 cat, 2 dog"),
    "no score": ([{"image_id": 101, "category_id": 1, "bbox": [1, 1, 2, 2]}], "score is None"),
    "score that is no number": ([{"image_id": 101, "category_id": 1, "bbox": [1, 1, 2, 2], "score": "high"}], "'high'"),
    "box of three": ([{"image_id": 101, "category_id": 1, "bbox": [1, 1, 2], "score": 1}], "bbox is"),
    "nothing": ({"info": {}, "licenses": []}, "'info', 'licenses'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_result_is_named(nascli: Nascli, name: str) -> None:
    values, phrase = REFUSED[name]
    write_json(write_coco(DATA) / "results.json", values)
    ran = nascli(SCORE)
    assert ran.code == 2
    assert phrase in ran.err
    assert "results.json" in ran.err


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"image_id,category_id,x,y,w,h,score\n101,1,0,0,9,9,0.5\n", "a text that begins with 'image_id,"),
        (b"<html><body>Sign in</body></html>", "an HTML page"),
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
    ],
)
def test_a_file_of_another_kind_is_named(nascli: Nascli, content: bytes, phrase: str) -> None:
    (write_coco(DATA) / "results.json").write_bytes(content)
    ran = nascli(SCORE)
    assert ran.code == 2
    assert phrase in ran.err


def test_annotations_and_folders_are_no_results(nascli: Nascli) -> None:
    write()
    ran = nascli("detect score data/annotations/instances_val2017.json --dataset coco:data")
    assert ran.code == 2
    assert "annotations, not results" in ran.err
    ran = nascli("detect score data --dataset coco:data")
    assert ran.code == 2
    assert "results.json" in ran.err


def test_results_of_images_without_sizes_are_scored_where_no_image_is(nascli: Nascli) -> None:
    def strip(_: str, lists: Lists, folder: Path) -> None:
        for entry in lists["images"]:
            (folder / entry["file_name"]).unlink()
            del entry["width"], entry["height"]

    write(data=strip)
    assert nascli(SCORE).json["ap"] == 1
