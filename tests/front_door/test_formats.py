"""YOLO, Pascal VOC and tables of boxes: as their tools write them, and as people do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli
from tests.front_door.exports import BOXES, COUNTS, NAMES, SIZE, write_csv, write_voc, write_yolo
from tests.front_door.made import DETECT

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


FORMATS: dict[str, Callable[[Path], str]] = {
    "yolo of a web service": lambda folder: f"yolo:{write_yolo(folder)}",
    "yolo as usual": lambda folder: f"yolo:{write_yolo(folder, service=False) / 'data.yaml'}",
    "yolo one level down": lambda folder: f"yolo:{write_yolo(folder / 'export').parent}",
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
