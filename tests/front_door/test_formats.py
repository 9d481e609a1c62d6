"""YOLO, Pascal VOC and tables of boxes: as their tools write them, and as people do."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from nascli.data.detection import recognize
from tests.cli.program import Nascli
from tests.front_door.exports import BOXES, COUNTS, NAMES, SIZE, write_csv, write_voc, write_yolo
from tests.front_door.made import DETECT, write_coco

Change = Callable[[Path], object]


def issues(checked: Any) -> dict[str, int]:  # noqa: ANN401 - any JSON
    """Kinds and counts of both splits of a check."""
    met: dict[str, int] = {}
    for split in checked["splits"]:
        for each in split["issues"]:
            met[each["kind"]] = met.get(each["kind"], 0) + each["count"]
    return met


def read_boxes(name: str) -> dict[str, list[tuple[str, list[float]]]]:
    """Class and box of every annotation of each split, as the reader has them."""
    from nascli.config import DetectDataConfig
    from nascli.data.detection.registry import load_detection_splits

    read = {}
    for split in load_detection_splits(DetectDataConfig(dataset=name)):
        read[split.name] = [
            (split.class_names[label - 1], box)
            for image in split.images
            for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)
        ]
    return read


EXPECTED = {
    split: [
        (NAMES[label], [x1, y1, x2 - x1, y2 - y1]) for _ in range(count) for label, (x1, y1, x2, y2) in BOXES[split]
    ]
    for split, count in COUNTS.items()
}


def openimages(folder: Path) -> Path:
    file = write_csv(folder)
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf,split"]
    for name, *_, label, x1, y1, x2, y2, split in rows:
        xs, ys = [float(value) / SIZE[0] for value in (x1, x2)], [float(value) / SIZE[1] for value in (y1, y2)]
        lines.append(",".join(map(str, [name.removesuffix(".jpg"), "xclick", label, 1, *xs, *ys, 0, split])))
    file.write_text("\n".join(lines))
    return file


def headerless(folder: Path) -> Path:
    rows = [line.split(",") for line in write_csv(folder).read_text().splitlines()[1:]]
    for split in COUNTS:
        lines = [",".join([f"images/{row[0]}", *row[4:8], row[3]]) for row in rows if row[-1] == split]
        (folder / f"{split}.csv").write_text("\n".join(lines))
    (folder / "boxes.csv").unlink()
    return folder


def corner_and_sides(folder: Path) -> Path:
    file = write_csv(folder)
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    lines = ["image_id;label;x;y;w;h;subset"]
    for name, *_, label, x1, y1, x2, y2, split in rows:
        sides = (int(x2) - int(x1), int(y2) - int(y1))
        lines.append(";".join(map(str, [name.removesuffix(".jpg"), label, x1, y1, *sides, split])))
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    return file


def xml_beside_images(folder: Path) -> Path:
    voc = write_voc(folder / "voc")
    for split, place in (("train", "train"), ("val", "valid")):
        (folder / place).mkdir()
        for file in (*(voc / "JPEGImages").glob(f"{split}_*"), *(voc / "Annotations").glob(f"{split}_*")):
            file.rename(folder / place / file.name)
    return folder


def labels_beside_images(folder: Path) -> Path:
    write_yolo(folder / "made")
    for split in ("train", "valid"):
        for file in (*(folder / "made" / split).glob("*/*"),):
            (folder / "obj_train_data").mkdir(exist_ok=True)
            file.rename(folder / "obj_train_data" / file.name)
    for name, split in (("train", "train"), ("valid", "valid")):
        files = sorted((folder / "obj_train_data").glob(f"{split}-*.jpg"))
        (folder / f"{name}.txt").write_text("".join(f"data/obj_train_data/{file.name}\n" for file in files))
    (folder / "obj.names").write_text("cat\ndog\n")
    text = "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    (folder / "obj.data").write_text(text)
    return folder


def all_in_one_folder(folder: Path) -> Path:
    """`train/` and `val/` that hold images and labels, with `classes.txt`."""
    write_yolo(folder)
    for split, place in (("train", "train"), ("valid", "val")):
        for file in [*(folder / split).glob("*/*")]:
            (folder / place).mkdir(exist_ok=True)
            file.rename(folder / place / file.name)
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


FORMATS: dict[str, Callable[[Path], str]] = {
    "yolo of a web service": lambda folder: f"yolo:{write_yolo(folder)}",
    "yolo as usual": lambda folder: f"yolo:{write_yolo(folder, service=False) / 'data.yaml'}",
    "yolo one level down": lambda folder: f"yolo:{write_yolo(folder / 'export').parent}",
    "yolo, all in one folder": lambda folder: f"yolo:{all_in_one_folder(folder)}",
    "darknet": lambda folder: f"yolo:{labels_beside_images(folder)}",
    "voc": lambda folder: f"voc:{write_voc(folder)}",
    "voc, devkit": lambda folder: f"voc:{write_voc(folder / 'VOCdevkit' / 'VOC2012').parents[1]}",
    "voc, xml beside images": lambda folder: f"voc:{xml_beside_images(folder)}",
    "csv": lambda folder: f"csv:{write_csv(folder)}",
    "csv of OpenImages": lambda folder: f"csv:{openimages(folder)}",
    "csv without a head": lambda folder: f"csv:{headerless(folder)}",
    "csv of corner and sides": lambda folder: f"csv:{corner_and_sides(folder)}",
    "path alone": lambda folder: str(write_voc(folder)),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_boxes(write: Callable[[Path], str]) -> None:
    read = read_boxes(write(Path("my data")))
    for split, expected in EXPECTED.items():
        assert [name for name, _ in read[split]] == [name for name, _ in expected]
        for (_, box), (_, wanted) in zip(read[split], expected, strict=True):
            assert box == pytest.approx(wanted, abs=1e-3)


def test_a_training_begins_on_a_yolo_export(nascli: Nascli) -> None:
    write_yolo(Path("export"))
    plan = nascli(f"{DETECT} --dataset yolo:export --dry-run --json")
    assert (plan.json["train_images"], plan.json["train_boxes"]) == (3, 6)


def edited(path: str, old: str, new: str) -> Change:
    """A text in a file of an export replaced."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))

    return change


def without_labels(folder: Path) -> None:
    for split in ("train", "valid"):
        shutil.rmtree(folder / split / "labels")


def zipped(folder: Path) -> None:
    shutil.make_archive("export", "zip", folder)
    shutil.rmtree(folder)
    Path("export.zip").rename(folder)


BOMB = '<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
LABELS, XML = "train/labels/train-0.txt", "Annotations/train_0.xml"
FAULTS: dict[str, tuple[Callable[[Path], Path], Change, str]] = {
    "pixels": (write_yolo, edited(LABELS, "0 0.25", "0 16"), "train-0.txt line 1: 16"),
    "class out of range": (write_yolo, edited(LABELS, "1 0.", "2 0."), "line 2: class 2"),
    "four numbers": (write_yolo, edited(LABELS, "0 0.250000 0.375000", "0 0.375000"), "line 1: 4 numbers"),
    "words": (write_yolo, edited(LABELS, "0 0.25", "cat 0.25"), "is not numbers"),
    "labels that are no text": (
        write_yolo,
        lambda data: (data / LABELS).write_bytes(b"\xff\xd8\0"),
        "not text in UTF-8",
    ),
    "no labels": (write_yolo, without_labels, "none of the 3 images of train has a label file"),
    "tab in YAML": (write_yolo, edited("data.yaml", "nc: 2", "nc:\n\t- 2"), "data.yaml is not YAML"),
    "other YAML": (write_yolo, lambda data: (data / "data.yaml").write_text("a: 1"), "no YOLO data set"),
    "lost folder": (write_yolo, lambda data: shutil.rmtree(data / "valid"), "val is '../valid/images'"),
    "odd names": (write_yolo, edited("data.yaml", "[cat, dog]", "{a: cat}"), "neither a list of names"),
    "archive": (write_yolo, zipped, "unzip"),
    "entities": (write_voc, lambda data: (data / XML).write_text(BOMB), "declares entities"),
    "cut XML": (write_voc, edited(XML, "</annotation>", ""), "train_0.xml"),
    "other XML": (write_voc, lambda data: (data / XML).write_text("<svg/>"), "<svg>, not <annotation>"),
    "no box": (write_voc, edited(XML, "<xmax>24</xmax>", ""), "train_0.xml object 1"),
    "half a row": (write_csv, edited("boxes.csv", "cat,8,6", "cat,,6"), "boxes.csv line 2"),
    "labels": (write_csv, edited("boxes.csv", "xmin,ymin,xmax,ymax", "a,b,c,d"), "classification"),
    "other table": (write_csv, edited("boxes.csv", "filename", "when"), "no table of boxes"),
    "empty table": (write_csv, lambda data: (data / "boxes.csv").write_text(""), "no table of boxes"),
    "no such folder": (write_voc, lambda data: data.rename("elsewhere"), "no such file or folder"),
}


@pytest.mark.parametrize(("write", "change", "phrase"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_place(
    nascli: Nascli, write: Callable[[Path], Path], change: Change, phrase: str
) -> None:
    write(Path("data"))
    change(Path("data"))
    names: dict[Change, str] = {write_yolo: "yolo:data", write_voc: "voc:data", write_csv: "csv:data/boxes.csv"}
    name = names[write]
    if Path("data").is_file():
        Path("data").rename("data.zip")
        name = "yolo:data.zip"
    ran = nascli(f"{DETECT} --dataset {name} --dry-run")
    assert ran.code == 2
    assert phrase in ran.err
    assert "Traceback" not in ran.err


def beside_a_label(folder: Path) -> None:
    (folder / "train" / "labels" / "gone.txt").write_text("0 .5 .5 .1 .1\n")
    (folder / "train" / "labels" / "._train-0.txt").write_bytes(b"\0\5\26\7")


def outlined(folder: Path) -> None:
    text = "0 0.125 0.125 0.375 0.125 0.375 0.625 0.125 0.625\n1 0.5 0.25 0.875 0.25 0.875 0.8 0.5 0.8\n"
    (folder / "train" / "labels" / "train-0.txt").write_text(text)


REMARKS: dict[str, tuple[Callable[[Path], Path], Change, str, int]] = {
    "label file without image": (write_yolo, beside_a_label, "yolo:data", 1),
    "outline in place of a box": (write_yolo, outlined, "yolo:data", 2),
    "image without boxes": (write_yolo, lambda d: (d / "train/labels/train-0.txt").unlink(), "yolo:data", 1),
    "object marked difficult": (
        write_voc,
        edited("Annotations/train_0.xml", "difficult>0", "difficult>1"),
        "voc:data",
        2,
    ),
    "image without an XML file": (
        write_voc,
        lambda d: shutil.copy(d / "JPEGImages/train_0.jpg", d / "JPEGImages/more.jpg"),
        "voc:data",
        2,
    ),
    "image size not given": (
        write_voc,
        edited("Annotations/train_0.xml", "<width>64</width>", "<width>0</width>"),
        "voc:data",
        1,
    ),
    "box empty or inverted": (write_csv, edited("boxes.csv", "cat,8,6,24,30", "cat,24,30,8,6"), "csv:data", 3),
}


@pytest.mark.parametrize("kind", REMARKS)
def test_what_is_used_otherwise_is_counted(nascli: Nascli, kind: str) -> None:
    write, change, name, count = REMARKS[kind]
    write(Path("data"))
    change(Path("data"))
    checked = nascli(f"detect check --dataset {name} --json")
    assert checked.code == 0, checked.err
    assert issues(checked.json)[kind] == count


def test_names_that_yaml_takes_for_other_things_stay_as_they_are_written() -> None:
    write_yolo(Path("data"), names=("no", "2024-01-31"))
    assert [name for name, _ in read_boxes("yolo:data")["train"]][:2] == ["no", "2024-01-31"]


def test_a_byte_order_mark_and_other_line_ends_change_nothing() -> None:
    write_yolo(Path("data"))
    for file in (*Path("data").glob("*/labels/*.txt"), Path("data/data.yaml")):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [name for name, _ in read_boxes("yolo:data")["train"]] == [name for name, _ in EXPECTED["train"]]


def test_voc_in_a_namespace_with_a_document_type() -> None:
    write_voc(Path("data"))
    for file in Path("data/Annotations").iterdir():
        text = file.read_text().replace("<annotation>", '<annotation xmlns="urn:example:boxes">')
        file.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE annotation>\n{text}')
    assert read_boxes("voc:data")["train"] == EXPECTED["train"]


OTHERS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "yaml as COCO": (write_yolo, "coco:data/data.yaml", "yolo:data/data.yaml"),
    "YOLO folder as COCO": (write_yolo, "coco:data", "yolo:data"),
    "VOC as YOLO": (write_voc, "yolo:data", "voc:data"),
    "CSV as COCO": (write_csv, "coco:data/boxes.csv", "csv:data/boxes.csv"),
    "COCO as VOC": (write_coco, "voc:data", "coco:data"),
}


@pytest.mark.parametrize(("write", "given", "right"), OTHERS.values(), ids=OTHERS)
def test_data_of_another_format_are_named(
    nascli: Nascli, write: Callable[[Path], Path], given: str, right: str
) -> None:
    write(Path("data"))
    ran = nascli(f"detect check --dataset {given}")
    assert ran.code == 2
    assert "it looks like" in ran.err
    assert f"Give {right}" in ran.err


def test_a_json_file_is_read_as_no_other_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """COCO's files have hundreds of megabytes: to look into them as a table takes minutes and all memory."""
    write_coco(Path("data"))

    def refuse(path: Path) -> NoReturn:
        raise AssertionError(f"{path} was read")

    for name in ("yolo", "voc", "csv"):
        monkeypatch.setitem(recognize.FORMATS, name, refuse)
    assert recognize.recognize_format(Path("data/annotations/instances_train2017.json")) == "coco"
    assert list(recognize.find_splits("coco", Path("data/annotations/instances_train2017.json")))
