"""Annotations in formats that nascli does not read: named, with a way on, and never taken for classes."""

import json
from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.exports import NAMES, draw_boxes, write_csv, write_voc, write_yolo
from tests.front_door.made import write_classes
from tests.front_door.test_formats import EXPECTED, issues, read_boxes

BOX = {"x": 8, "y": 6, "width": 16, "height": 24}
FOREIGN = {
    "annotations.xml": ("CVAT", '<annotations><version>1.1</version><image id="0" name="a.jpg"/></annotations>'),
    "export.json": ("Label Studio", json.dumps([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}])),
    "short.json": ("Label Studio", json.dumps([{"id": 1, "image": "a.jpg", "label": [], "annotator": 1}])),
    "via.json": ("VIA", json.dumps({"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": []}})),
    "via.csv": ("VIA", "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes\n"),
    "ann/a.jpg.json": ("Supervisely", json.dumps({"tags": [], "size": {"height": 48, "width": 64}, "objects": []})),
    "middle.json": ("MMDetection", json.dumps([{"filename": "a.jpg", "width": 64, "height": 48, "ann": {}}])),
    "dicts.json": ("Detectron2", json.dumps([{"file_name": "a.jpg", "image_id": 0, "annotations": []}])),
    "train/metadata.jsonl": ("Hugging Face", '{"file_name": "a.jpg", "objects": {"bbox": [[8, 6, 16, 24]]}}\n' * 2),
    "training/label_2/a.txt": ("KITTI", "Car 0.00 0 -1.57 8 6 24 30 1.5 1.6 3.7 1.0 1.7 8.4 -1.5\n"),
    "annotations/a.txt": ("VisDrone", "8,6,16,24,1,4,0,0\n"),
    "annotations/default.json": ("Datumaro", json.dumps({"info": {}, "categories": {}, "items": []})),
    "labels.json": ("FiftyOne", json.dumps({"classes": ["cat"], "labels": {"a": [{"bounding_box": [0, 0, 1, 1]}]}})),
    "manifest.json": (
        "CreateML",
        json.dumps([{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": BOX}]}]),
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_annotations_of_another_format_are_named(nascli: Nascli, name: str) -> None:
    known, text = FOREIGN[name]
    draw_boxes(Path("data/images/a.jpg"), "train", 0)
    file = Path("data", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    for line in ("data check data", f"data check {file}", "detect check --dataset data", "train --dataset data"):
        error = nascli(f"{line} --json{' --cell nasnet-a' if line.startswith('train') else ''}").json["error"]
        assert (error["exit_code"], error["file"]) == (2, str(file))
        assert known in error["message"]
        assert "COCO" in error["remedy"]


def test_a_folder_of_several_data_sets_is_none(nascli: Nascli) -> None:
    for year in ("VOC2007", "VOC2012"):
        write_voc(Path("VOCdevkit", year))
    for line in ("data check VOCdevkit", "detect check --dataset VOCdevkit"):
        error = nascli(f"{line} --json").json["error"]
        assert (error["exit_code"], error["file"]) == (2, "VOCdevkit")
        assert "voc:VOCdevkit/VOC2012" in error["remedy"]


def test_class_folders_with_texts_beside_their_images_stay_classes(nascli: Nascli) -> None:
    folder = write_classes(Path("photos"))
    for image in folder.rglob("*.png"):
        image.with_suffix(".txt").write_text("a cat on a mat")
    (folder / "meta.json").write_text(json.dumps({"version": 1, "classes": ["cat", "dog"]}))
    for path in ("photos", "photos/train"):
        assert nascli(f"data check {path} --json").json["dataset"] == f"folder:{path}"


def test_two_tables_of_one_split_are_refused(nascli: Nascli) -> None:
    table = write_csv(Path("data"))
    (table.parent / "classes.csv").write_text("cat,0\ndog,1\n")
    assert nascli("detect check --dataset csv:data --json").code == 0
    (table.parent / "more.csv").write_text(table.read_text())
    error = nascli("detect check --dataset csv:data --json").json["error"]
    assert "csv:data/boxes.csv" in error["remedy"]


@pytest.mark.parametrize("shape", ["[4, 3]", "[3, 3]", "[4, 2]"])
def test_keypoints_behind_the_box_are_no_outline(nascli: Nascli, shape: str) -> None:
    described = write_yolo(Path("data")) / "data.yaml"
    described.write_text(described.read_text() + f"kpt_shape: {shape}\n")
    count, numbers = json.loads(shape)
    points = " ".join(("", *["0.9", "0.1", "2"][:numbers] * count))
    for file in Path("data").rglob("labels/*.txt"):
        file.write_text("".join(f"{line}{points}\n" for line in file.read_text().splitlines()))
    assert issues(nascli("detect check --dataset yolo:data --json").json)["label with keypoints"] == 8
    for split, boxes in read_boxes("yolo:data").items():
        assert [(name, [round(value) for value in box]) for name, box in boxes] == EXPECTED[split]


@pytest.mark.parametrize("names", ["cat, dog", "{cat: 0, dog: 1}", "[[cat], [dog]]"])
def test_names_that_cannot_be_read_are_said_to_be_it(nascli: Nascli, names: str) -> None:
    described = write_yolo(Path("data")) / "data.yaml"
    described.write_text(described.read_text().replace(f"[{', '.join(NAMES)}]", names))
    for line in ("data check data", "detect check --dataset data"):
        error = nascli(f"{line} --json").json["error"]
        assert (error["file"], error["field"]) == ("data/data.yaml", "names")
        assert error["remedy"]


@pytest.mark.parametrize("makesense", [False, True])
def test_tables_without_a_header_that_give_sizes(makesense: bool) -> None:
    table = write_csv(Path("data"))
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    table.unlink()
    for split in EXPECTED:
        lines = []
        for name, width, height, label, x1, y1, x2, y2, own in rows:
            sides = [x1, y1, str(int(x2) - int(x1)), str(int(y2) - int(y1))]
            corners = [x1, y1, x2, y2]
            line = [label, *sides, name, width, height] if makesense else [name, *corners, label, width, height]
            lines += [",".join(line)] if own == split else []
        Path("data", f"{split}.csv").write_text("\n".join(lines))
    assert read_boxes("csv:data") == EXPECTED


def test_a_description_of_yolo_among_other_yaml_files_and_one_that_is_damaged(nascli: Nascli) -> None:
    described = write_yolo(Path("data")) / "data.yaml"
    described.with_name("args.yaml").write_text("lr0: 0.01\n")
    own = described.rename(described.with_name("own.yaml"))
    assert nascli("data check data --json").json["dataset"] == "yolo:data"
    for text in ("", "train:\timages\nnames:\n\t- cat\n"):
        own.with_name("data.yaml").write_text(text)
        for line in ("data check data", "detect check --dataset data"):
            assert nascli(f"{line} --json").json["error"]["file"] == "data/data.yaml"


def test_names_beside_the_labels(nascli: Nascli) -> None:
    write_yolo(Path("data"), service=False)
    Path("data/data.yaml").unlink()
    Path("data/labels/train/classes.txt").write_text("cat\ndog\n")
    assert nascli("data check data --json").json["splits"][0]["classes"] == {"cat": 3, "dog": 3}


def test_yolo_labels_that_are_corners_are_refused(nascli: Nascli) -> None:
    write_yolo(Path("data"))
    for file in Path("data").rglob("labels/*.txt"):
        file.write_text("0 0.1 0.1 0.9 0.95\n1 0.5 0.5 0.9 0.9\n")
    checked = nascli("detect check --dataset yolo:data --json")
    assert (checked.code, issues(checked.json)["labels are corners"]) == (2, 10)


def test_lists_of_images_in_one_folder_share_its_labels(nascli: Nascli) -> None:
    folder = write_yolo(Path("data"), service=False)
    (folder / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        lines = "".join(f"./images/train/train-{number}.jpg\n" for number in numbers)
        (folder / f"{split}.txt").write_text(lines)
    assert issues(nascli("detect check --dataset yolo:data --strict --json").json) == {}
    (folder / "val.txt").write_text("./images/train/train-2.jpg\n./elsewhere/lost.jpg\n")
    assert issues(nascli("detect check --dataset yolo:data --json").json)["image not on disk"] == 1


def test_xml_in_an_encoding_that_it_names(nascli: Nascli) -> None:
    folder = write_voc(Path("data"))
    for file in (folder / "Annotations").iterdir():
        text = '<?xml version="1.0" encoding="GB2312"?>' + file.read_text().replace("cat", "猫")
        file.write_bytes(text.encode("gb2312"))
    assert nascli("detect check --dataset voc:data --strict --json").code == 0
    assert {name for name, _ in read_boxes("voc:data")["train"]} == {"猫", "dog"}
    file.write_text(file.read_text(encoding="gb2312").replace("GB2312", "none-such"), encoding="gb2312")
    assert issues(nascli("detect check --dataset voc:data --json").json)["XML file cannot be read"] == 1


def test_sizes_of_zero_in_a_table_are_read_from_the_images(nascli: Nascli) -> None:
    table = write_csv(Path("data"))
    table.write_text(table.read_text().replace(",64,48,", ",0,0,"))
    assert issues(nascli(f"detect check --dataset csv:{table} --json").json)["image size not given"] == 5
    assert nascli(f"detect check --dataset csv:{table} --strict --json").code == 2
